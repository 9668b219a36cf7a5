"""What time to believe: the wall clock may step, and the monotonic clock tells of it.

Deadlines are moments of the wall clock, and so survive a restart. When the wall clock
steps by more than 5 s, rows from before the step are judged by the time that has
really gone by: a step forward lets no time limit of theirs fire early. Across a
restart the wall clock is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator._machine import Step, Steps
from orchestrator._secrets import get_logger

if TYPE_CHECKING:
    from orchestrator._clock import Clock

logger = get_logger(__name__)

_STEP_US = 5_000_000
_STEPS_MAX = 100


class Belief:
    """Reads the wall clock, and remembers its steps."""

    def __init__(self, clock: Clock) -> None:
        """Compare *clock*'s two readings."""
        self._clock = clock
        self._wall = clock.now_us()
        self._monotonic = clock.monotonic()
        self.steps = Steps()
        self._back: list[tuple[int, int]] = []

    def now(self) -> int:
        """Return the wall clock in microseconds; notices whether it has stepped."""
        wall, monotonic = self._clock.now_us(), self._clock.monotonic()
        expected = self._wall + round((monotonic - self._monotonic) * 1e6)
        if not -_STEP_US <= wall - expected <= _STEP_US:
            self._stepped(expected, wall - expected)
        self._wall, self._monotonic = wall, monotonic
        return wall

    def _stepped(self, expected: int, size: int) -> None:
        logger.warning(
            "the wall clock stepped by %+.1f s: time limits of executions from before"
            " go by the time that has really passed",
            size / 1e6,
        )
        seen = self.steps.seen[-_STEPS_MAX:]
        self.steps = Steps((*seen, Step(expected, size)))
        if size < 0:
            self._back.append((self._wall, -size))

    def believed(self, since: int, now: int) -> int:
        """Return the time by which limits of what is from *since* fire."""
        return now - max(self.steps.error(since)[1], 0)

    def steps_back(self) -> list[tuple[int, int]]:
        """Return steps back since this was asked: the last reading before, the size."""
        steps, self._back = self._back, []
        return steps
