"""Pays the ledger's debts: deletes jobs that nobody wants, until each is confirmed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from orchestrator._backoff import delay_us
from orchestrator._clock import duration_to_us
from orchestrator._engine._text import describe
from orchestrator._phase import REMOTE_TERMINAL, Cleanup
from orchestrator._records import Call, CallFailed, Failure, Got
from orchestrator._secrets import get_logger
from orchestrator.errors import StoreUnavailableError

if TYPE_CHECKING:
    from orchestrator._engine._contexts import Context
    from orchestrator._engine._parts import Parts
    from orchestrator._storage import OwedJob

logger = get_logger(__name__)


class Cleaner:
    """Deletes one owed job at a time, as often as it takes."""

    def __init__(self, parts: Parts) -> None:
        """Work with the engine's *parts*."""
        self._store = parts.store
        self._contexts = parts.contexts
        self._calls = parts.calls
        self._belief = parts.belief
        self._rng = parts.rng
        self._reach = parts.faults.reach
        self._released = parts.released

    async def claim(self, limit: int, node: str, now: int) -> list[OwedJob]:
        """Take up to *limit* debts that are due, for *node*."""
        return await self._store.claim_cleanups(
            node=node,
            limit=limit,
            loaded=self._contexts.loaded(),
            now=now,
        )

    async def clean(self, job: OwedJob, node: str) -> None:
        """Delete *job* and look whether it is gone; write what became of it.

        Whatever breaks is written as what stood in the way: the debt is tried again.
        """
        context: Context | None = None
        problem: str | None = "the connector is not loaded"
        try:
            context = await self._contexts.get(
                job.task_type, job.task_version, job.template_hash
            )
            if context is not None:
                self._reach("cleanup.before_call")
                problem = await self._delete(job, context)
                self._reach("cleanup.after_call")
        except Exception as error:
            logger.exception("cleaning up job %s broke", job.job_key)
            problem = self._calls.say(describe(error))
        now = self._belief.now()
        due: int | None = None
        if problem is None:
            cleanup = Cleanup.DONE
        elif context is not None and self._too_late(job, context, now):
            cleanup = Cleanup.ABANDONED
            logger.error(
                "job %s of execution %s is ABANDONED: %s",
                job.job_key,
                job.execution_id,
                problem,
            )
        else:
            cleanup = Cleanup.DUE
            due = now + self._delay(job, context)
        self._reach("cleanup.before_commit")
        try:
            await self._store.finish_cleanup(
                job, node=node, cleanup=cleanup, due_at=due, error=problem
            )
        except StoreUnavailableError:
            logger.debug("the store is closed: debt %s is free with its node", job.id)
            return
        self._reach("cleanup.after_commit")
        if due is not None:
            self._released(due)

    async def _delete(self, job: OwedJob, context: Context) -> str | None:
        """Return what stands in the way, None if the job is surely gone."""
        row = SimpleNamespace(id=job.execution_id, meta=job.meta)
        deleted = await self._calls.make(Call.DELETE, row, context)
        failed = isinstance(deleted, CallFailed)
        if _is_gone(deleted) or (not failed and context.policies.delete_is_final):
            return None
        answer = await self._calls.make(Call.GET, row, context)
        if isinstance(answer, CallFailed):
            # Services list new jobs late, and a debt is no younger than its job.
            grace = duration_to_us(context.policies.policy.gone_grace)
            now = self._belief.believed(job.since, self._belief.now())
            listed = now >= job.since + grace
            return None if _is_gone(answer) and listed else answer.message
        phase = answer.phase if isinstance(answer, Got) else None
        if phase in REMOTE_TERMINAL:
            return None
        if isinstance(deleted, CallFailed):
            return deleted.message
        return f"the job is still {phase}"

    def _too_late(self, job: OwedJob, context: Context, now: int) -> bool:
        deadline = duration_to_us(context.policies.policy.cleanup_deadline)
        return self._belief.believed(job.since, now) >= job.since + deadline

    def _delay(self, job: OwedJob, context: Context | None) -> int:
        if context is not None:
            return context.policies.error_delay(job.tries + 1, self._rng)
        return delay_us(
            job.tries, first=10**6, cap=300 * 10**6, factor=2, jitter=0.1, rng=self._rng
        )


def _is_gone(answer: object) -> bool:
    return isinstance(answer, CallFailed) and answer.failure is Failure.GONE
