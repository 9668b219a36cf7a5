"""Lanes: whether a connector's calls run on the engine's loop or in its own thread."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from orchestrator._engine._threads import Threads
from orchestrator._engine._turns import Monitor, Turns, timed

if TYPE_CHECKING:
    from orchestrator._clock import Clock
    from orchestrator._connector import AsyncConnector
    from orchestrator._engine._turns import Method

logger = logging.getLogger(__name__)

BLOCKS_MAX = 3
"""A connector that does not say where it runs gets a thread when it has blocked the
loop so often ..."""
WINDOW_S = 600.0
"""... within so many seconds ..."""
SHARE = 10
"""... and in every so-manieth call since: a busy machine alone moves nobody."""
WARN_EVERY_S = 60.0


class Lane:
    """Where the calls of one connector run.

    Attributes:
        threads: Its own thread; None on the engine's loop.
        calls: How many calls it made on the engine's loop.
    """

    __slots__ = ("blocks", "calls", "connector", "name", "threads", "warn_at")

    def __init__(self, connector: AsyncConnector[Any]) -> None:
        """Begin on the engine's loop."""
        self.connector = connector  # kept: lanes are found by its id
        self.name = type(connector).__qualname__
        self.threads: Threads | None = None
        self.calls = 0
        self.blocks: list[tuple[float, int]] = []
        self.warn_at = float("-inf")

    def says(self, method: Method) -> str:
        """Return connector, method and task type for a log."""
        called = getattr(method, "__name__", "a method")
        return f"{self.name}.{called} (task type {self.connector.task_type_name})"


class Lanes:
    """The lanes of all connectors, and the watch over the engine's loop."""

    def __init__(self, clock: Clock) -> None:
        """Time turns by *clock*."""
        self._clock = clock
        self._lanes: dict[int, Lane] = {}
        self.turns = Turns(clock.monotonic, self._slow)
        self.monitor = Monitor(self.turns)

    def of(self, connector: AsyncConnector[Any]) -> Lane:
        """Return the lane of *connector*."""
        return self._lanes.get(id(connector)) or self._new(connector)

    def _new(self, connector: AsyncConnector[Any]) -> Lane:
        lane = self._lanes[id(connector)] = Lane(connector)
        if connector.runs_in == "thread":
            lane.threads = Threads(lane, self._clock)
        return lane

    def _slow(self, lane: Lane, method: Method, took_s: float) -> None:
        """Name who kept the loop for *took_s*; a connector that does it often moves."""
        now = self._clock.monotonic()
        if now >= lane.warn_at:
            lane.warn_at = now + WARN_EVERY_S
            logger.warning(
                "%s kept the event loop for %.0f ms: all other jobs wait meanwhile;"
                ' set runs_in = "thread", or hand what blocks to asyncio.to_thread',
                lane.says(method),
                took_s * 1000,
            )
        if lane.connector.runs_in is not None or lane.threads is not None:
            return
        recent = [block for block in lane.blocks if block[0] > now - WINDOW_S]
        recent.append((now, lane.calls))
        lane.blocks = recent[-BLOCKS_MAX:]
        calls = lane.calls - lane.blocks[0][1] + 1
        if len(recent) >= BLOCKS_MAX and calls <= BLOCKS_MAX * SHARE:
            lane.threads = Threads(lane, self._clock)
            logger.warning(
                "%s has blocked the event loop %d times: its calls run in a thread of"
                ' their own from now on; say so in the class: runs_in = "thread"'
                ' ("loop" to keep it where it was)',
                lane.name,
                len(recent),
            )

    async def run(
        self, connector: AsyncConnector[Any], method: Method, kwargs: dict[str, Any]
    ) -> Any:
        """Call *method* where *connector* runs, without a time limit.

        Raises:
            BaseException: Whatever the method raises.
            TransientError: Its threads are stuck, and it was not called.
        """
        lane = self.of(connector)
        if lane.threads is None:
            lane.calls += 1
            return await timed(lane, method, kwargs, self.turns)
        return await lane.threads.run(method, kwargs)

    async def stop(self) -> None:
        """End the threads; those that do not end are named and left behind."""
        self.monitor.stop()
        threads = [lane.threads for lane in self._lanes.values() if lane.threads]
        await asyncio.gather(*(each.stop() for each in threads))
