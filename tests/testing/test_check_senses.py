"""What check_connector sees with: the pulse of the loop, and the logs."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta

import pytest

from orchestrator._clock import SystemClock
from orchestrator.testing._check import _loop
from orchestrator.testing._check._canaries import Logs
from orchestrator.testing._check._pulse import Pulse

LIMIT_S = 0.05
BLOCK_S = 0.12


class StallingClock(SystemClock):
    """The system's clock, and a machine that stands still now and then."""

    stalled_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.stalled_s


async def test_a_machine_that_stands_still_is_not_blamed_on_the_call() -> None:
    """A thread that does nothing was late too: the call did not run at all."""
    clock = StallingClock()
    async with Pulse(clock) as pulse:
        for _ in range(3):
            with pulse.during("get"):
                clock.stalled_s += 10.0
    assert pulse.blocked(LIMIT_S) == {}


@pytest.mark.may_block
async def test_a_block_is_seen_while_the_machine_is_well() -> None:
    """A single one of that length may be the machine's doing, two are not."""
    wait = threading.Event().wait
    async with Pulse(SystemClock()) as pulse:
        for method, blocks in [("get", 2), ("create", 1)]:
            for turn in range(4):
                with pulse.during(method):
                    await asyncio.sleep(0)
                    if turn < blocks:
                        wait(BLOCK_S)
    assert list(pulse.blocked(LIMIT_S)) == ["get"]
    del pulse.turns["get"]
    said = await _loop(pulse, timedelta(seconds=LIMIT_S))
    assert said.startswith("single calls kept the loop for up to")
    assert said.endswith(f"(allowed: {LIMIT_S * 1000:.0f} ms)")


async def test_logs_are_kept_from_debug_on_and_others_hear_no_more_than_before() -> (
    None
):
    """Levels are as they were afterwards; a traceback is kept too."""
    heard: list[str] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    root, other, logs = logging.getLogger(), Other(), Logs()
    level = root.level
    root.addHandler(other)
    try:
        with logs.kept():
            logger = logging.getLogger("somebody.client")
            logger.debug("quiet %s", "words")
            try:
                int("with a cause")
            except ValueError:
                logger.exception("loud")
            logging.getLogger("aiosqlite").debug("a row again")
        logging.getLogger("somebody.client").error("after")
    finally:
        root.removeHandler(other)
    assert heard == ["loud", "after"]
    assert (root.level, other.level) == (level, logging.NOTSET)
    assert [line.partition(":")[0] for line in logs.lines] == ["somebody.client"] * 2
    assert logs.lines[0].endswith("quiet words")
    assert "with a cause" in logs.lines[1]
