"""Logs and metrics that do not come: who asks is told so, and nothing is left."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
    GetTaskMetricsResponse,
)

from orchestrator import Config, Policy
from orchestrator._clock import SystemClock
from orchestrator.errors import CallTimeoutError
from tests.engine.kit import DEADLINE_S, Clock, Script, a_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block


class Talks(Script):
    """It gives two pages, the third never, and no metrics."""

    policy = Policy(
        poll_delay_min=timedelta(milliseconds=10),
        get_timeout=timedelta(milliseconds=200),
    )

    def __init__(self, **answers: Any) -> None:
        super().__init__(**answers)
        self.ended: list[str] = []

    async def get_logs(
        self, resource_meta: Any, **_: Any
    ) -> AsyncIterator[GetTaskLogsResponse]:
        try:
            for words in ("one", "two"):
                body = GetTaskLogsResponseBody(results=[words])
                yield GetTaskLogsResponse(body=body)
            await asyncio.Event().wait()
        finally:
            self.ended.append("logs")

    async def get_metrics(self, resource_meta: Any, **_: Any) -> GetTaskMetricsResponse:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append("metrics")
        return GetTaskMetricsResponse()


@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_logs_and_metrics_have_the_time_of_a_get(
    engine: Start, where: str
) -> None:
    """For each page; the pages that came are read. Red without a limit: it hangs."""
    script = Talks(runs_in=where)
    orchestrator = await engine(script, clock=SystemClock(), config=Config())
    handle = await orchestrator.submit(a_task())
    await handle.wait(timeout=DEADLINE_S)
    read: list[str] = []

    async def logs() -> None:
        async for line in orchestrator.logs(handle.id):
            read.append(line)  # noqa: PERF401 - it ends with an error

    with pytest.raises(CallTimeoutError, match=r"did not answer within 0\.2 s"):
        await logs()
    with pytest.raises(CallTimeoutError, match="get_metrics did not answer"):
        await orchestrator.metrics(handle.id)
    assert read == ["one", "two"]
    await orchestrator.close()
    assert script.ended == ["logs", "metrics"]


async def test_who_has_read_enough_ends_the_connectors_generator(
    engine: Start, clock: Clock
) -> None:
    """Where the connector runs, and at once."""
    script = Talks()
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, handle.id)
    pages = orchestrator.log_pages(handle.id)
    page = await anext(pages)
    assert page.body.results == ["one"]
    await pages.aclose()
    assert script.ended == ["logs"]
