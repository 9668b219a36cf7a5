"""Awaiting other people's code: whatever it does, the step that called it goes on.

Each call runs in a task of its own. So a call that swallows its cancellation is left
behind, one that cancels itself cancels no step, and one that exits the process only
raises.
"""

from __future__ import annotations

import asyncio
import logging
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
        task = asyncio.create_task(_guarded(method, kwargs))
        try:
            async with self._clock.limit(timeout_s):
                return await asyncio.shield(task)
        except TimeoutError:
            if cancel:
                self._leave(task)
            return TimedOut(task)
        except asyncio.CancelledError as error:
            if is_ours(error):
                self._leave(task)
                raise
            return Raised(error)  # the call cancelled itself

    def _leave(self, task: asyncio.Task[Any]) -> None:
        """Cancel *task* without waiting: it may not listen."""
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)
        task.cancel()

    async def stop(self) -> None:
        """Give what was left behind a last moment; name what does not end."""
        if self._left_behind:
            await asyncio.wait(set(self._left_behind), timeout=_LAST_WAIT_S)
        for task in self._left_behind:
            logger.error("a call of a connector does not end: %r", task)


def is_ours(error: BaseException) -> bool:
    """Whether *error* is about the current task's process and not about a call."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, (KeyboardInterrupt, Crash))


async def _guarded(
    method: Callable[..., Awaitable[Any]], kwargs: dict[str, Any]
) -> Any:
    """Call *method*; a task must not end with SystemExit, which stops the loop."""
    try:
        return await method(**kwargs)
    except BaseException as error:
        if is_ours(error):
            raise
        return Raised(error)
