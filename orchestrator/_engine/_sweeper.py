"""Searches on for jobs that a service lists later than it was waited for.

A search that was believed to have found nothing is repeated, ever more rarely. A job
that it finds late is entered in the ledger; if it is not the attempt's own, it owes
cleanup and is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator._engine._answers import name_of
from orchestrator._phase import Cleanup
from orchestrator._records import Call, Found
from orchestrator._secrets import get_logger
from orchestrator.errors import StoreUnavailableError

if TYPE_CHECKING:
    from orchestrator._engine._contexts import Context
    from orchestrator._engine._parts import Parts
    from orchestrator._records import NewJob
    from orchestrator._storage import Search

logger = get_logger(__name__)


class Sweeper:
    """Makes the searches that are due."""

    def __init__(self, parts: Parts) -> None:
        """Work with the engine's *parts*."""
        self._store = parts.store
        self._contexts = parts.contexts
        self._calls = parts.calls
        self._clock = parts.clock
        self._belief = parts.belief
        self._released = parts.released

    async def claim(self, limit: int, now: int) -> list[Search]:
        """Take up to *limit* searches that are due."""
        return await self._store.claim_searches(
            limit=limit,
            loaded=self._contexts.loaded(),
            now=now,
            believed=lambda since: self._belief.believed(since, now),
        )

    async def search(self, search: Search) -> None:
        """Ask for the token once; a search that fails is made at its next time."""
        try:
            context = await self._contexts.get(
                search.task_type, search.task_version, search.template_hash
            )
            if context is None:
                return
            inputs = await self._store.inputs_proto(search.id)
            answer = await self._calls.make(
                Call.FIND, search._replace(inputs=inputs), context
            )
            if not isinstance(answer, Found):
                return
            if answer.job is not None:
                await self._enter(search, answer.job, context)
            if search.until is not None:
                await self._store.end_search(search)
        except StoreUnavailableError as error:
            logger.debug("search for %s is put off: %s", search.id, error)
        except Exception:
            logger.exception("searching for a job of %s broke", search.id)

    async def _enter(self, search: Search, job: NewJob, context: Context) -> None:
        if await self._may_be_known(search, job, context):
            return
        now = self._clock.now_us()
        await self._store.record(search, search.attempt, job, now)
        await self._store.wake(search.id, now)
        self._released(now)

    async def _may_be_known(
        self, search: Search, job: NewJob, context: Context
    ) -> bool:
        """Whether *job* may be one that the attempt has: then it must not be deleted.

        Asked by names that today's code gives to both: ``job_key`` may have been
        broken, or another one, when the attempt's own job was entered.
        """
        name = name_of(job.meta, context)
        if name is None:
            return True
        for known in await self._store.jobs(execution_id=search.id):
            if known.attempt != search.attempt:
                continue
            other = name_of(known.meta, context)
            if other == name or (other is None and known.cleanup is Cleanup.NONE):
                return True
        return False
