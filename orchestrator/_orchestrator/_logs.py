"""A job's logs, in both shapes that Flyte's ``get_logs`` may have, and its metrics."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from orchestrator._connector import implements
from orchestrator._engine import clean
from orchestrator._registry import accepted
from orchestrator.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        GetTaskMetricsResponse,
    )

    from orchestrator._engine._contexts import Context
    from orchestrator._records import Execution
    from orchestrator._secrets import Redactor, Secrets

_PAGES_MAX = 10_000


def text(words: str) -> str:
    """Return a user's words, harmless for rows and terminals."""
    return clean(words)


async def lines(
    execution: Execution, context: Context, redactor: Redactor, sources: Secrets
) -> AsyncIterator[str]:
    """Yield every line of every page, secrets redacted, without control sequences."""
    connector = context.connector
    shared = await _arguments(execution, context, redactor, sources, "get_logs")
    token = ""
    for _ in range(_PAGES_MAX):
        following = ""
        kwargs = {**shared, "token": token}
        answer = connector.get_logs(**accepted(connector.get_logs, kwargs))
        async for page in _pages(answer):
            following = page.header.token or following
            texts = [line.message for line in page.body.lines]
            for words in [*texts, *page.body.results]:
                yield clean(redactor.redact(words))
        if not following or following == token:
            return
        token = following


async def metrics(
    execution: Execution, context: Context, redactor: Redactor, sources: Secrets
) -> GetTaskMetricsResponse:
    """Return what the connector's ``get_metrics`` says."""
    connector = context.connector
    shared = await _arguments(execution, context, redactor, sources, "get_metrics")
    return await connector.get_metrics(**accepted(connector.get_metrics, shared))


async def _arguments(
    execution: Execution,
    context: Context,
    redactor: Redactor,
    sources: Secrets,
    member: str,
) -> dict[str, Any]:
    """Return the keyword arguments of an optional *member*, if it can be called."""
    connector = context.connector
    if execution.resource_meta is None:
        raise InvalidInputError("execution_id", f"{execution.id} has no job yet")
    if not implements(connector, member):
        problem = f"{type(connector).__qualname__} has no {member}"
        raise InvalidInputError("execution_id", problem)
    secrets = await sources.resolve(context.references)
    redactor.register(secrets)
    meta = connector.metadata_type.decode(execution.resource_meta)
    return {**secrets, "resource_meta": meta}


async def _pages(answer: Any) -> AsyncIterator[GetTaskLogsResponse]:
    if not inspect.isasyncgen(answer):
        only: GetTaskLogsResponse = await answer
        yield only
        return
    pages = cast("AsyncIterator[GetTaskLogsResponse]", answer)
    async for page in pages:
        yield page
