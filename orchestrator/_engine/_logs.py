"""A job's logs, in both shapes that Flyte's ``get_logs`` may have, and its metrics.

Secrets are replaced in all that is read. Each page, and the metrics, have to come
within the time limit of a ``get``; a page that does not ends its generator.
"""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from orchestrator._policies import policy_of
from orchestrator._registry import accepted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        GetTaskMetricsResponse,
    )
    from google.protobuf.struct_pb2 import Struct, Value

    from orchestrator._connector import AsyncConnector
    from orchestrator._engine._caller import Caller


async def pages(
    caller: Caller,
    connector: AsyncConnector[Any],
    meta: Any,
    token: str,
    secrets: Mapping[str, str],
) -> AsyncGenerator[GetTaskLogsResponse]:
    """Yield what ``get_logs`` gives for *token*.

    Raises:
        CallTimeoutError: A page did not come in time.
        Exception: Whatever the connector raises, as it is: secrets are not replaced.
    """
    kwargs = {**secrets, "resource_meta": meta, "token": token}
    given = _pages(
        connector,
        accepted(connector.get_logs, kwargs),
        _Asking(caller, connector, secrets),
    )
    async with aclosing(given) as answer:
        async for theirs in answer:
            page = type(theirs)()
            page.CopyFrom(theirs)
            for line in page.body.lines:
                line.message = caller.line(line.message)
            for number, words in enumerate(page.body.results):
                page.body.results[number] = caller.line(words)
            yield page


async def metrics(
    caller: Caller,
    connector: AsyncConnector[Any],
    meta: Any,
    secrets: Mapping[str, str],
) -> GetTaskMetricsResponse:
    """Return what ``get_metrics`` says, secrets replaced in strings.

    Raises:
        CallTimeoutError: It did not come in time.
        Exception: Whatever the connector raises, as it is: secrets are not replaced.
    """
    ask = _Asking(caller, connector, secrets)
    method = connector.get_metrics
    given = await ask(method, accepted(method, {**secrets, "resource_meta": meta}))
    said: GetTaskMetricsResponse = type(given)()
    said.CopyFrom(given)
    redact = caller.redactor.redact
    for result in said.results:
        result.metric = redact(result.metric)
        _hide(result.data, redact)
    return said


class _Asking:
    """Calls of one connector that have to answer as quickly as a ``get``."""

    def __init__(
        self,
        caller: Caller,
        connector: AsyncConnector[Any],
        secrets: Mapping[str, str],
    ) -> None:
        self._caller, self._connector, self._secrets = caller, connector, secrets
        self._limit = policy_of(connector).get_timeout

    async def __call__(
        self, method: Callable[..., Awaitable[Any]], kwargs: dict[str, Any]
    ) -> Any:
        return await self._caller.ask(
            self._connector, method, kwargs, self._limit, secrets=self._secrets
        )


async def _pages(
    connector: AsyncConnector[Any], kwargs: dict[str, Any], ask: _Asking
) -> AsyncGenerator[GetTaskLogsResponse]:
    """Yield the pages of one ``get_logs``: several of a generator, else one."""

    async def get_logs() -> Any:
        answer: Any = connector.get_logs(**kwargs)
        return answer if inspect.isasyncgen(answer) else await answer

    first: Any = await ask(get_logs, {})
    if not inspect.isasyncgen(first):
        yield first
        return

    async def get_logs_page() -> Any:
        return await anext(first, None)

    try:
        while (page := await ask(get_logs_page, {})) is not None:
            yield page
    except GeneratorExit:
        # Whoever reads has enough. What is raised or cut off has ended it already.
        await ask(first.aclose, {})
        raise


def _hide(struct: Struct, redact: Callable[[str], str]) -> None:
    for key in list(struct.fields):
        _hide_in(struct.fields[key], redact)
        if (shown := redact(key)) != key:
            struct.fields[shown].CopyFrom(struct.fields[key])
            del struct.fields[key]


def _hide_in(value: Value, redact: Callable[[str], str]) -> None:
    match value.WhichOneof("kind"):
        case "string_value":
            value.string_value = redact(value.string_value)
        case "struct_value":
            _hide(value.struct_value, redact)
        case "list_value":
            for each in value.list_value.values:
                _hide_in(each, redact)
