"""Two engines on one database, and one that was paused until it lost its lease."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Config, Orchestrator, Policy
from orchestrator._clock import SystemClock
from tests.engine.kit import (
    DEADLINE_S,
    DONE,
    RUNNING,
    Clock,
    Gate,
    Meta,
    Script,
    a_task,
    causes,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator.connectors import Resource

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

LEASE = Config(
    lease=timedelta(seconds=20),
    heartbeat=timedelta(seconds=5),
    watch=timedelta(seconds=10),
)


async def test_two_engines_create_each_job_once(engine: Start) -> None:
    """Every row is stepped by whoever claims it, by one at a time, versions in line."""
    quick = Policy(
        poll_delay_min=timedelta(milliseconds=1), poll_delay_max=timedelta(0, 0, 2000)
    )
    scripts = [Script(policy=quick, get=[RUNNING]) for _ in range(2)]
    for script in scripts:
        script.answers["get"] = [RUNNING] * 60 + script.answers["get"]
    config = Config(watch=timedelta(milliseconds=5))
    engines = [await engine(s, clock=SystemClock(), config=config) for s in scripts]
    submissions: list[tuple[Any, ...]] = [(a_task(str(n)), {}) for n in range(30)]
    handles = await engines[0].submit_many(submissions)
    handles += await engines[1].submit_many(submissions)
    for script in scripts:
        await script.called("get", 40)
    for script in scripts:
        script.answers["get"] = [DONE]
    async with asyncio.timeout(DEADLINE_S):
        for handle in handles:
            assert (await engines[0].wait(handle.id)).phase == "SUCCEEDED"
    tokens = Counter(
        given["metadata"].labels["orchestrator-token"]
        for script in scripts
        for call, given in script.calls
        if call == "create"
    )
    assert len(tokens) == 60
    assert set(tokens.values()) == {1}
    assert all(script.number("get") for script in scripts), "both took part"
    for handle in handles:
        history = await engines[1].history(handle.id)
        assert [t.version for t in history] == list(range(1, len(history) + 1))


async def test_a_zombies_create_is_refused_and_its_job_cleaned_up(
    engine: Start, clock: Clock
) -> None:
    """It was paused in its call; the row has ended elsewhere; the job is nobody's."""
    gate = Gate(Meta("zombie-job"))
    paused = await engine(Script(create=gate.answer()), config=LEASE, start=False)
    script = Script(get=RUNNING, delete_is_final=True)
    other = await engine(script, config=LEASE, start=False)
    handle = await paused.submit(a_task())
    ticking = asyncio.create_task(paused.tick())
    await gate.wait()
    clock.advance(25)
    for _ in range(3):
        await other.tick()
    ended = await other.get(handle.id)
    assert ended.error_code == "CREATE_OUTCOME_UNKNOWN"
    version = ended.version
    gate.opened.set()
    await ticking
    assert (await other.get(handle.id)).version == version, "a terminal row"
    [job] = await other.jobs(handle.id)
    assert (job.job_key, job.cleanup) == ("zombie-job", "DUE")
    await other.tick()
    [job] = await other.jobs(handle.id)
    assert job.cleanup == "DONE"
    assert [g["meta"] for c, g in script.calls if c == "delete"] == [Meta("zombie-job")]


async def test_a_zombies_job_is_adopted_if_its_attempt_still_waits(
    engine: Start, clock: Clock
) -> None:
    """The row is unknown elsewhere: what the zombie tells is the missing answer."""
    gate = Gate(Meta("zombie-job"))
    paused = await engine(
        Script(create=gate.answer(), on_unknown_create="hold"),
        config=LEASE,
        start=False,
    )
    other = await engine(Script(on_unknown_create="hold"), config=LEASE, start=False)
    handle = await paused.submit(a_task())
    ticking = asyncio.create_task(paused.tick())
    await gate.wait()
    clock.advance(25)
    for _ in range(3):
        await other.tick()
    assert (await other.get(handle.id)).hold == "OUTCOME_UNKNOWN"
    gate.opened.set()
    await ticking
    clock.advance(120)
    await other.tick()
    adopted = await other.get(handle.id)
    assert (adopted.phase, adopted.job_key) == ("RUNNING", "zombie-job")
    assert (await causes(other, handle.id))[-1] == "ADOPTED"


async def test_a_zombies_poll_changes_nothing(engine: Start, clock: Clock) -> None:
    """It learnt that the job ended; another engine has aborted it meanwhile."""
    gate = Gate(DONE)
    paused = await engine(Script(get=gate.answer()), config=LEASE, start=False)
    other = await engine(
        Script(get=RUNNING, delete_is_final=True), config=LEASE, start=False
    )
    handle = await paused.submit(a_task())
    await paused.tick()
    clock.advance(1)
    ticking = asyncio.create_task(paused.tick())
    await gate.wait()
    clock.advance(25)
    await other.abort(handle.id)
    for _ in range(2):
        await other.tick()
    ended = await other.get(handle.id)
    assert ended.phase == "ABORTED"
    gate.opened.set()
    await ticking
    assert await other.get(handle.id) == ended


async def test_a_lease_in_doubt_makes_no_call_that_cannot_be_undone(
    engine: Start, clock: Clock
) -> None:
    """A pause within a tick: the delete waits for a renewed lease, and is made then."""

    async def pause(**_: Any) -> Resource:
        clock.advance(17)
        return RUNNING

    slow, script = Script("slow", get=[pause, RUNNING]), Script(get=RUNNING)
    orchestrator = await engine(slow, script, config=LEASE, start=False)
    await orchestrator.submit(a_task(task_type="slow"))
    handle = await orchestrator.submit(a_task())
    await orchestrator.tick()
    clock.advance(1)
    await handle.abort()
    clock.advance(1)
    # Its row is due before the aborted one.
    await orchestrator.tick()
    assert (slow.number("get"), script.number("delete")) == (1, 0)
    assert (await handle.get()).phase == "ABORTING"
    clock.advance(5)
    await orchestrator.tick()
    assert script.number("delete") == 1, "the row was not forgotten"


async def test_a_broken_lease_is_begun_anew_and_work_goes_on(
    engine: Start, clock: Clock
) -> None:
    """A heartbeat that comes too late makes a new node of the same process."""
    paused = await engine(Script(), config=LEASE, start=False)
    other = await engine(Script(), config=LEASE, start=False)
    await paused.tick()
    node = paused._engine.lease.node
    clock.advance(25)
    await other.tick()
    handle = await paused.submit(a_task())
    for _ in range(4):
        await paused.tick()
        clock.advance(2)
    assert paused._engine.lease.node != node
    assert (await handle.get()).phase == "SUCCEEDED"


async def test_a_dead_process_of_this_host_is_noticed_before_its_lease_ends(
    engine: Start, clock: Clock
) -> None:
    """Its lock file is free: its rows are taken at once, not after the lease."""
    gate = Gate()
    script = Script(create=gate.answer(), create_is_idempotent=True)
    first = await engine(script, start=False)
    handle = await first.submit(a_task())
    ticking = asyncio.create_task(first.tick())
    await gate.wait()
    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    await first.crash()
    second = await engine(Script(create_is_idempotent=True), start=False)
    await second.tick()
    assert (await second.get(handle.id)).phase == "RUNNING"
    assert clock.monotonic() == 0
