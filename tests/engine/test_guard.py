"""Creates that answer, time out and lose their step in one turn of the loop.

What a ``create`` has returned is in the ledger, whichever of them comes first.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._config import Policy
from tests.engine.kit import DEADLINE_S, Gate, Meta, Script, a_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator
    from tests.engine.kit import Clock

    Start = Callable[..., Awaitable[Orchestrator]]

TURNS = range(8)
POLICY = Policy(
    jitter=0.0,
    create_timeout=timedelta(seconds=10),
    create_hard_timeout=timedelta(seconds=60),
)


class _Create:
    """A create that waits for the test, and tells how it ended."""

    def __init__(self) -> None:
        self.gate = Gate(Meta("late"))
        self.ended = asyncio.Event()
        self.returned = False

    def script(self, clock: Clock) -> Script:
        wait = self.gate.answer()

        async def create(**given: Any) -> Any:
            try:
                meta = await wait(**given)
                self.returned = True
            finally:
                self.ended.set()
            return meta

        return Script(clock=clock, create=create, policy=POLICY)

    async def in_ledger(self, orchestrator: Orchestrator, execution_id: str) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            await self.ended.wait()
            for late in _late(orchestrator):
                await asyncio.wait([late])
            assert not _late(orchestrator)
        jobs = await orchestrator.jobs(execution_id)
        return [job.job_key for job in jobs] == ["late"]


def _late(orchestrator: Orchestrator) -> list[asyncio.Task[None]]:
    detached = orchestrator._engine.calls._late._detached
    return [task for tasks in detached.values() for task in tasks]


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", TURNS)
async def test_an_answer_in_the_turn_of_the_hard_timeout_is_recorded(
    engine: Start, clock: Clock, turns: int
) -> None:
    create = _Create()
    orchestrator = await engine(create.script(clock))
    handle = await orchestrator.submit(a_task())
    await create.gate.wait()
    clock.advance(10)
    await clock.settle(orchestrator)
    assert (await orchestrator.get(handle.id)).phase == "CREATE_UNKNOWN"
    create.gate.opened.set()
    await _turns(turns)
    clock.advance(50)
    assert await create.in_ledger(orchestrator, handle.id) == create.returned
    assert create.returned or turns < 3


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("first", ["answer", "timeout"])
async def test_an_answer_in_the_turn_of_its_steps_end_is_recorded(
    engine: Start, clock: Clock, first: str, turns: int
) -> None:
    """And a create that timed out then is ended, or answers late."""
    create = _Create()
    orchestrator = await engine(create.script(clock), start=False)
    handle = await orchestrator.submit(a_task())
    tick = asyncio.create_task(orchestrator.tick())
    await create.gate.wait()
    if first == "answer":
        create.gate.opened.set()
    else:
        clock.advance(10)
    await _turns(turns)
    tick.cancel()
    await asyncio.wait([tick])
    create.gate.opened.set()
    recorded = await create.in_ledger(orchestrator, handle.id)
    assert recorded == create.returned
