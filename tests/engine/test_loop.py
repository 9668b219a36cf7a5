"""What wakes the scheduler, and how often it wakes for nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Config, Orchestrator, Policy
from orchestrator._clock import SystemClock, to_datetime
from tests.engine.kit import (
    DEADLINE_S,
    DONE,
    RUNNING,
    Clock,
    Gate,
    Script,
    a_task,
    causes,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from blockbuster import BlockBuster

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

HOUR_S = 3600


async def test_a_submit_is_claimed_without_any_timer(
    engine: Start, clock: Clock
) -> None:
    """The clock stands still, so that nothing but the submit can have woken."""
    script = Script()
    orchestrator = await engine(script)
    await clock.settle(orchestrator)
    await orchestrator.submit(a_task())
    await script.called("create")
    assert clock.monotonic() == 0


async def test_a_submit_is_finished_without_any_timer_if_polls_need_none(
    engine: Start, clock: Clock
) -> None:
    """With no delay between polls the whole life needs no timer."""
    policy = Policy(poll_delay_min=timedelta(0), poll_delay_max=timedelta(0))
    orchestrator = await engine(Script(policy=policy))
    await clock.settle(orchestrator)
    handle = await orchestrator.submit(a_task())
    async with asyncio.timeout(DEADLINE_S):
        assert await handle.result() == "good"
    assert clock.monotonic() == 0


async def test_rows_of_a_node_that_went_silent_are_taken_over_at_once(
    engine: Start, clock: Clock
) -> None:
    """The heartbeat that breaks its lease wakes the scheduler, which is idle."""
    config = Config(
        lease=timedelta(seconds=20),
        heartbeat=timedelta(seconds=5),
        idle=timedelta(hours=1),
        watch=timedelta(hours=1),
    )
    gate = Gate()
    script = Script(create=gate.answer(), create_is_idempotent=True)
    silent = await engine(script, config=config, start=False)
    await silent.submit(a_task())
    ticking = asyncio.create_task(silent.tick())
    await gate.wait()
    script = Script(create_is_idempotent=True)
    other = await engine(script, config=config)
    for _ in range(5):
        await clock.settle(other)
        clock.advance(5)
    await script.called("create")
    assert clock.monotonic() == 25
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)


async def test_an_abort_is_acted_on_without_any_timer(
    engine: Start, clock: Clock
) -> None:
    """A wish wakes the row and the scheduler, though its poll is far away."""
    script = Script(get=RUNNING, delete_is_final=True)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    await handle.abort("enough")
    async with asyncio.timeout(DEADLINE_S):
        execution = await handle.wait()
    assert (execution.phase, execution.error_message) == ("ABORTED", "enough")
    assert script.number("delete") == 1
    assert clock.monotonic() == 0


async def test_polls_back_off_exponentially(engine: Start, clock: Clock) -> None:
    """1, 1.5, 2.25 ... seconds up to the longest delay, from news to news."""
    policy = Policy(
        poll_delay_min=timedelta(seconds=1),
        poll_delay_max=timedelta(seconds=4),
        poll_factor=2.0,
        jitter=0.0,
    )
    script = Script(clock=clock, policy=policy, get=[RUNNING] * 6 + [DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, handle.id)
    gets = [at for name, at in script.times if name == "get"]
    # The first answer is news (the phase was unknown), so the second delay is short.
    assert gets == [1, 2, 4, 8, 12, 16, 20]


async def test_a_quiet_hour_costs_only_what_the_settings_say(
    engine: Start, clock: Clock
) -> None:
    """Ticks by ``idle``, questions to the database by ``watch``, and nothing else."""
    config = Config(
        idle=timedelta(seconds=60),
        watch=timedelta(seconds=20),
        lease=timedelta(minutes=10),
        heartbeat=timedelta(minutes=3),
    )
    orchestrator = await engine(Script(), config=config)
    await clock.settle(orchestrator)
    scheduler = orchestrator.scheduler
    ticks, probes = scheduler.ticks, scheduler.probes
    commits = orchestrator._engine.store.writer.commits
    await clock.pass_(HOUR_S, orchestrator)
    assert 50 <= scheduler.ticks - ticks <= 62
    assert 170 <= scheduler.probes - probes <= 182
    # Each tick claims, each heartbeat renews.
    written = orchestrator._engine.store.writer.commits - commits
    assert written <= 2 * 62 + 2 * 20


async def test_a_live_row_far_from_due_wakes_nobody(
    engine: Start, clock: Clock
) -> None:
    """One start in two hours: the scheduler sleeps by its idle limit until then."""
    config = Config(idle=timedelta(hours=4), watch=timedelta(hours=4))
    script = Script()
    orchestrator = await engine(script, config=config)
    await clock.settle(orchestrator)
    start_at = to_datetime(clock.now_us() + 2 * HOUR_S * 10**6)
    handle = await orchestrator.submit(a_task(), start_at=start_at)
    await clock.settle(orchestrator)
    ticks = orchestrator.scheduler.ticks
    await clock.pass_(2 * HOUR_S - 1, orchestrator)
    assert orchestrator.scheduler.ticks == ticks
    assert (await handle.get()).waiting_on == "START_TIME"
    await clock.pass_(1, orchestrator)
    await script.called("create")


async def test_start_time_is_waited_for_and_named(engine: Start, clock: Clock) -> None:
    """Nothing is created before it."""
    script = Script(clock=clock)
    orchestrator = await engine(script)
    start_at = to_datetime(clock.now_us() + 90 * 10**6)
    handle = await orchestrator.submit(a_task(), start_at=start_at)
    await clock.until_ended(orchestrator, handle.id)
    assert script.times[0] == ("create", 90.0)


OUTSIDE = """
import asyncio, sys
from orchestrator import Orchestrator
from tests.engine.kit import Script, a_task, registry_of

