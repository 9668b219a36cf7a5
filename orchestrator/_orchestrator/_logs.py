"""A job's logs, in both shapes that Flyte's ``get_logs`` may have, and its metrics."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from orchestrator._connector import implements
from orchestrator._engine import clean
from orchestrator._registry import accepted
from orchestrator._secrets import resolve
from orchestrator.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        GetTaskMetricsResponse,
    )

    from orchestrator._engine._contexts import Context
    from orchestrator._records import Execution
    from orchestrator._secrets import Redactor

_PAGES_MAX = 10_000


def text(words: str) -> str:
    """Return a user's words, harmless for rows and terminals."""
    return clean(words)


async def lines(
    execution: Execution, context: Context, redactor: Redactor
) -> AsyncIterator[str]:
    """Yield every line of every page, secrets redacted, without control sequences."""
    token = ""
    for _ in range(_PAGES_MAX):
        following = ""
        async for page in pages(execution, context, redactor, token):
            following = page.header.token or following
            for line in page.body.lines:
                yield line.message
            for words in page.body.results:
                yield words
        if not following or following == token:
            return
        token = following


async def pages(
    execution: Execution, context: Context, redactor: Redactor, token: str = ""
) -> AsyncIterator[GetTaskLogsResponse]:
    """Yield what ``get_logs`` gives for *token*, its words as `lines` shows them."""
    connector = context.connector
    shared = _arguments(execution, context, redactor, "get_logs")
    kwargs = {**shared, "token": token}
    answer = connector.get_logs(**accepted(connector.get_logs, kwargs))
    async for given in _pages(answer):
        page = type(given)()
        page.CopyFrom(given)
        for line in page.body.lines:
            line.message = clean(redactor.redact(line.message))
        for number, words in enumerate(page.body.results):
            page.body.results[number] = clean(redactor.redact(words))
        yield page


async def metrics(
    execution: Execution, context: Context, redactor: Redactor
) -> GetTaskMetricsResponse:
    """Return what the connector's ``get_metrics`` says."""
    connector = context.connector
    shared = _arguments(execution, context, redactor, "get_metrics")
    return await connector.get_metrics(**accepted(connector.get_metrics, shared))


def _arguments(
    execution: Execution, context: Context, redactor: Redactor, member: str
) -> dict[str, Any]:
    """Return the keyword arguments of an optional *member*, if it can be called."""
    connector = context.connector
    if execution.resource_meta is None:
        raise InvalidInputError("execution_id", f"{execution.id} has no job yet")
    if not implements(connector, member):
        problem = f"{type(connector).__qualname__} has no {member}"
        raise InvalidInputError("execution_id", problem)
    secrets = resolve(context.references)
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
