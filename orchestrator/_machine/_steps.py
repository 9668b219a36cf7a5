"""Steps of the wall clock, and by how much they put a moment of it in doubt."""

from __future__ import annotations

from typing import NamedTuple

_SLACK_US = 5_000_000
"""So long another process may have read the new time before the step was noticed."""


class Step(NamedTuple):
    """The wall clock went by *size* microseconds further than time did."""

    after: int
    """What it would have shown: what is from before the step shows no more."""
    size: int


class Steps(NamedTuple):
    """The steps that one process saw, in their order."""

    seen: tuple[Step, ...] = ()

    def error(self, since: int) -> tuple[int, int]:
        """Return by how much the clock was set since it showed *since*.

        A step back repeats the clock's hours, so that a moment may lie before it or
        after: these are the least and the most that it may be, in microseconds. Hours
        that a step forward has left out belong to what was before it.
        """
        if not self.seen:
            return 0, 0
        left = sum(step.size for step in self.seen)
        errors = []
        began: int | None = None  # the stretch without a step, by what it showed
        for after, size in self.seen:
            begins = after + size - _SLACK_US
            if (began is None or began <= since) and since <= max(after, begins):
                errors.append(left)
            began, left = begins, left - size
        if began is None or began <= since:
            errors.append(0)
        return min(errors), max(errors)
