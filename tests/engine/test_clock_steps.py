"""The wall clock steps by an hour: nothing ends early, nothing waits for an hour."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator._engine._belief import Belief
from orchestrator.testing import ManualClock
from tests.engine.kit import DONE, RUNNING, Meta, Script, a_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator
    from tests.engine.kit import Clock

    Start = Callable[..., Awaitable[Orchestrator]]

HOUR = 3600
HOUR_US = HOUR * 10**6


async def test_no_time_limit_fires_early_after_a_step_forward(
    engine: Start, clock: Clock
) -> None:
    """The deadline comes when the time has really gone by."""
    script = Script(get=RUNNING, delete_is_final=True)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task(timeout=timedelta(minutes=30)))
    await clock.pass_(60, orchestrator)
    clock.step(HOUR)
    await clock.pass_(600, orchestrator)
    assert (await orchestrator.get(handle.id)).phase == "RUNNING"
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "TIMED_OUT"
    assert 29 * 60 <= clock.monotonic() <= 31 * 60


async def test_what_is_submitted_after_the_step_goes_by_the_new_time(
    engine: Start, clock: Clock
) -> None:
    script = Script(get=RUNNING, delete_is_final=True)
    orchestrator = await engine(script)
    await clock.settle(orchestrator)
    clock.step(HOUR)
    began = clock.monotonic()
    handle = await orchestrator.submit(a_task(timeout=timedelta(minutes=30)))
    await clock.until_ended(orchestrator, handle.id)
    assert 29 * 60 <= clock.monotonic() - began <= 31 * 60


async def test_polls_go_on_after_a_step_back(
    engine: Start, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """What was due in a second is not due in an hour."""
    script = Script(get=[RUNNING, RUNNING, DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(1, orchestrator)
    clock.step(-HOUR)
    with caplog.at_level(logging.WARNING):
        await clock.until_ended(orchestrator, handle.id)
    assert clock.monotonic() < HOUR / 2
    assert "the wall clock stepped by -3600.0 s" in caplog.text


async def test_debts_and_searches_go_on_after_a_step_back(
    engine: Start, clock: Clock
) -> None:
    """A second job is found and deleted as soon as without the step."""
    script = Script(
        clock=clock,
        create=[ConnectionError("cut"), Meta("again")],
        find=[None, None, Meta("again"), Meta("first")],
        get=RUNNING,
        delete=ConnectionError("away"),
    )
    orchestrator = await engine(script)
    await orchestrator.submit(a_task())
    while script.number("find") < 3:
        await clock.pass_(10, orchestrator)
    clock.step(-HOUR)
    await clock.pass_(HOUR / 4, orchestrator)
    deletes = script.number("delete")
    assert deletes >= 1
    clock.step(-HOUR)
    await clock.pass_(HOUR / 4, orchestrator)
    assert script.number("delete") > deletes
    assert script.number("find") <= 12


async def test_a_search_that_finds_nothing_is_not_believed_sooner_for_a_step(
    engine: Start, clock: Clock
) -> None:
    script = Script(clock=clock, create=ConnectionError("cut"), find=[None, Meta("it")])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(5, orchestrator)
    clock.step(HOUR)
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.job_key) == ("SUCCEEDED", "it")
    assert script.number("create") == 1


async def test_a_token_is_as_old_as_it_may_be_after_a_step_back(
    engine: Start, clock: Clock
) -> None:
    """The service has forgotten it, whatever the wall clock says: no replay."""
    script = Script(
        create=ConnectionError("cut"), create_is_idempotent=timedelta(minutes=30)
    )
    first = await engine(script)
    handle = await first.submit(a_task())
    await clock.pass_(1, first)
    calls = script.number("create")
    assert calls > 0
    clock.advance(HOUR / 2 + 1)  # nothing runs meanwhile: a paused process
    clock.step(-HOUR)
    ended = await clock.until_ended(first, handle.id)
    assert ended.error_code == "CREATE_OUTCOME_UNKNOWN"
    assert script.number("create") == calls


async def test_a_create_is_not_repeated_for_a_clock_that_was_set_back(
    engine: Start, clock: Clock
) -> None:
    """Set back while no process ran, it shows a call of the future: no young token."""
    cut = ConnectionError("cut")
    first = await engine(Script(clock=clock, create=cut, find=cut))
    handle = await first.submit(a_task())
    await clock.pass_(1, first)
    await first.crash()
    clock.step(-HOUR)
    script = Script(clock=clock, find=[Meta("it")])
    second = await engine(script)
    await second.wake(handle.id)
    ended = await clock.until_ended(second, handle.id)
    assert (ended.phase, ended.job_key) == ("SUCCEEDED", "it")
    assert script.number("create") == 0


@pytest.mark.parametrize("size", [HOUR, -HOUR])
def test_a_step_counts_for_what_is_from_before_it(size: int) -> None:
    clock = ManualClock()
    belief = Belief(clock)
    before = belief.now()
    clock.advance(100)
    clock.step(size)
    now = belief.now()
    stepped = size * 10**6
    # Set back, the clock may have shown that before the step or after it.
    doubt = (stepped, max(stepped, 0))
    assert belief.steps.error(before) == doubt
    assert belief.steps.error(before - HOUR_US) == (stepped, stepped)
    assert belief.steps.error(now) == (min(stepped, 0), 0)
    assert belief.steps.error(before + 101 * 10**6) == (
        (stepped, stepped) if size > 0 else (0, 0)  # an hour that was left out
    )
    assert belief.believed(before, now) == now - max(size, 0) * 10**6
    assert belief.steps_back() == ([(before, HOUR_US)] if size < 0 else [])
    assert belief.steps_back() == []


def test_steps_that_undo_each_other_leave_no_error() -> None:
    clock = ManualClock()
    belief = Belief(clock)
    before = belief.now()
    for size in (HOUR, -HOUR):
        clock.advance(60)
        clock.step(size)
        belief.now()
    assert belief.steps.error(before) == (0, 0)


def test_small_steps_are_no_steps() -> None:
    """A time server that corrects by seconds is left alone."""
    clock = ManualClock()
    belief = Belief(clock)
    before = belief.now()
    for _ in range(20):
        clock.advance(60)
        clock.step(5)
        belief.now()
    assert belief.steps.error(before) == (0, 0)
