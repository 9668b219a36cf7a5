"""Awaiting other people's code: whatever it does, the step that called it goes on.

Each call runs in a task of its own. So a call that swallows its cancellation is left
behind, one that cancels itself cancels no step, and one that exits the process only
raises. One watchdog looks after the time limits of all calls: a timer for each would
cost more than most calls do. A connector that has a thread of its own is called there.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

from orchestrator._engine._outcomes import Raised, TimedOut
from orchestrator._engine._threads import ThreadCall
from orchestrator._engine._turns import timed
from orchestrator._faults import Crash
from orchestrator._secrets import get_logger

if TYPE_CHECKING:
    from orchestrator._clock import Clock
    from orchestrator._engine._lanes import Lane, Lanes
    from orchestrator._engine._turns import Method, Turns

logger = get_logger(__name__)

_LAST_WAIT_S = 1.0


class Answer(asyncio.Future[Any]):
    """What a step awaits of its call: the value, or `Raised`, or `TimedOut`.

    Given once, by the call or by the watchdog. A step that is cancelled leaves its
    call behind, cancelled too.
    """

    def __init__(self, guard: Guard, calls: dict[Answer, float]) -> None:
        """Be one of *calls* until the outcome is given."""
        super().__init__()
        self._guard = guard
        self._calls = calls
        self.task: asyncio.Future[Any]
        self.cancels = True

    def give(self, outcome: Any) -> None:
        """Resolve, unless the other was first or the step has gone."""
        if not self.done():
            del self._calls[self]
            self.set_result(outcome)

    def break_off(self, error: BaseException) -> None:
        """Let the step end as this process does."""
        if not self.done():
            del self._calls[self]
            self.set_exception(error)

    def expire(self, now: float) -> None:
        """Tell that the time is over, unless the call has begun later than asked."""
        if isinstance(self.task, ThreadCall):
            later = self.task.expire(now)
            if later is not None:
                del self._calls[self]
                self._calls = self._guard.later
                self._calls[self] = later
                return
        if self.cancels:
            self._guard.leave(self.task)
        self.give(TimedOut(self.task))

    def cancel(self, msg: Any | None = None) -> bool:
        """Leave the call behind: the step does not want its answer any more."""
        if not self.done():
            del self._calls[self]
            self._guard.leave(self.task)
        return super().cancel(msg)


class Guard:
    """Makes calls, and keeps those that would not end."""

    def __init__(self, clock: Clock, lanes: Lanes) -> None:
        """Limit calls by *clock*; make them where *lanes* say."""
        self._clock = clock
        self._lanes = lanes
        self._turns = lanes.turns
        self._left_behind: set[asyncio.Future[Any]] = set()
        self._watchdog: asyncio.Task[None] | None = None
        self._limits: dict[float, dict[Answer, float]] = {}
        """By time limit, calls and their deadlines: each dict's first is its next."""
        self.later: dict[Answer, float] = {}
        """Calls that waited for their thread, in no order."""
        self._looks_at = math.inf
        self._sooner = asyncio.Event()

    def call(
        self,
        lane: Lane,
        method: Method,
        kwargs: dict[str, Any],
        timeout_s: float,
        *,
        cancel: bool = True,
    ) -> Answer:
        """Start a call; await its `Answer`.

        Args:
            lane: Where the connector runs.
            method: The connector's.
            kwargs: What it takes.
            timeout_s: Seconds until it counts as timed out, once it has begun. One
                that has not begun by then, in a thread, raises TransientError: it was
                surely not made.
            cancel: Whether a call that timed out is cancelled; else it goes on.
        """
        calls = self._limits.get(timeout_s)
        if calls is None:
            calls = self._limits[timeout_s] = {}
        answer = Answer(self, calls)
        answer.cancels = cancel
        deadline = calls[answer] = self._clock.monotonic() + timeout_s
        if lane.threads is None:
            answer.task = asyncio.create_task(
                _guarded(lane, method, kwargs, answer, self._turns)
            )
        else:
            answer.task = lane.threads.call(method, kwargs, timeout_s, answer)
        if deadline < self._looks_at:
            self._look_at(deadline)
        return answer

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
            looks_at = min(
                (self._expire(calls, now) for calls in self._limits.values()),
                default=math.inf,
            )
            self._looks_at = min(looks_at, self._expire_later(now))
        self._watchdog = None

    @staticmethod
    def _expire(calls: dict[Answer, float], now: float) -> float:
        """Return the next deadline of calls with one limit, once the past is told."""
        over = []
        next_deadline = math.inf
        for answer, deadline in calls.items():
            if deadline > now:
                next_deadline = deadline
                break
            over.append(answer)
        for answer in over:
            answer.expire(now)
        return next_deadline

    def _expire_later(self, now: float) -> float:
        """Return the next deadline of calls that have one of their own."""
        if not self.later:
            return math.inf
        for answer in [
            each for each, deadline in self.later.items() if deadline <= now
        ]:
            answer.expire(now)
        return min(self.later.values(), default=math.inf)

    def leave(self, task: asyncio.Future[Any]) -> None:
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
        await self._lanes.stop()


async def _guarded(
    lane: Lane, method: Method, kwargs: dict[str, Any], answer: Answer, turns: Turns
) -> Any:
    """Call *method*, give its answer or error; return it for who comes late.

    A task must not end with SystemExit, which stops the loop.
    """
    outcome: Any
    try:
        outcome = await timed(lane, method, kwargs, turns)
    except (KeyboardInterrupt, Crash) as error:
        answer.break_off(error)
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a call raises
        outcome = Raised(error)
    answer.give(outcome)
    return outcome
