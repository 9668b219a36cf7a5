"""A clock that stands still until a test moves it; timers fire in order of time."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

START_US = 1_790_000_000_000_000
"""Where a manual clock starts: a moment in September 2026."""


class ManualClock:
    """Implements the engine's `Clock`: both clocks move by `advance` alone.

    `step` moves the wall clock alone, as an operator or a time server does. Nothing
    here waits for real time.
    """

    def __init__(self, start_us: int = START_US) -> None:
        self._wall_us = start_us
        self._mono_us = 0
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._live: set[int] = set()
        self._started = asyncio.Event()

    # The engine's side

    def now_us(self) -> int:
        """Return the wall clock."""
        return self._wall_us

    def monotonic(self) -> float:
        """Return seconds since the clock was made."""
        return self._mono_us / 1e6

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was moved by *seconds*; 0 is one turn of the loop."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        over = asyncio.Event()
        with self._timer(seconds, over.set):
            await over.wait()

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return True when *event* is set, False once the clock was moved past it."""
        try:
            async with self.limit(seconds):
                return await event.wait()
        except TimeoutError:
            return event.is_set()

    @contextlib.asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[object]:
        """Cancel the body once the clock was moved by *seconds*."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as timeout:

            def expire() -> None:
                timeout.reschedule(loop.time() - 1)

            if seconds <= 0:
                expire()
            with self._timer(seconds, expire):
                yield timeout

    @contextlib.contextmanager
    def _timer(self, seconds: float, fire: Callable[[], None]) -> Iterator[None]:
        order = next(self._order)
        at_us = self._mono_us + round(seconds * 1e6)
        heapq.heappush(self._timers, (at_us, order, fire))
        self._live.add(order)
        self._started.set()
        try:
            yield
        finally:
            self._live.discard(order)

    # The test's side

    def advance(self, seconds: float) -> None:
        """Move both clocks; fire what comes due on the way, in order."""
        target = self._mono_us + round(seconds * 1e6)
        while self._timers and self._timers[0][0] <= target:
            at_us, order, fire = heapq.heappop(self._timers)
            if order not in self._live:
                continue
            self._live.discard(order)
            self._move(at_us - self._mono_us)
            fire()
        self._move(target - self._mono_us)

    def _move(self, us: int) -> None:
        self._wall_us += us
        self._mono_us += us

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, either way; no timer notices."""
        self._wall_us += round(seconds * 1e6)

    def next_in(self) -> float | None:
        """Return seconds until the next timer fires, None without one."""
        moments = [at_us for at_us, order, _ in self._timers if order in self._live]
        return (min(moments) - self._mono_us) / 1e6 if moments else None

    async def drive(self, *tasks: asyncio.Task[Any]) -> list[float]:
        """Let time pass as somebody waits for it, until *tasks* are done.

        Returns:
            The waits that were ended.
        """
        waits: list[float] = []
        while pending := [task for task in tasks if not task.done()]:
            sleeping = asyncio.create_task(self.sleeping())
            await asyncio.wait(
                [*pending, sleeping], return_when=asyncio.FIRST_COMPLETED
            )
            if sleeping.done() and not all(task.done() for task in tasks):
                waits.append(sleeping.result())
                self.advance(waits[-1])
            sleeping.cancel()
            await asyncio.wait([sleeping])
        return waits

    async def sleeping(self) -> float:
        """Return, once somebody waits, in how many seconds the first wait ends."""
        while (seconds := self.next_in()) is None:
            self._started.clear()
            await self._started.wait()
        return seconds
