"""The alarm: what the scheduler sleeps by, and what wakes it early."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator._clock import Clock


class Alarm:
    """Ends the sleep of `Scheduler.run`.

    Attributes:
        event: Set from a wake-up until the next tick begins.
    """

    def __init__(self, clock: Clock) -> None:
        """Sleep by *clock*; not set yet."""
        self.event = asyncio.Event()
        self._clock = clock
        self._until = 0
        self._asleep = False

    @property
    def asleep(self) -> bool:
        """Whether there is nothing to wait for but the clock."""
        return self._asleep and not self.event.is_set()

    def wake(self) -> None:
        """Tick now, or right after the tick that is under way."""
        self.event.set()

    def released(self, due_at: int) -> None:
        """Note that some row is due at *due_at*: wakes who would sleep longer."""
        if due_at < self._until:
            self.event.set()

    def begin(self) -> None:
        """Begin a tick: what is released from here on, and due by now, wakes."""
        self.event.clear()
        self._until = self._clock.now_us()

    def set(self, until: int) -> None:
        """Have `released` wake for all that is due before *until*."""
        self._until = until

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless or until somebody wakes."""
        self._asleep = True
        await self._clock.wait(self.event, seconds)
        self._asleep = False
