"""A job's logs, in both shapes that Flyte's ``get_logs`` may have, and its metrics."""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from orchestrator._connector import implements
from orchestrator._engine import clean
from orchestrator._engine._text import describe
from orchestrator._registry import accepted
from orchestrator._secrets import redacting
from orchestrator.errors import (
    AuthError,
    ConnectorError,
    InvalidInputError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        GetTaskMetricsResponse,
    )
    from google.protobuf.struct_pb2 import Struct, Value

    from orchestrator._engine import Engine
    from orchestrator._engine._contexts import Context
    from orchestrator._records import Execution

_PAGES_MAX = 10_000
_STEERING = (
    ThrottledError,
    TransientError,
    AuthError,
    ResourceGoneError,
    PermanentError,
)


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
                line.message = _line(engine, line.message)
            for number, words in enumerate(page.body.results):
                page.body.results[number] = _line(engine, words)
            yield page


def _line(engine: Engine, words: str) -> str:
    """Return a line of a log; what cleaning has joined may be a secret only then."""
    redact = engine.redactor.redact
    return redact(clean(redact(words)))


async def metrics(
    execution: Execution, context: Context, engine: Engine
) -> GetTaskMetricsResponse:
    """Return what the connector's ``get_metrics`` says, secrets redacted in strings."""
    method = context.connector.get_metrics
    shared = await _arguments(execution, context, engine, "get_metrics")
    given = await _asked(context, engine, method, accepted(method, shared))
    said: GetTaskMetricsResponse = type(given)()
    said.CopyFrom(given)
    redact = engine.redactor.redact
    for result in said.results:
        result.metric = redact(result.metric)
        _hide(result.data, redact)
    return said


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
    connector = context.connector

    async def get_logs() -> Any:
        answer: Any = connector.get_logs(**kwargs)
        return answer if inspect.isasyncgen(answer) else await answer

    first: Any = await _asked(context, engine, get_logs, {})
    if not inspect.isasyncgen(first):
        yield first
        return

    async def get_logs_page() -> Any:
        return await anext(first, None)

    try:
        while (page := await _asked(context, engine, get_logs_page, {})) is not None:
            yield page
    finally:
        await _asked(context, engine, first.aclose, {})


async def _asked(
    context: Context, engine: Engine, method: Callable[..., Any], kwargs: dict[str, Any]
) -> Any:
    """Call *method* where the connector runs.

    Raises:
        ConnectorError: What it raises, secrets redacted; what steers the engine, and
            NotImplementedError, keep their class.
    """
    try:
        with redacting(engine.redactor):
            return await engine.calls.lanes.run(context.connector, method, kwargs)
    except Exception as error:  # noqa: BLE001 - whatever a connector raises
        problem = _problem(error, engine)
    # Raised out here: the error itself, which may quote a secret, is no context of it.
    raise problem


def _problem(error: Exception, engine: Engine) -> Exception:
    """Return *error* as it may be shown."""
    described = describe(error)
    bare = engine.calls.say(described.removeprefix(f"{type(error).__name__}: "))
    if isinstance(error, NotImplementedError):
        return NotImplementedError(bare)
    for kind in _STEERING:
        if isinstance(error, kind):
            shown = kind(bare)
            if isinstance(shown, TransientError):
                shown.retry_after = getattr(error, "retry_after", None)
            return shown
    return ConnectorError(engine.calls.say(described))
