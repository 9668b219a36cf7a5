"""Turns: how long connector code keeps an event loop, and who has it right now."""

from __future__ import annotations

import sys
import threading
import traceback
import types
from typing import TYPE_CHECKING, Any

from orchestrator._secrets import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from orchestrator._engine._lanes import Lane

    Method = Callable[..., Awaitable[Any]]

logger = get_logger(__name__)

SLOW_S = 0.1
"""A turn that is longer keeps others waiting, and is named."""

LOOK_S = 1.0
"""The monitor looks so often: a block is told of after one to two of these."""

_FRAMES_MAX = 12


class Turns:
    """The turns of one event loop that are a connector's; written by its thread alone.

    Attributes:
        number: Counts turns.
        method: What has the loop now; None while nothing of a connector has it.
        lane: Whose method that is, or was.
        since: When it got the loop.
        over_at: When the last turn was over.
        unwatched: Whether `Monitor` has to be woken by the next turn.
    """

    __slots__ = (
        "lane",
        "method",
        "monotonic",
        "number",
        "over_at",
        "since",
        "slow",
        "unwatched",
    )

    def __init__(
        self,
        monotonic: Callable[[], float],
        slow: Callable[[Lane, Method, float], None] | None = None,
    ) -> None:
        """Tell *slow* of turns that took longer than `SLOW_S`; None tells nobody."""
        self.monotonic = monotonic
        self.slow = slow
        self.number = 0
        self.method: Method | None = None
        self.lane: Lane | None = None
        self.since = 0.0
        self.over_at = float("-inf")
        self.unwatched: Callable[[], None] | None = None

    def blocked_since(self) -> float | None:
        """Return when the turn began that is under way, None without one."""
        number, method, since = self.number, self.method, self.since
        return since if method is not None and number == self.number else None


@types.coroutine
def timed(
    lane: Lane, method: Method, kwargs: dict[str, Any], turns: Turns
) -> Generator[Any, Any, Any]:
    """Await ``method(**kwargs)``, as a coroutine whose turns are counted and timed.

    (Python drives the coroutine as ``await`` would: there is no hook for it.)
    """
    monotonic = turns.monotonic
    coroutine = _awaited(method, kwargs)
    send = step = coroutine.send
    argument: Any = None
    while True:
        turns.number += 1
        turns.lane = lane
        turns.since = began = monotonic()
        turns.method = method
        if turns.unwatched is not None:
            turns.unwatched()
        try:
            waits_for = step(argument)
        except StopIteration as stop:
            return stop.value
        finally:
            turns.over_at = now = monotonic()
            turns.method = argument = None
            took = now - began
            if took > SLOW_S and turns.slow is not None:
                turns.slow(lane, method, took)
        step = send
        try:
            yield waits_for
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation, most of all
            step, argument = coroutine.throw, error


async def _awaited(method: Method, kwargs: dict[str, Any]) -> Any:
    return await method(**kwargs)


class Monitor:
    """A thread that sees when a turn does not end, since nothing else can.

    It looks while connector code has turns, and waits for the next turn otherwise:
    an idle process is not woken. It reads no clock: a turn that is still the same at
    two looks is a block.
    """

    def __init__(self, turns: Turns) -> None:
        """Watch *turns*; the thread begins with the first."""
        self._turns = turns
        turns.unwatched = self._wake
        self._thread: threading.Thread | None = None
        self._watched = 0
        self._seen = self._told = -1
        self._work = threading.Event()
        self._over = threading.Event()

    def _wake(self) -> None:
        self._turns.unwatched = None
        if self._thread is None:
            self._watched = threading.get_ident()
            self._thread = threading.Thread(
                target=self._run, name="orchestrator-monitor", daemon=True
            )
            self._thread.start()
        self._work.set()

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._work.clear()
            while not self._over.wait(LOOK_S):
                if self.look():
                    continue
                self._turns.unwatched = self._wake
                if self._turns.number == self._seen:
                    break
                self._turns.unwatched = None  # a turn came in between
            if self._over.is_set():
                return

    def look(self) -> bool:
        """Look once, name what blocks; return whether to look again soon."""
        number, method, lane = (
            self._turns.number,
            self._turns.method,
            self._turns.lane,
        )
        if number != self._seen:
            self._seen = number
            return True
        if method is None or lane is None:
            return False
        if self._told != number:
            self._told = number
            logger.error(
                "%s blocks the event loop: no job of this process goes on until it"
                " returns; it is in\n%s",
                lane.says(method),
                self._stack(),
            )
        return True

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - documented
        return "".join(traceback.format_stack(frame)[-_FRAMES_MAX:]) if frame else ""

    def stop(self) -> None:
        """Let the thread end."""
        self._turns.unwatched = None
        self._over.set()
        self._work.set()
