"""A clock that stands still until a test moves it; timers fire in order of time."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import inspect
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from orchestrator._clock import SystemClock
from orchestrator._orchestrator import running_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

START_US = 1_790_000_000_000_000
"""Where a manual clock starts: a moment in September 2026."""

_A_YEAR = timedelta(days=365)
_PATIENCE = timedelta(seconds=1)
_LOOK_EVERY_S = 0.0005
_TURNS = 5
"""Of the event loop: what was just woken shows itself within these."""


class ManualClock:
    """Implements the engine's `Clock`: both clocks move by `advance` alone.

    Ticks by hand (``start=False``) go with `advance`. Around a started engine use
    `run_until`, or `drive`: they let each call and commit end before time passes, and
    so know of no race. `step` moves the wall clock alone, as an operator or a time
    server does.

    Args:
        start_us: Where the wall clock begins, in microseconds since 1970.
        patience: Real time for which `run_until` and `drive` wait for an engine that
            is at work. What takes longer hangs, and time passes: so the time limit
            of a call can come.
    """

    def __init__(
        self, start_us: int = START_US, *, patience: timedelta = _PATIENCE
    ) -> None:
        self._wall_us = start_us
        self._mono_us = 0
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._live: set[int] = set()
        self._started = asyncio.Event()
        self._patience_s = patience.total_seconds()

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

    async def run_until(
        self,
        condition: Callable[[], object | Awaitable[object]],
        *,
        within: timedelta = _A_YEAR,
    ) -> timedelta:
        """Let time pass, timer after timer, until *condition* holds.

        Time stands still while a started Orchestrator of this clock and event loop
        is at work: while it makes a call, reads or commits.

        Args:
            condition: Asked whenever nothing happens until time passes; may be async.
                ``task.done`` waits for the end of a program.
            within: Time on this clock.

        Returns:
            How much time has passed on this clock.

        Raises:
            TimeoutError: It does not hold *within* that time, or never will: nobody
                waits for this clock.
        """
        began = self._mono_us
        until_us = began + round(within.total_seconds() * 1e6)
        while True:
            quiet = await self._quiet()
            answer = condition()
            if await answer if inspect.isawaitable(answer) else answer:
                return timedelta(microseconds=self._mono_us - began)
            seconds = self.next_in()
            if seconds is None and not quiet:
                continue
            if seconds is None or self._mono_us + seconds * 1e6 > until_us:
                waits = "nobody waits" if seconds is None else f"{within} are over"
                msg = f"the condition does not hold, and {waits} on the manual clock"
                raise TimeoutError(msg)
            self.advance(seconds)

    async def _quiet(self) -> bool:
        """Return True when no engine does anything, False when one hangs."""
        real = SystemClock()
        ends = real.monotonic() + self._patience_s
        turns = 0
        while turns < _TURNS:
            turns += 1
            await real.sleep(0)
            if not all(each.quiet for each in running_on(self)):
                turns = 0
                if real.monotonic() >= ends:
                    return False
                await real.sleep(_LOOK_EVERY_S)
        return True

    async def drive(self, *tasks: asyncio.Task[Any]) -> list[float]:
        """Let time pass as somebody waits for it, until *tasks* are done.

        Time stands still while an engine is at work, as with `run_until`.

        Returns:
            The waits that were ended.
        """
        waits: list[float] = []
        while pending := [task for task in tasks if not task.done()]:
            sleeping = asyncio.create_task(self.sleeping())
            await asyncio.wait(
                [*pending, sleeping], return_when=asyncio.FIRST_COMPLETED
            )
            sleeping.cancel()
            await asyncio.wait([sleeping])
            await self._quiet()
            seconds = self.next_in()
            if seconds is not None and not all(task.done() for task in tasks):
                waits.append(seconds)
                self.advance(seconds)
        return waits

    async def sleeping(self) -> float:
        """Return, once somebody waits, in how many seconds the first wait ends."""
        while (seconds := self.next_in()) is None:
            self._started.clear()
            await self._started.wait()
        return seconds
