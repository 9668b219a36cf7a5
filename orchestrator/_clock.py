"""Time: the one place that reads the system's clocks and sleeps."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """What the engine knows of time. Handed to constructors, never global."""

    def now_us(self) -> int:
        """Wall clock: microseconds since 1970-01-01 UTC. May step either way."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; the zero means nothing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after *seconds* (0 yields to the event loop once)."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return True when *event* is set, False after *seconds* without it."""
        ...

    def limit(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Return a context that cancels its body after *seconds*.

        The body's end raises TimeoutError then, as ``asyncio.timeout`` does.
        """
        ...


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> int:
        """Wall clock in microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop."""
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait on the event loop."""
        try:
            async with asyncio.timeout(seconds):
                return await event.wait()
        except TimeoutError:
            return event.is_set()

    def limit(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Limit by the event loop's timer."""
        return asyncio.timeout(seconds)


def to_datetime(us: int) -> datetime:
    """Turn stored microseconds into an aware UTC datetime, exactly."""
    return _EPOCH + timedelta(microseconds=us)


def to_us(moment: datetime) -> int:
    """Turn an aware datetime into stored microseconds, exactly.

    Raises:
        ValueError: *moment* has no time zone.
    """
    if moment.tzinfo is None:
        msg = f"{moment!r} has no time zone: use datetime.now(UTC) or tzinfo=UTC"
        raise ValueError(msg)
    return (moment - _EPOCH) // _MICROSECOND


def seconds_to_us(seconds: float) -> int:
    """Turn seconds into whole microseconds."""
    return round(seconds * 1_000_000)


def duration_to_us(duration: timedelta) -> int:
    """Turn a timedelta into microseconds, exactly."""
    return duration // _MICROSECOND
