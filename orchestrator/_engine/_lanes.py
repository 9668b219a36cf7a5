"""Lanes: whether a connector's calls run on the engine's loop or in its own thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from orchestrator._engine._threads import Threads
from orchestrator._engine._turns import Monitor, Turns
from orchestrator._secrets import get_logger

if TYPE_CHECKING:
    from orchestrator._clock import Clock
    from orchestrator._connector import AsyncConnector
    from orchestrator._engine._turns import Method

logger = get_logger(__name__)

WARN_EVERY_S = 60.0


class Lane:
    """Where the calls of one connector run.

    Attributes:
        threads: Its own thread; None on the engine's loop. It never changes: what a
            connector has made on a loop answers on that loop alone.
    """

    __slots__ = ("connector", "name", "threads", "warn_at")

    def __init__(self, connector: AsyncConnector[Any]) -> None:
        """Begin on the engine's loop."""
        self.connector = connector  # kept: lanes are found by its id
        self.name = type(connector).__qualname__
        self.threads: Threads | None = None
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
        """Name who kept the loop for *took_s*, at most once a minute."""
        now = self._clock.monotonic()
        if now < lane.warn_at:
            return
        lane.warn_at = now + WARN_EVERY_S
        logger.warning(
            "%s kept the event loop for %.0f ms: all other jobs wait meanwhile;"
            ' set runs_in = "thread", or hand what blocks to asyncio.to_thread',
            lane.says(method),
            took_s * 1000,
        )

    async def stop(self) -> None:
        """End the threads; those that do not end are named and left behind."""
        self.monitor.stop()
        threads = [lane.threads for lane in self._lanes.values() if lane.threads]
        await asyncio.gather(*(each.stop() for each in threads))
