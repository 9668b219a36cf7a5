"""Logs and metrics of an execution's job, and errors of theirs that may be shown."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from orchestrator import _engine as told
from orchestrator._connector import implements
from orchestrator._engine import describe
from orchestrator._records import STEERING
from orchestrator.errors import (
    CallTimeoutError,
    ConnectorError,
    InvalidInputError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        GetTaskMetricsResponse,
    )

    from orchestrator._engine import Engine
    from orchestrator._engine._contexts import Context
    from orchestrator._records import Execution

_PAGES_MAX = 10_000
_KEPT = (*(kind for kind, _ in STEERING), CallTimeoutError, NotImplementedError)
"""Errors that keep their class, the narrow before the broad."""


async def lines(
    execution: Execution, context: Context, engine: Engine
) -> AsyncGenerator[str]:
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

    Raises:
        ConnectorError: What the connector raises, fit to be shown.
    """
    meta, secrets = await _arguments(execution, context, engine, "get_logs")
    given = told.pages(engine.caller, context.connector, meta, token, secrets)
    try:
        async with aclosing(given) as answer:
            async for page in answer:
                yield page
    except Exception as error:  # noqa: BLE001 - whatever a connector raises
        problem = _problem(error, engine)
    else:
        return
    # Raised out here: the error itself, which may quote a secret, is no context of it.
    raise problem


async def metrics(
    execution: Execution, context: Context, engine: Engine
) -> GetTaskMetricsResponse:
    """Return what the connector's ``get_metrics`` says, secrets redacted in strings.

    Raises:
        ConnectorError: What the connector raises, fit to be shown.
    """
    meta, secrets = await _arguments(execution, context, engine, "get_metrics")
    try:
        return await told.metrics(engine.caller, context.connector, meta, secrets)
    except Exception as error:  # noqa: BLE001 - whatever a connector raises
        problem = _problem(error, engine)
    raise problem


async def _arguments(
    execution: Execution, context: Context, engine: Engine, member: str
) -> tuple[Any, dict[str, str]]:
    """Return the job's meta and the secrets, if an optional *member* can be called."""
    connector = context.connector
    if execution.resource_meta is None:
        raise InvalidInputError("execution_id", f"{execution.id} has no job yet")
    if not implements(connector, member):
        problem = f"{type(connector).__qualname__} has no {member}"
        raise InvalidInputError("execution_id", problem)
    secrets = await engine.caller.secrets(context.references)
    return connector.metadata_type.decode(execution.resource_meta), secrets


def _problem(error: Exception, engine: Engine) -> Exception:
    """Return *error* as it may be shown: what steers the engine keeps its class."""
    described, say = describe(error), engine.caller.say
    for kind in _KEPT:
        if isinstance(error, kind):
            shown: Exception = kind(
                say(described.removeprefix(f"{type(error).__name__}: "))
            )
            if isinstance(shown, TransientError):
                shown.retry_after = getattr(error, "retry_after", None)
            return shown
    return ConnectorError(say(described))
