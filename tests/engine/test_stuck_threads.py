"""Calls that wait for a connector's thread, and threads that do not come back."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Config, Policy
from orchestrator._clock import SystemClock
from orchestrator._engine._lanes import Lane
from orchestrator._engine._outcomes import Raised
from orchestrator._engine._threads import STUCK_MAX, Threads
from orchestrator.errors import TransientError
from tests.engine.kit import (
    DEADLINE_S,
    DONE,
    RUNNING,
    Block,
    Clock,
    Script,
    a_task,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

# Blocking is what these connectors do.
pytestmark = pytest.mark.may_block


def _none_stuck(threads: Threads) -> Callable[[], Awaitable[object]]:
    async def none() -> bool:
        return not threads._stuck

    return none


async def test_when_all_threads_are_stuck_calls_are_refused_until_one_returns(
    clock: Clock, block: Callable[..., Block]
) -> None:
    threads = Threads(Lane(Script()), clock)
    blocks = [block(number) for number in range(STUCK_MAX + 1)]
    calls = []
    for each in blocks:
        calls.append(threads.call(_async(each.call), {}, 10.0))
        await each.wait()
        clock.advance(10)
        assert calls[-1].expire(clock.monotonic()) is None
    refused = (await threads.call(_async(lambda: "never"), {}, 10.0)).error
    assert isinstance(refused, TransientError)
    assert "all 4 of its threads are stuck" in str(refused)
    blocks[1].release.set()
    assert await calls[1] == 1
    assert await threads.call(_async(lambda: "again"), {}, 10.0) == "again"
    for each in blocks:
        each.release.set()
    assert [await call for call in calls] == list(range(STUCK_MAX + 1))
    await threads.stop()


async def test_a_call_was_withdrawn_or_made_and_never_both(clock: Clock) -> None:
    """The thread takes calls from the front while they are withdrawn from the back."""
    threads = Threads(Lane(Script()), clock)
    made: list[int] = []
    many, some = range(2000), threading.Event()

    def make(number: int) -> None:
        made.append(number)
        if number == 50:
            some.set()

    calls = [threads.call(_async(make), {"_": n}, 10.0) for n in many]
    some.wait(DEADLINE_S)
    withdrawn = [n for n in reversed(many) if calls[n].withdraw()]
    await asyncio.gather(*(calls[n] for n in many if n not in withdrawn))
    await threads.stop()
    assert sorted(made + withdrawn) == list(many)
    assert all(isinstance(calls[n].result(), Raised) for n in withdrawn)


def _async(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(**given: Any) -> Any:
        return function(*given.values())

    return call


async def test_a_call_has_its_whole_time_from_when_it_began(
    clock: Clock, block: Callable[..., Block]
) -> None:
    threads = Threads(Lane(Script()), clock)
    first, second = block("first"), block("second")
    calls = [threads.call(_async(each.call), {}, 10.0) for each in (first, second)]
    await first.wait()
    clock.advance(8)
    first.release.set()
    await second.wait()
    clock.advance(2)
    assert calls[1].expire(clock.monotonic()) == 18.0
    clock.advance(8)
    assert calls[1].expire(clock.monotonic()) is None
    second.release.set()
    assert [await call for call in calls] == ["first", "second"]
    await threads.stop()


async def test_a_callback_that_blocks_its_thread_is_left_behind_too(
    engine: Start, block: Callable[..., Block]
) -> None:
    """What a client's own task or callback does: its loop does not turn either."""
    hang, calls = block(), 0

    async def get(**_: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            asyncio.get_running_loop().call_soon(hang.call)
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
    ended = await handle.wait(timeout=DEADLINE_S)
    assert ended.phase == "SUCCEEDED"
    assert not hang.release.is_set()


async def test_threads_that_callbacks_block_count_until_they_return(
    clock: Clock, block: Callable[..., Block], caplog: pytest.LogCaptureFixture
) -> None:
    """The call that did not begin is made elsewhere; the last has nowhere to go."""
    threads = Threads(Lane(Script()), clock)
    blocks = [block() for _ in range(STUCK_MAX + 1)]
    outcomes = []
    for each in blocks:

        async def leaves(each: Block = each) -> None:
            asyncio.get_running_loop().call_soon(each.call)

        await threads.call(leaves, {}, 10.0)
        await each.wait()
        call = threads.call(_async(lambda: "made"), {}, 10.0)
        clock.advance(9)
        assert call.expire(clock.monotonic()) == call.queued_at + 10
        clock.advance(1)
        call.expire(clock.monotonic())
        outcomes.append(await call)
    assert outcomes[:-1] == ["made"] * STUCK_MAX
    assert "all 4 of its threads are stuck" in str(outcomes[-1].error)
    said = "a callback or a task of Script blocks its thread for more than 10 s"
    assert caplog.text.count(said) == STUCK_MAX + 1
    for each in blocks[:-1]:
        each.release.set()
    await until(_none_stuck(threads))
    assert await threads.call(_async(lambda: "again"), {}, 10.0) == "again"
    blocks[-1].release.set()
    await until(_none_stuck(threads))
    await threads.stop()


async def test_a_thread_that_a_call_has_just_left_is_not_stuck(
    clock: Clock, block: Callable[..., Block]
) -> None:
    """It was the call's for as long as that was allowed; the next is merely late."""
    threads = Threads(Lane(Script()), clock)
    slow, hang = block("slow"), block()

    def then_hangs(**_: Any) -> Any:
        asyncio.get_running_loop().call_soon(hang.call)
        return slow.call()

    first = threads.call(_async(then_hangs), {}, 60.0)
    await slow.wait()
    second = threads.call(_async(lambda: "never"), {}, 10.0)
    clock.advance(9)
    slow.release.set()
    await hang.wait()
    clock.advance(1)
    assert second.expire(clock.monotonic()) is None
    assert "was not called: its thread was busy" in str((await second).error)
    assert not threads._stuck
    hang.release.set()
    assert await first == "slow"
    await threads.stop()
