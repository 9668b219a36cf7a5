"""Awaiting other people's code: whatever it does, the step that called it goes on.

Each call runs in a task of its own. So a call that swallows its cancellation is left
behind, one that cancels itself cancels no step, and one that exits the process only
raises. One watchdog looks after the time limits of all calls: a timer for each would
cost more than most calls do.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from orchestrator._faults import Crash

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator._clock import Clock

logger = logging.getLogger(__name__)

_LAST_WAIT_S = 1.0


class Raised:
    """What a call raised, kept as a value."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        """Keep *error*."""
        self.error = error


class TimedOut:
    """The call did not answer in time; it was cancelled, or goes on as *task*."""

    __slots__ = ("task",)

    def __init__(self, task: asyncio.Task[Any]) -> None:
        """Keep the call's *task*."""
        self.task = task


class Guard:
    """Makes calls, and keeps those that would not end."""

    def __init__(self, clock: Clock) -> None:
        """Limit calls by *clock*."""
        self._clock = clock
        self._left_behind: set[asyncio.Task[Any]] = set()
        self._watchdog: asyncio.Task[None] | None = None
        self._limits: dict[float, dict[_Answer, float]] = {}
        """By time limit, calls and their deadlines: each dict's first is its next."""
        self._looks_at = math.inf
        self._sooner = asyncio.Event()

    async def call(
        self,
        method: Callable[..., Awaitable[Any]],
        kwargs: dict[str, Any],
        timeout_s: float,
        *,
        cancel: bool = True,
    ) -> Any:
        """Return the answer, or `Raised`, or `TimedOut`.

        Args:
            method: The connector's.
            kwargs: What it takes.
            timeout_s: Seconds until it counts as timed out.
            cancel: Whether a call that timed out is cancelled; else it goes on.
        """
        answer: _Answer = _Answer()
        task = asyncio.create_task(_guarded(method, kwargs, answer))
        calls = self._limits.setdefault(timeout_s, {})
        deadline = calls[answer] = self._clock.monotonic() + timeout_s
        if deadline < self._looks_at:
            self._look_at(deadline)
        try:
            outcome = await answer
        except BaseException:  # this step is cancelled, or its process "crashes"
            self._leave(task)
            raise
        finally:
            del calls[answer]
        if outcome is _LATE:
            if cancel:
                self._leave(task)
            return TimedOut(task)
        return outcome

    def _look_at(self, deadline: float) -> None:
        self._looks_at = deadline
        if self._watchdog is None:
            self._watchdog = asyncio.create_task(
                self._watch(), name="orchestrator-watchdog"
            )
        else:
            self._sooner.set()

    async def _watch(self) -> None:
        """Tell calls that their time is over, while there are calls."""
        while self._looks_at < math.inf:
            now = self._clock.monotonic()
            if self._looks_at > now:
                self._sooner.clear()
                await self._clock.wait(self._sooner, self._looks_at - now)
                now = self._clock.monotonic()
            self._looks_at = min(
                (self._expire(calls, now) for calls in self._limits.values()),
                default=math.inf,
            )
        self._watchdog = None

    @staticmethod
    def _expire(calls: dict[_Answer, float], now: float) -> float:
        """Return the next deadline of calls with one limit, once the past is told."""
        for answer, deadline in calls.items():
            if deadline > now:
                return deadline
            answer.give(_LATE)
        return math.inf

    def _leave(self, task: asyncio.Task[Any]) -> None:
        """Cancel *task* without waiting: it may not listen."""
        if task.done():
            return
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)
        task.cancel()

    async def stop(self) -> None:
        """Give what was left behind a last moment; name what does not end."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
            self._looks_at = math.inf
        if self._left_behind:
            await asyncio.wait(set(self._left_behind), timeout=_LAST_WAIT_S)
        for task in self._left_behind:
            logger.error("a call of a connector does not end: %r", task)


_LATE = object()


class _Answer(asyncio.Future[Any]):
    """What a step awaits: given once, by the call or by the watchdog."""

    def give(self, outcome: Any) -> None:
        """Resolve, unless the other was first or the step has gone."""
        if not self.done():
            self.set_result(outcome)


def is_ours(error: BaseException) -> bool:
    """Whether *error* is about the current task's process and not about a call."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, (KeyboardInterrupt, Crash))


async def _guarded(
    method: Callable[..., Awaitable[Any]], kwargs: dict[str, Any], answer: _Answer
) -> Any:
    """Call *method*, give its answer or error; return it for who comes late.

    A task must not end with SystemExit, which stops the loop.
    """
    outcome: Any
    try:
        outcome = await method(**kwargs)
    except (KeyboardInterrupt, Crash) as error:
        if not answer.done():
            answer.set_exception(error)
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a call raises
        outcome = Raised(error)
    answer.give(outcome)
    return outcome
