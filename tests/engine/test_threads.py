"""A connector in a thread of its own: what it does there is felt by nobody else."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskMetricsResponse,
)

from orchestrator import Config, Policy
from orchestrator._clock import SystemClock
from orchestrator._engine import _guard, _threads
from orchestrator._faults import Crash
from tests.engine.kit import (
    DEADLINE_S,
    DONE,
    RUNNING,
    Block,
    Clock,
    Meta,
    Script,
    a_task,
    causes,
    seen,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from orchestrator import Orchestrator
    from orchestrator._engine._threads import Threads

    Start = Callable[..., Awaitable[Orchestrator]]

# Blocking is what these connectors do.
pytestmark = pytest.mark.may_block

NEVER_S = 0.1
"""How long a test waits for what cannot come."""
POLICY = Policy(
    jitter=0.0,
    create_timeout=timedelta(seconds=10),
    create_hard_timeout=timedelta(seconds=60),
)
QUICK = Policy(jitter=0.0, poll_delay_min=timedelta(0), poll_delay_max=timedelta(0))


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an engine not wait for what does not end."""
    monkeypatch.setattr(_threads, "_LAST_WAIT_S", 0.01)
    monkeypatch.setattr(_guard, "_LAST_WAIT_S", 0.01)


def threads_of(orchestrator: Orchestrator, script: Script) -> Threads:
    threads = orchestrator._engine.caller.lanes.of(script).threads
    assert threads is not None
    return threads


@pytest.mark.parametrize("runs_in", ["thread", "loop"])
async def test_others_are_polled_while_a_get_blocks_its_thread_and_not_while_the_loop(
    engine: Start, runs_in: str
) -> None:
    """The blocking get itself waits for three polls of the other connector."""
    blocked, polled = threading.Event(), threading.Semaphore(0)

    def polls(**_: Any) -> Any:
        if blocked.is_set():
            polled.release()
        return RUNNING

    def waits_for_polls(**_: Any) -> Any:
        blocked.set()
        limit_s = DEADLINE_S if runs_in == "thread" else NEVER_S
        met.extend(polled.acquire(timeout=limit_s) for _ in range(3))
        return DONE

    met: list[bool] = []
    slow = Script("slow", get=waits_for_polls, runs_in=runs_in)
    friend = Script("friend", get=polls, policy=QUICK)
    orchestrator = await engine(slow, friend, clock=SystemClock(), config=Config())
    await orchestrator.submit(a_task(task_type="friend"))
    handle = await orchestrator.submit(a_task(task_type="slow"))
    await handle.wait(DEADLINE_S)
    assert met == [runs_in == "thread"] * 3


async def test_a_thread_that_hangs_is_replaced_and_who_waited_is_not_blamed(
    engine: Start,
    clock: Clock,
    block: Callable[..., Block],
    caplog: pytest.LogCaptureFixture,
) -> None:
    hang = block()
    script = Script(get=[hang.call, DONE], runs_in="thread")
    orchestrator = await engine(script)
    first = await orchestrator.submit(a_task())
    await until(_reached(clock, hang.reached))
    second = await orchestrator.submit(a_task())
    await until(lambda: _calls(orchestrator, script, 2))
    clock.advance(30)
    for handle in (first, second):
        ended = await clock.until_ended(orchestrator, handle.id)
        assert (ended.phase, ended.attempt) == ("SUCCEEDED", 1)
    assert "ERRORS_BEGAN" in await causes(orchestrator, first.id)
    assert not {"ERRORS_BEGAN", "CREATE_TIMED_OUT", "CREATE_TRANSIENT"} & set(
        await causes(orchestrator, second.id)
    )
    assert "Script.get (task type script) blocks its thread" in caplog.text
    threads = threads_of(orchestrator, script)
    assert len(threads._stuck) == 1
    hang.release.set()
    await until(lambda: _holds(not threads._stuck))


def _reached(clock: Clock, call: threading.Event) -> Callable[[], Awaitable[object]]:
    """Move the clock from timer to timer until *call* is reached."""

    async def reached() -> bool:
        if not call.is_set():
            clock.advance(min(clock.next_in() or 0.0, 1.0))
        return call.is_set()

    return reached


async def _holds(condition: object) -> bool:
    return bool(condition)


async def _calls(orchestrator: Orchestrator, script: Script, number: int) -> bool:
    return len(threads_of(orchestrator, script)._calls) == number


async def test_a_create_that_never_began_was_surely_not_made(
    engine: Start, clock: Clock, block: Callable[..., Block]
) -> None:
    """It waits for its limit behind a get that may still block, and is repeated."""
    slow = block(DONE)
    script = Script(get=[slow.call, DONE], runs_in="thread", policy=POLICY)
    orchestrator = await engine(script)
    first = await orchestrator.submit(a_task())
    await until(_reached(clock, slow.reached))
    second = await orchestrator.submit(a_task())
    await until(lambda: _calls(orchestrator, script, 2))
    clock.advance(10)
    await until(lambda: _calls(orchestrator, script, 1))
    slow.release.set()
    for handle in (first, second):
        ended = await clock.until_ended(orchestrator, handle.id)
        assert (ended.phase, ended.attempt) == ("SUCCEEDED", 1)
    happened = await causes(orchestrator, second.id)
    assert "CREATE_TRANSIENT" in happened
    assert not [cause for cause in happened if "UNKNOWN" in cause]
    assert script.number("create") == 2
    assert any(
        "was not called: its thread was busy for 10 s" in (t.message or "")
        for t in await second.history()
    )


