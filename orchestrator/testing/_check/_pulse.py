"""Measures how long connector calls keep the event loop from turning."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator._clock import Clock

_BEAT_S = 0.002
_TICK_S = 0.005
_SURE = 4
"""One turn that is so many times too long is a finding; else it takes a quarter of the
calls, and two at least: single ones may be the machine's doing."""


class Pulse:
    """A heartbeat on the loop, and beside it a thread that notices a busy machine.

    A turn's length is the time between two beats during a call. What a thread that
    does nothing was late by meanwhile is not counted against the call: then the whole
    process did not run. Processor time of the loop's own thread always counts.

    Attributes:
        turns: The longest turn of each call, in seconds, by method.
    """

    def __init__(self, clock: Clock) -> None:
        """Measure with *clock*."""
        self._clock = clock
        self.turns: dict[str, list[float]] = defaultdict(list)
        self._method: str | None = None
        self._longest = 0.0
        self._last = (0.0, 0.0, 0.0)
        self._stop = threading.Event()
        self._late_s = 0.0
        self._ticked = clock.monotonic()
        self._thread = threading.Thread(
            target=self._tick, name="orchestrator-metronome", daemon=True
        )

    async def __aenter__(self) -> Self:
        """Begin to beat."""
        self._thread.start()
        self._beats = asyncio.create_task(self._beat(), name="orchestrator-pulse")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""
        self._beats.cancel()
        await asyncio.wait([self._beats])
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    def _tick(self) -> None:
        while not self._stop.wait(_TICK_S):
            now = self._clock.monotonic()
            self._late_s += max(now - self._ticked - 2 * _TICK_S, 0)
            self._ticked = now

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(_BEAT_S)
            if self._method is not None:
                self._turned()

    def _now(self) -> tuple[float, float, float]:
        now = self._clock.monotonic()
        late = self._late_s + max(now - self._ticked - 2 * _TICK_S, 0)
        return now, late, time.thread_time()

    def _turned(self) -> None:
        now = self._now()
        wall, late, busy = (a - b for a, b in zip(now, self._last, strict=True))
        self._longest = max(self._longest, wall - max(late, 0), busy)
        self._last = now

    @contextmanager
    def during(self, method: str) -> Iterator[None]:
        """Measure a call of *method*; one at a time, as a tick makes them."""
        self._method, self._longest, self._last = method, 0.0, self._now()
        try:
            yield
        finally:
            self._turned()
            self.turns[method].append(self._longest)
            self._method = None

    def blocked(self, limit_s: float) -> dict[str, float]:
        """Return the methods that kept the loop for too long, and the longest turn."""
        found = {}
        for method, turns in self.turns.items():
            ordered = sorted(turns, reverse=True)
            usual = ordered[min(max(len(ordered) // 4, 1), len(ordered) - 1)]
            if usual > limit_s or ordered[0] > _SURE * limit_s:
                found[method] = ordered[0]
        return found
