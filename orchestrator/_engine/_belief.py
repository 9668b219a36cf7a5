"""What time to believe: the wall clock may step, and the monotonic clock tells of it.

Deadlines are moments of the wall clock, and so survive a restart. When the wall clock
steps by more than 5 s, rows from before the step are judged by the time that has
really gone by: a step forward lets no time limit of theirs fire early. Across a
restart the wall clock is believed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from orchestrator._clock import Clock

logger = logging.getLogger(__name__)

_STEP_US = 5_000_000
_STEPS_MAX = 100


class _Step(NamedTuple):
    """The wall clock went by *size* further than the monotonic one."""

    after: int
    """What the wall clock would have shown: rows from before this are affected."""
    size: int


class Belief:
    """Reads the wall clock, and remembers its steps."""

    def __init__(self, clock: Clock) -> None:
        """Compare *clock*'s two readings."""
        self._clock = clock
        self._wall = clock.now_us()
        self._monotonic = clock.monotonic()
        self._steps: list[_Step] = []
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
        self._steps = [*self._steps[-_STEPS_MAX:], _Step(expected, size)]
        if size < 0:
            self._back.append((self._wall, -size))

    def error(self, since: int) -> int:
        """Return by how much the wall clock has stepped after *since*, on balance.

        For as long as a step back repeats the wall clock's hours, new moments look as
        if they came before it: they count as older than they are.
        """
        if not self._steps:
            return 0
        return sum(step.size for step in self._steps if since <= step.after)

    def believed(self, since: int, now: int) -> int:
        """Return the time by which limits of what is from *since* fire."""
        return now - max(self.error(since), 0)

    def steps_back(self) -> list[tuple[int, int]]:
        """Return steps back since this was asked: the last reading before, the size."""
        steps, self._back = self._back, []
        return steps
