"""A job's logs, in both shapes that Flyte's ``get_logs`` may have, and its metrics."""

from __future__ import annotations

import inspect
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator._connector import implements
from orchestrator._engine import clean
from orchestrator._registry import accepted
from orchestrator._secrets import redacting
from orchestrator.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        GetTaskMetricsResponse,
    )

    from orchestrator._engine import Engine
    from orchestrator._engine._contexts import Context
    from orchestrator._records import Execution

_PAGES_MAX = 10_000


def text(words: str) -> str:
    """Return a user's words, harmless for rows and terminals."""
    return clean(words)


async def lines(
    execution: Execution, context: Context, engine: Engine
) -> AsyncIterator[str]:
    """Yield every line of every page, secrets redacted, without control sequences."""
    token = ""
    for _ in range(_PAGES_MAX):
        following = ""
        async with aclosing(pages(execution, context, engine, token)) as answer:
            async for page in answer:
                following = page.header.token or following
                for line in page.body.lines:
                    yield line.message
                for words in page.body.results:
                    yield words
        if not following or following == token:
            return
        token = following


async def pages(
    execution: Execution, context: Context, engine: Engine, token: str = ""
) -> AsyncGenerator[GetTaskLogsResponse]:
    """Yield what ``get_logs`` gives for *token*, its words as `lines` shows them.

    The connector is asked where it runs, for each page: in its thread, if it has one.
    """
    shared = await _arguments(execution, context, engine, "get_logs")
    kwargs = accepted(context.connector.get_logs, {**shared, "token": token})
    async with aclosing(_pages(context, engine, kwargs)) as answer:
        async for given in answer:
            page = type(given)()
            page.CopyFrom(given)
            for line in page.body.lines:
                line.message = _shown(engine, line.message)
            for number, words in enumerate(page.body.results):
                page.body.results[number] = _shown(engine, words)
            yield page


def _shown(engine: Engine, words: str) -> str:
    """Return a line of a log; what cleaning has joined may be a secret only then."""
    redact = engine.redactor.redact
    return redact(clean(redact(words)))


async def metrics(
    execution: Execution, context: Context, engine: Engine
) -> GetTaskMetricsResponse:
    """Return what the connector's ``get_metrics`` says."""
    method = context.connector.get_metrics
    shared = await _arguments(execution, context, engine, "get_metrics")
    run, kwargs = engine.calls.lanes.run, accepted(method, shared)
    with _shown(engine):
        said: GetTaskMetricsResponse = await run(context.connector, method, kwargs)
    return said


@contextmanager
def _shown(engine: Engine) -> Iterator[None]:
    """Redact what the block logs, and the texts of the error that it ends with."""
    with redacting(engine.redactor):
        try:
            yield
        except Exception as error:
            error.args = tuple(
                engine.redactor.redact(arg) if isinstance(arg, str) else arg
                for arg in error.args
            )
            raise


async def _arguments(
    execution: Execution, context: Context, engine: Engine, member: str
) -> dict[str, Any]:
    """Return the keyword arguments of an optional *member*, if it can be called."""
    connector = context.connector
    if execution.resource_meta is None:
        raise InvalidInputError("execution_id", f"{execution.id} has no job yet")
    if not implements(connector, member):
        problem = f"{type(connector).__qualname__} has no {member}"
        raise InvalidInputError("execution_id", problem)
    secrets = await engine.secrets.resolve(context.references)
    engine.redactor.register(secrets)
    meta = connector.metadata_type.decode(execution.resource_meta)
    return {**secrets, "resource_meta": meta}


async def _pages(
    context: Context, engine: Engine, kwargs: dict[str, Any]
) -> AsyncGenerator[GetTaskLogsResponse]:
    """Yield the pages of one ``get_logs``: several of a generator, else one."""
    connector, run = context.connector, engine.calls.lanes.run

    async def get_logs() -> Any:
        answer: Any = connector.get_logs(**kwargs)
        return answer if inspect.isasyncgen(answer) else await answer

    with _shown(engine):
        first: Any = await run(connector, get_logs, {})
    if not inspect.isasyncgen(first):
        yield first
        return

    async def get_logs_page() -> Any:
        return await anext(first, None)

    try:
        while True:
            with _shown(engine):
                page = await run(connector, get_logs_page, {})
            if page is None:
                return
            yield page
    finally:
        await run(connector, first.aclose, {})
