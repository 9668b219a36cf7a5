"""A thread that is blocked by something else than a call."""

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


async def test_a_callback_that_blocks_its_thread_is_left_behind_too(
    engine: Start,
) -> None:
    """What a client's own task or callback does: its loop does not turn either."""
    over = threading.Event()
    calls = 0

    async def get(**_: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            asyncio.get_running_loop().call_soon(over.wait, 60)
            return RUNNING
        return DONE

    policy = Policy(
        jitter=0.0,
        get_timeout=timedelta(milliseconds=300),
        poll_delay_min=timedelta(milliseconds=20),
        poll_delay_max=timedelta(milliseconds=50),
        error_delay_min=timedelta(milliseconds=50),
        error_delay_max=timedelta(milliseconds=100),
    )
    script = Script(get=get, policy=policy, runs_in="thread")
    orchestrator = await engine(script, clock=SystemClock(), config=Config())
    handle = await orchestrator.submit(a_task())
    try:
        ended = await handle.wait(timeout=6)
        assert ended.phase == "SUCCEEDED"
    finally:
        over.set()