async def _leaves_an_exit(**_: Any) -> Any:
    async def exits() -> None:
        raise SystemExit(3)

    left.append(asyncio.create_task(exits()))
    return RUNNING


left: list[asyncio.Task[None]] = []
RAISED = [SystemExit(2), asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
async def test_what_is_raised_in_a_thread_ends_neither_it_nor_the_engine(
    engine: Start, clock: Clock, raised: BaseException
) -> None:
    """Nor does a task that the connector leaves there, and that exits."""
    idents = set()

    def done(**_: Any) -> Any:
        idents.add(threading.get_ident())
        return DONE

    script = Script(get=[raised, _leaves_an_exit, done], runs_in="thread")
    orchestrator = await engine(script)
    for _ in range(2):
        handle = await orchestrator.submit(a_task())
        ended = await clock.until_ended(orchestrator, handle.id)
        assert ended.phase == "SUCCEEDED"
    assert len(idents) == 1
    assert threading.get_ident() not in idents


async def test_a_crash_in_a_thread_is_the_crash_of_the_process(
    engine: Start, clock: Clock
) -> None:
    """Named points inside a connector's call work as they do on the loop."""
    script = Script(create=Crash("here"), runs_in="thread")
    orchestrator = await engine(script, start=False)
    await orchestrator.submit(a_task())
    with pytest.raises(Crash):
        await orchestrator.tick()


@pytest.mark.parametrize("given_up", [False, True])
async def test_a_late_create_reaches_the_ledger_also_after_it_was_given_up(
    engine: Start,
    clock: Clock,
    block: Callable[..., Block],
    *,
    given_up: bool,
) -> None:
    """A blocking create does not hear that it is cancelled, and makes a job."""
    create = block(Meta("late"))
    script = Script(
        create=create.call, runs_in="thread", policy=POLICY, delete_is_final=True
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await create.wait()
    clock.advance(10)
    await clock.settle(orchestrator)
    assert (await orchestrator.get(handle.id)).phase == "CREATE_UNKNOWN"
    if given_up:
        ended = await clock.until_ended(orchestrator, handle.id)
        assert ended.error_code == "CREATE_OUTCOME_UNKNOWN"
        assert not orchestrator._engine.calls._late._detached
    create.release.set()

    async def listed() -> bool:
        return [j.job_key for j in await orchestrator.jobs(handle.id)] == ["late"]

    await until(listed)
    if not given_up:
        ended = await clock.until_ended(orchestrator, handle.id)
        assert ended.phase == "SUCCEEDED"


async def test_a_timeout_cancels_the_coroutine_in_the_thread(
    engine: Start, clock: Clock
) -> None:
    """An asynchronous call hears of its end there; the thread is not replaced."""
    reached, cancelled = threading.Event(), threading.Event()

    async def hangs(**_: Any) -> None:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    script = Script(create=Meta("1"), get=[hangs, DONE], runs_in="thread")
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await until(_reached(clock, reached))
    clock.advance(30)
    await seen(cancelled)
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "SUCCEEDED"
    assert not threads_of(orchestrator, script)._stuck


@pytest.mark.parametrize("end", ["close", "crash"])
async def test_a_stuck_thread_is_left_behind_by_a_close_and_named(
    engine: Start,
    short_waits: None,
    block: Callable[..., Block],
    caplog: pytest.LogCaptureFixture,
    end: str,
) -> None:
    """The row is free; the thread, once it returns, ends by itself."""
    hang = block()
    script = Script(create=hang.call, runs_in="thread")
    config = Config(stop_timeout=timedelta(0))
    orchestrator = await engine(script, clock=SystemClock(), config=config)
    await orchestrator.submit(a_task())
    await hang.wait()
    (thread,) = [t for t in threading.enumerate() if t.name == "orchestrator-Script"]
    assert thread.daemon
    async with asyncio.timeout(DEADLINE_S):
        await getattr(orchestrator, end)()
    assert "a thread of Script does not end" in caplog.text
    assert "Script.create" in caplog.text
    hang.release.set()
    await asyncio.to_thread(thread.join, DEADLINE_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("shape", ["coroutine", "generator"])
async def test_logs_and_metrics_are_asked_for_in_the_thread(
    engine: Start, clock: Clock, shape: str
) -> None:
    idents = set()

    class Talks(Script):
        async def _page(self) -> GetTaskLogsResponse:
            idents.add(threading.get_ident())
            page = GetTaskLogsResponse()
            page.body.results.append("a line")
            return page

        async def _pages(self) -> AsyncIterator[GetTaskLogsResponse]:
            yield await self._page()
            yield await self._page()

        def get_logs(self, resource_meta: Any, **_: Any) -> Any:
            idents.add(threading.get_ident())
            return self._page() if shape == "coroutine" else self._pages()

        async def get_metrics(
            self, resource_meta: Any, **_: Any
        ) -> GetTaskMetricsResponse:
            idents.add(threading.get_ident())
            return GetTaskMetricsResponse()

    orchestrator = await engine(Talks(runs_in="thread"))
    handle = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, handle.id)
    lines = [line async for line in orchestrator.logs(handle.id)]
    assert lines == ["a line"] * (1 if shape == "coroutine" else 2)
    assert await orchestrator.metrics(handle.id) == GetTaskMetricsResponse()
    assert len(idents) == 1
    assert threading.get_ident() not in idents
