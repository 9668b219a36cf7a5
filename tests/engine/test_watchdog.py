"""Who keeps the event loop is named, and moved off it if its class lets it be."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Config
from orchestrator._clock import SystemClock
from orchestrator._engine import _turns
from orchestrator._engine._lanes import BLOCKS_MAX, WARN_EVERY_S, WINDOW_S, Lanes
from orchestrator._engine._turns import SLOW_S
from tests.engine.kit import DEADLINE_S, DONE, RUNNING, Clock, Script, a_task, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

# Blocking is what these connectors do.
pytestmark = pytest.mark.may_block


class Slow:
    """A get that keeps its thread for so long, by the clock that the engine has."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self.idents: list[int] = []

    def get(self, **_: Any) -> Any:
        self.idents.append(threading.get_ident())
        if self.idents[-1] == self.idents[0]:  # a manual clock is of one thread
            self._clock.advance(self._seconds)
        return DONE if len(self.idents) > 2 * BLOCKS_MAX else RUNNING


@pytest.mark.parametrize(
    ("runs_in", "seconds", "moves"),
    [
        (None, 0.2, True),
        ("loop", 0.2, False),
        (None, SLOW_S / 2, False),
        (None, 0.0, False),
    ],
)
async def test_a_connector_that_blocks_the_loop_three_times_moves_to_a_thread(
    engine: Start,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    runs_in: str | None,
    seconds: float,
    *,
    moves: bool,
) -> None:
    """One whose class says "loop" is only warned, one that is quick enough is not."""
    slow = Slow(clock, seconds)
    orchestrator = await engine(Script(get=slow.get, runs_in=runs_in))
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "SUCCEEDED"
    here = [ident == threading.get_ident() for ident in slow.idents]
    expected = [True] * BLOCKS_MAX + [not moves] * (BLOCKS_MAX + 1)
    assert here == expected
    warned = "Script.get (task type script) kept the event loop for 200 ms"
    assert (warned in caplog.text) == (seconds > SLOW_S)
    advice = "its calls run in a thread of their own from now on; say so in the class"
    assert caplog.text.count(advice) == moves


async def test_only_who_blocks_often_and_soon_is_moved(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that stands still for a moment is no connector's doing."""
    lanes = Lanes(clock)

    def moved(calls: int, seconds: float) -> bool:
        script = Script()
        lane = lanes.of(script)
        for _ in range(BLOCKS_MAX + 1):
            lane.calls += calls
            lanes._slow(lane, script.get, 0.2)
            clock.advance(seconds)
        return lane.threads is not None

    assert moved(1, 1)
    assert not moved(100, 1)
    assert not moved(1, WINDOW_S / 2)
    assert moved(10, WINDOW_S / 4)
    lanes.monitor.stop()


async def test_warnings_of_one_connector_are_a_minute_apart(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(runs_in="loop")
    lanes = Lanes(clock)
    for _ in range(121):
        lanes._slow(lanes.of(script), script.get, 0.2)
        clock.advance(1)
    assert len(caplog.records) == 1 + 120 // WARN_EVERY_S
    lanes._slow(lanes.of(Script()), script.get, 0.2)
    assert len(caplog.records) == 2 + 120 // WARN_EVERY_S


async def test_the_turns_after_the_first_are_timed_too(
    engine: Start, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Waiting is free, however long; what is done with the answer is not."""

    async def get(**_: Any) -> Any:
        await clock.sleep(20)
        clock.advance(0.3)
        return DONE

    orchestrator = await engine(Script(get=get, runs_in="loop"))
    handle = await orchestrator.submit(a_task())
    await clock.drive(asyncio.create_task(handle.wait(None)))
    assert "kept the event loop for 300 ms" in caplog.text


async def test_a_get_that_does_not_return_is_named_once_with_its_stack(
    engine: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by a thread while the loop stands still: the log is what lets it go."""
    monkeypatch.setattr(_turns, "LOOK_S", 0.01)
    told = threading.Event()

    class Lets(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.ERROR:
                told.set()

    def never_returns(**_: Any) -> Any:
        assert told.wait(DEADLINE_S)
        for _look in range(20):
            monitor.look()
        return DONE

    handler = Lets()
    monkeypatch.setattr(_turns.logger, "handlers", [handler])
    orchestrator = await engine(
        Script(get=never_returns, runs_in="loop"), clock=SystemClock(), config=Config()
    )
    monitor = orchestrator._engine.calls.lanes.monitor
    handle = await orchestrator.submit(a_task())
    await handle.wait(DEADLINE_S)
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "Script.get (task type script) blocks the event loop" in errors[0]
    assert "never_returns" in errors[0]
    assert "told.wait(DEADLINE_S)" in errors[0]


async def test_an_idle_engine_has_no_monitor_that_looks(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the next turn; so it does while a call waits for its service."""
    monkeypatch.setattr(_turns, "LOOK_S", 0.01)
    orchestrator = await engine(Script())
    await clock.settle(orchestrator)
    turns = orchestrator._engine.calls.lanes.turns
    monitor = orchestrator._engine.calls.lanes.monitor
    assert monitor._thread is None

    async def parked() -> bool:
        return turns.unwatched is not None and not monitor._work.is_set()

    for _ in range(2):
        handle = await orchestrator.submit(a_task())
        await clock.until_ended(orchestrator, handle.id)
        assert monitor._thread is not None
        await until(parked)
