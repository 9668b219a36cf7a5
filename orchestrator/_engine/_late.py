"""Creates that did not answer in time: they go on, and what they say is entered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from orchestrator._engine._answers import new_job
from orchestrator._engine._outcomes import Raised
from orchestrator._engine._threads import ThreadCall
from orchestrator._secrets import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator._clock import Clock
    from orchestrator._engine._caller import Caller
    from orchestrator._engine._contexts import Context
    from orchestrator._records import Claimed, NewJob

logger = get_logger(__name__)


class Late:
    """The detached creates of one engine."""

    def __init__(
        self,
        clock: Clock,
        caller: Caller,
        record: Callable[[Claimed, NewJob], Awaitable[None]],
    ) -> None:
        """Hand what creates answer late to *record*."""
        self._clock = clock
        self._caller = caller
        self._record = record
        self._detached: dict[tuple[str, int], set[asyncio.Task[None]]] = {}
        self._last_words: set[asyncio.Task[None]] = set()

    def in_flight(self, row: Claimed) -> bool:
        """Whether a detached create of this attempt may still answer."""
        return (row.id, row.attempt) in self._detached

    async def stop(self) -> None:
        """Cancel them; their rows are recovered at the next start."""
        tasks = [task for tasks in self._detached.values() for task in tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    async def last_words(self) -> None:
        """Wait a moment for what is being entered."""
        if self._last_words:
            await asyncio.wait(self._last_words, timeout=1)

    def detach(self, task: asyncio.Future[Any], row: Claimed, context: Context) -> None:
        """Let a create go on; several calls of one attempt may be under way."""
        key = (row.id, row.attempt)
        late = asyncio.create_task(
            self._answer(task, row, context), name=f"late-create-{row.id}"
        )
        self._detached.setdefault(key, set()).add(late)

        def ended(late: asyncio.Task[None]) -> None:
            self._caller.leave(task)  # of no effect on one that has answered
            self._detached[key].discard(late)
            if not self._detached[key]:
                del self._detached[key]
            if not late.cancelled() and late.exception() is not None:
                logger.error("a late answer was lost", exc_info=late.exception())
            if not task.done():
                task.add_done_callback(lambda _: self._last_word(task, row, context))

        # Not before its answer is in the ledger: until then it is in flight.
        late.add_done_callback(ended)

    async def _answer(
        self, task: asyncio.Future[Any], row: Claimed, context: Context
    ) -> None:
        policy = context.policies.policy
        left = (policy.create_hard_timeout - policy.create_timeout).total_seconds()
        try:
            async with self._clock.limit(left):
                # Shielded: a call that swallows its cancellation must not be waited
                # for, or its row would be in flight for ever.
                answer = await asyncio.shield(task)
        except (TimeoutError, asyncio.CancelledError) as error:
            if _answered(task):  # in this very turn
                answer = task.result()
            elif isinstance(error, TimeoutError):
                logger.warning("create of %s gave no answer at all", row.id)
                return
            else:
                raise
        await self._enter(answer, row, context)

    def _last_word(
        self, task: asyncio.Future[Any], row: Claimed, context: Context
    ) -> None:
        """Enter the answer of a create that did not listen when it was given up."""
        if not _answered(task) or isinstance(task.result(), Raised):
            return
        logger.warning("create of %s answered after it was given up", row.id)
        entering = asyncio.create_task(self._enter(task.result(), row, context))
        self._last_words.add(entering)

        def ended(entering: asyncio.Task[None]) -> None:
            self._last_words.discard(entering)
            if not entering.cancelled() and entering.exception() is not None:
                logger.error("a last answer was lost", exc_info=entering.exception())

        entering.add_done_callback(ended)

    async def _enter(self, answer: Any, row: Claimed, context: Context) -> None:
        """Enter what a create has answered late in the ledger."""
        if isinstance(answer, Raised):
            return
        try:
            job = new_job(answer, row.id, row.attempt, context)
        except KeyboardInterrupt:
            raise
        except BaseException:
            logger.exception("create of %s answered late, and nonsense", row.id)
            return
        await self._record(row, job)


def _answered(task: asyncio.Future[Any]) -> bool:
    if isinstance(task, ThreadCall):
        task.settle()  # what its thread has said in this very moment
    return task.done() and not task.cancelled() and task.exception() is None
