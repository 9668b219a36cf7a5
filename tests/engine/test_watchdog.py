"""Who keeps the event loop is named, and stays where its client lives."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Config
from orchestrator._clock import SystemClock
from orchestrator._engine import _turns
from orchestrator._engine._lanes import WARN_EVERY_S, Lanes
from orchestrator._engine._turns import SLOW_S
from tests.engine.kit import (
    DEADLINE_S,
    DONE,
    RUNNING,
    Clock,
    Script,
    a_task,
    causes,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

# Blocking is what these connectors do.
pytestmark = pytest.mark.may_block


class Session:
    """A client of the loop that it was made on, as a session or a pool is."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self.pump = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            (await self._queue.get()).set_result(None)

    async def request(self) -> None:
        answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(answer)
        await answer


TURNS = 12


@pytest.mark.parametrize("seconds", [0.2, SLOW_S / 2, 0.0])
async def test_a_connector_that_blocks_is_warned_of_and_stays_where_its_client_lives(
    engine: Start,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
) -> None:
    """However often: in a thread of its own its client would never answer again."""
    sessions: list[Session] = []
    idents: list[int] = []

    async def get(**_: Any) -> Any:
        if not sessions:
            sessions.append(Session())
        await sessions[0].request()
        idents.append(threading.get_ident())
        clock.advance(seconds)  # a large answer is parsed
        return DONE if len(idents) == TURNS else RUNNING

    orchestrator = await engine(Script(get=get))
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    sessions[0].pump.cancel()
    assert (ended.phase, ended.attempt) == ("SUCCEEDED", 1)
    assert idents == [threading.get_ident()] * TURNS
    assert "ERRORS_BEGAN" not in await causes(orchestrator, handle.id)
    warned = "Script.get (task type script) kept the event loop for 200 ms"
    advice = 'set runs_in = "thread", or hand what blocks to asyncio.to_thread'
    assert (warned in caplog.text) == (advice in caplog.text) == (seconds > SLOW_S)


async def test_warnings_of_one_connector_are_a_minute_apart(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script()
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

    orchestrator = await engine(Script(get=get))
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
        Script(get=never_returns), clock=SystemClock(), config=Config()
    )
    monitor = orchestrator._engine.caller.lanes.monitor
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
    turns = orchestrator._engine.caller.lanes.turns
    monitor = orchestrator._engine.caller.lanes.monitor
    assert monitor._thread is None

    async def parked() -> bool:
        return turns.unwatched is not None and not monitor._work.is_set()

    for _ in range(2):
        handle = await orchestrator.submit(a_task())
        await clock.until_ended(orchestrator, handle.id)
        assert monitor._thread is not None
        await until(parked)
