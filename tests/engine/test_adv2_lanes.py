"""A connector that is moved to a thread though it never said that it may be."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Policy
from orchestrator._clock import SystemClock
from orchestrator._config import Config
from tests.engine.kit import DONE, RUNNING, Script, a_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

pytestmark = pytest.mark.may_block


class _Session:
    """A client of its loop, as aiohttp's session or a pool of connections is."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self._pump = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            (await self._queue.get()).set_result(None)

    async def request(self) -> None:
        answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(answer)
        await asyncio.wait_for(answer, 5)


async def test_a_connector_with_a_client_of_the_loop_survives_three_slow_turns(
    engine: Start,
) -> None:
    """Slow for 150 ms three times: no reason for its create never to be answered."""
    session: _Session | None = None
    turns = 0

    async def get(**_: Any) -> Any:
        nonlocal turns, session
        session = session or _Session()
        await session.request()
        turns += 1
        if turns <= 3:
            threading.Event().wait(0.15)  # a large answer is parsed
        return DONE if turns >= 6 else RUNNING

    policy = Policy(
        jitter=0.0,
        poll_delay_min=timedelta(milliseconds=20),
        poll_delay_max=timedelta(milliseconds=50),
    )
    script = Script(get=get, policy=policy)
    orchestrator = await engine(script, clock=SystemClock(), config=Config())
    handle = await orchestrator.submit(a_task())
    ended = await handle.wait(timeout=8)
    assert ended.phase == "SUCCEEDED"
