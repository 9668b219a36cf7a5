"""The simulation's clock: its wall clock steps, and it knows what really was when."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.testing import ManualClock
from orchestrator.testing._clock import START_US


class Step(NamedTuple):
    """The wall clock was set by *size* microseconds at *at*, in real time."""

    at: int
    size: int


class SteppingClock(ManualClock):
    """A `ManualClock` beside which real time goes on, whatever the wall clock shows.

    Real time starts at the same moment and moves by `advance` alone. The services
    live by it.

    Attributes:
        steps: What `step` did, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._shown: dict[int, tuple[int, int]] = {}

    def now_us(self) -> int:
        """Return the wall clock, and remember when it showed that."""
        shown, real = super().now_us(), self.real_us()
        first, _ = self._shown.get(shown, (real, real))
        self._shown[shown] = (first, real)
        return shown

    def real_us(self) -> int:
        """Return real time, in microseconds."""
        return START_US + self._mono_us

    def step(self, seconds: float) -> None:
        """Set the wall clock alone, either way."""
        super().step(seconds)
        self.steps.append(Step(self.real_us(), round(seconds * 1e6)))

    def when(self, shown: int) -> tuple[int, int]:
        """Return the first and the last moment, in real time, that showed *shown*.

        Raises:
            KeyError: Nobody read that from this clock.
        """
        return self._shown[shown]

    def stepped(self, since: int, until: int) -> list[Step]:
        """Return the steps after *since*, not after *until*, in real time."""
        return [step for step in self.steps if since <= step.at <= until]