async def main():
    registry = registry_of(Script())
    async with Orchestrator(sys.argv[1], registry=registry, start=False) as outside:
        handle = await outside.submit(a_task())
        print(handle.id, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await handle.abort("from outside")

asyncio.run(main())
"""


class Recorder(SystemClock):
    """The system's clock, which never lets the scheduler's own timer end."""

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for the wake-up alone."""
        return await event.wait()


async def test_another_process_is_seen_through_data_version(
    engine: Start, path: Path
) -> None:
    """The scheduler's own timer never ends here: only the watch can wake it."""
    script = Script(get=RUNNING, delete_is_final=True)
    config = Config(idle=timedelta(hours=1))
    orchestrator = await engine(script, clock=Recorder(), config=config)
    outside = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OUTSIDE, str(path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert outside.stdout is not None
    execution_id = (await outside.stdout.readline()).decode().strip()
    await script.called("create")
    waiting = asyncio.create_task(orchestrator.wait(execution_id))
    await outside.communicate(b"\n")
    async with asyncio.timeout(DEADLINE_S):
        execution = await waiting
    assert execution.phase == "ABORTED"
    assert execution.error_message == "from outside"


async def test_an_end_by_another_engine_is_seen_by_who_waits(
    engine: Start,
) -> None:
    """One engine submits and waits without running anything; another runs it."""
    quick = Policy(poll_delay_min=timedelta(0), poll_delay_max=timedelta(0))
    config = Config(idle=timedelta(hours=1))
    reader = await engine(Script(), clock=SystemClock(), config=config, start=False)
    handle = await reader.submit(a_task())
    waiting = asyncio.create_task(handle.result())
    await engine(Script(policy=quick), clock=SystemClock(), config=config)
    async with asyncio.timeout(DEADLINE_S):
        assert await waiting == "good"


async def test_a_running_engine_blocks_its_loop_nowhere(
    engine: Start, clock: Clock, blocking_guard: BlockBuster
) -> None:
    """From a submit to its end, an abort and an hour of nothing, under the guard."""
    script = Script()
    orchestrator = await engine(script)
    await clock.settle(orchestrator)
    blocking_guard.activate()
    try:
        handle = await orchestrator.submit(a_task())
        other = await orchestrator.submit(a_task())
        await other.abort()
        await clock.until_ended(orchestrator, handle.id)
        await clock.until_ended(orchestrator, other.id)
        assert "REMOTE_SUCCEEDED" in await causes(orchestrator, handle.id)
    finally:
        blocking_guard.deactivate()


async def test_many_submits_are_stepped_together(engine: Start, clock: Clock) -> None:
    """A batch takes a few commits, not a few per execution."""
    orchestrator = await engine(Script(get=DONE))
    await clock.settle(orchestrator)
    before = orchestrator._engine.store.writer.commits
    submissions: list[tuple[Any, ...]] = [(a_task(), {}) for _ in range(50)]
    handles = await orchestrator.submit_many(submissions)
    for handle in handles:
        await clock.until_ended(orchestrator, handle.id)
    assert orchestrator._engine.store.writer.commits - before < 40


async def test_time_that_passes_while_the_database_is_asked_is_not_slept_again(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due when "what is due next?" is answered is stepped then."""
    orchestrator = await engine(Script(get=[RUNNING, DONE]))
    store = orchestrator._engine.store
    next_due = store.next_due

    async def slowly(*asked: Any) -> int | None:
        due = await next_due(*asked)
        if due is not None and due > clock.now_us():
            clock.advance((due - clock.now_us()) / 1e6)
        return due

    monkeypatch.setattr(store, "next_due", slowly)
    handle = await orchestrator.submit(a_task())

    async def ended() -> bool:
        return (await handle.get()).terminal

    await until(ended)  # and nobody else moves the clock
