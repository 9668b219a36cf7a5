"""Clocks: the machine's, the manual one, and exact stored times."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator._clock import (
    Clock,
    SystemClock,
    duration_to_us,
    seconds_to_us,
    to_datetime,
    to_us,
)
from orchestrator.testing import START_US, ManualClock

A_MOMENT = 0.001


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_stored_moment_comes_back_to_the_microsecond(moment: datetime) -> None:
    assert to_datetime(to_us(moment)) == moment


def test_a_moment_of_another_zone_is_the_same_moment() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    local = datetime(2026, 3, 1, 5, 30, 0, 1, tzinfo=zone)
    assert to_datetime(to_us(local)) == local
    assert to_us(local) == to_us(datetime(2026, 3, 1, 0, 0, 0, 1, tzinfo=UTC))


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        to_us(datetime(2026, 1, 1))  # noqa: DTZ001 - what is to be refused


@given(st.timedeltas())
def test_durations_are_exact(duration: timedelta) -> None:
    assert timedelta(microseconds=duration_to_us(duration)) == duration


def test_seconds_are_rounded_to_microseconds() -> None:
    assert [seconds_to_us(s) for s in (0.1, 1e-7, 2.5e-6, 3)] == [
        100_000,
        0,
        2,
        3_000_000,
    ]


async def test_the_system_clock_tells_wall_and_monotonic_time() -> None:
    clock: Clock = SystemClock()
    first, before = clock.now_us(), clock.monotonic()
    await clock.sleep(0)
    assert abs(to_us(datetime.now(UTC)) - first) < 60_000_000
    assert clock.monotonic() >= before


async def test_the_system_clock_waits_for_an_event_or_the_time() -> None:
    clock, event = SystemClock(), asyncio.Event()
    assert await clock.wait(event, A_MOMENT) is False
    event.set()
    assert await clock.wait(event, 60) is True


async def test_the_system_clock_limits_a_body() -> None:
    clock = SystemClock()
    with pytest.raises(TimeoutError):
        async with clock.limit(A_MOMENT):
            await asyncio.Event().wait()
    async with clock.limit(60):
        await clock.sleep(A_MOMENT)


async def test_the_manual_clock_stands_still_until_it_is_moved() -> None:
    clock: Clock = ManualClock()
    manual = ManualClock()
    assert clock.now_us() == manual.now_us() == START_US
    manual.advance(1.5)
    assert (manual.now_us() - START_US, manual.monotonic()) == (1_500_000, 1.5)
    manual.step(-10)
    assert (manual.now_us() - START_US, manual.monotonic()) == (-8_500_000, 1.5)


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    """Each sees the time at which it was to wake."""
    clock, woken = ManualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (3, 1, 2, 0):
            group.create_task(sleeper(seconds))
        assert await clock.sleeping() == 1
        await clock.sleep(0)
        clock.advance(1)
        await clock.sleep(0)
        await clock.sleep(0)
        assert woken == [0, 1]
        clock.advance(10)
    assert woken == [0, 1, 2, 3]
    assert clock.next_in() is None


async def test_the_manual_clock_waits_and_limits() -> None:
    clock, event = ManualClock(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        late = group.create_task(clock.wait(event, 5))
        assert await clock.sleeping() == 5
        clock.advance(5)
    assert late.result() is False
    async with asyncio.TaskGroup() as group:
        early = group.create_task(clock.wait(event, 5))
        await clock.sleeping()
        event.set()
    assert early.result() is True
    assert clock.next_in() is None

    async def limited() -> None:
        async with clock.limit(7):
            await asyncio.Event().wait()

    task = asyncio.create_task(limited())
    assert await clock.sleeping() == 7
    clock.advance(7)
    with pytest.raises(TimeoutError):
        await task
    with pytest.raises(TimeoutError):
        async with clock.limit(0):
            await asyncio.Event().wait()


async def test_a_cancelled_sleeper_leaves_no_timer() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(60))
    await clock.sleeping()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.next_in() is None
