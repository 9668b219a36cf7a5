"""The ledger: every job that was told of, who has adopted it, and who owes its end.

Facts are written whoever holds the lease; what a transition means for a job is
written with it. Equal keys are one job, and the first entry stays.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator._ids import create_token
from orchestrator._phase import Cleanup, Phase
from orchestrator._records import NewJob
from orchestrator._secrets import get_logger
from orchestrator._storage._items import Item
from orchestrator._storage._tx import insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._records import Claimed, Execution
    from orchestrator._storage._apply import Apply
    from orchestrator._storage._sweeps import Search
    from orchestrator._storage._tx import Tx

logger = get_logger(__name__)

JOB_COLUMNS = (
    "execution_id",
    "attempt",
    "task_type",
    "task_version",
    "job_key",
    "meta",
    "meta_version",
    "recorded_at",
    "adopted_at",
)


def job_row(
    execution_id: str,
    attempt: int,
    row: Any,
    job: NewJob,
    now: int,
    *,
    adopted: bool,
) -> tuple[Any, ...]:
    """Return a ledger row's values."""
    if isinstance(row, dict):
        task_type, task_version = row["task_type"], row["task_version"]
    else:
        task_type, task_version = row.task_type, row.task_version
    return (
        execution_id,
        attempt,
        task_type,
        task_version,
        job.job_key,
        job.meta,
        job.meta_version,
        now,
        now if adopted else None,
    )


KEEP_FIRST = (
    "ON CONFLICT (task_type, task_version, job_key) DO UPDATE"
    " SET adopted_at = coalesce(external_job.adopted_at, excluded.adopted_at)"
    " WHERE external_job.cleanup = 'NONE'"
)
"""Equal keys are one job: the first entry stays, and may be adopted while not due."""

_HOLDER = (
    "SELECT execution_id FROM external_job"
    " WHERE task_type = ? AND task_version = ? AND job_key = ?"
)
_HELD_BY_OTHERS = (
    "SELECT json_group_array(json_array(k.key, j.execution_id)) FROM json_each(?) k"
    " JOIN external_job j ON j.task_type = json_extract(k.value, '$[0]')"
    " AND j.task_version = json_extract(k.value, '$[1]')"
    " AND j.job_key = json_extract(k.value, '$[2]')"
    " JOIN execution e ON e.id = json_extract(k.value, '$[3]')"
    # Who has the job already needs no entry to find it by.
    " WHERE j.execution_id <> e.id AND e.job_key IS NOT j.job_key"
)


def _name_of_both(job_key: str, execution_id: str, attempt: int) -> str:
    """Return what a job is entered as whose key is another execution's entry.

    A service that uses a name again, or knows two requests as one job: under a name
    that says both, the attempt can adopt it, and somebody can see that it may live.
    """
    return f"{job_key} ({create_token(execution_id, attempt)})"


class Fact(Item):
    """A job that a connector told of, entered whoever holds the lease."""

    __slots__ = ("attempt", "claimed", "execution_id", "job", "now")
    order = 4

    def __init__(
        self, claimed: Claimed | Execution | Search, attempt: int, job: NewJob, now: int
    ) -> None:
        """Enter *job* for *claimed*'s attempt."""
        super().__init__()
        self.claimed = claimed
        self.attempt = attempt
        self.job = job
        self.now = now

    @classmethod
    async def write(cls, tx: Tx, items: Sequence[Fact]) -> None:
        """Insert the facts; what can no longer be adopted owes cleanup at once."""
        rows = [
            job_row(f.claimed.id, f.attempt, f.claimed, f.job, f.now, adopted=False)
            for f in items
        ]
        await cls._insert(tx, rows)
        await cls._enter_what_others_hold(tx, items)
        await owe_cleanup(tx, [f.claimed.id for f in items], items[0].now)

    @staticmethod
    async def _insert(tx: Tx, rows: Sequence[tuple[Any, ...]]) -> None:
        await tx.over(
            lambda n: insert("external_job", JOB_COLUMNS, n, KEEP_FIRST), rows
        )

    @classmethod
    async def _enter_what_others_hold(cls, tx: Tx, items: Sequence[Fact]) -> None:
        """Keep the answer too whose key is another execution's entry."""
        keys = [
            (f.claimed.task_type, f.claimed.task_version, f.job.job_key, f.claimed.id)
            for f in items
        ]
        rows = []
        for number, holder in await tx.json(_HELD_BY_OTHERS, (json.dumps(keys),)):
            fact = items[number]
            claimed, told = fact.claimed, fact.job
            name = _name_of_both(told.job_key, claimed.id, fact.attempt)
            logger.warning(
                "job %s, told of for execution %s, is execution %s's: it is in the"
                " ledger as %s",
                *(told.job_key, claimed.id, holder, name),
            )
            job = NewJob(told.meta, told.meta_version, name)
            row = job_row(
                claimed.id, fact.attempt, claimed, job, fact.now, adopted=False
            )
            rows.append(row)
        await cls._insert(tx, rows)

    async def enter(self, tx: Tx) -> str | None:
        """Write this fact alone; of another's job, return whose it is and do nothing.

        Equal keys are one job, and the first entry stays: nothing could adopt it.
        """
        claimed = self.claimed
        key = (claimed.task_type, claimed.task_version, self.job.job_key)
        holder: str | None = await tx.scalar(_HOLDER, key)
        if holder is not None and holder != claimed.id:
            return holder
        await self.write(tx, [self])
        return None

    async def landed(self, tx: Tx) -> bool:  # noqa: ARG002
        """Facts are idempotent: write it again."""
        return False


_SHARED = (
    "EXISTS (SELECT 1 FROM external_job o WHERE o.task_type = external_job.task_type"
    " AND o.task_version = external_job.task_version"
    " AND o.job_key = substr(external_job.job_key, 1, length(external_job.job_key)"
    " - length(external_job.execution_id || external_job.attempt) - 5)"
    " AND o.job_key || ' (o' || external_job.execution_id || '-'"
    " || external_job.attempt || ')' = external_job.job_key"
    " AND o.execution_id <> external_job.execution_id)"
)
"""Whether an entry has a name of both: then its job may be another execution's.

The other's entry is there: a service may well name jobs of its own in this way.
"""
_OWE = (
    "UPDATE external_job SET cleanup_since = ?1, cleanup = CASE"
    f" WHEN NOT {_SHARED} THEN 'DUE'"
    # The attempt has it under its own name: this entry is one too many.
    " WHEN job_key = (SELECT e.job_key FROM execution e WHERE e.id = execution_id)"
    " || ' (o' || execution_id || '-' || attempt || ')' THEN 'DONE'"
    " ELSE 'ABANDONED' END,"
    f" cleanup_due_at = CASE WHEN NOT {_SHARED} THEN ?1 END,"
    f" cleanup_error = CASE WHEN {_SHARED} THEN 'its name is that of another"
    " execution''s job: it is not deleted' END"
    " WHERE execution_id IN (SELECT value FROM json_each(?2))"
    " AND adopted_at IS NULL AND cleanup = 'NONE' AND NOT EXISTS ("
    "SELECT 1 FROM execution e WHERE e.id = external_job.execution_id"
    " AND e.attempt = external_job.attempt"
    " AND e.phase IN ('QUEUED', 'CREATING', 'CREATE_UNKNOWN'))"
)


async def owe_cleanup(tx: Tx, execution_ids: Sequence[str], now: int) -> None:
    """Mark as DUE every job of these executions that nobody can adopt any more.

    One that may be another execution's is never deleted for it: it is ABANDONED,
    which lists it.
    """
    await tx.run(_OWE, (now, json.dumps(list(execution_ids))))


async def settle(tx: Tx, moved: list[Apply], now: int) -> None:
    """Write what transitions mean for jobs: adopted, owed, confirmed or given up."""
    jobs = [
        job_row(a.row.id, a.row.attempt, a.row, a.change.job, a.now, adopted=True)
        for a in moved
        if a.change.job is not None
    ]
    await tx.over(lambda n: insert("external_job", JOB_COLUMNS, n, KEEP_FIRST), jobs)
    # The same attempt may adopt: its token is the same until it has a job or ends.
    adopting = (Phase.QUEUED, Phase.CREATING, Phase.CREATE_UNKNOWN)
    left = [
        a.row.id
        for a in moved
        if a.row.phase in adopting
        and (a.change.phase not in adopting or a.change.attempt != a.row.attempt)
        # The common way out, a first create that answered, has one entry: its own.
        and not (
            a.row.phase == Phase.CREATING and a.row.creates == 1 and not a.row.refused
        )
    ]
    if left:
        await owe_cleanup(tx, left, now)
    for item in moved:
        if item.change.cleanup is not None:
            await _settle_own(tx, item, item.change.cleanup)


_SETTLE = (
    "UPDATE external_job SET cleanup = ?, cleanup_error = ?"
    " WHERE execution_id = ? AND attempt = ? AND job_key = ? AND cleanup = 'NONE'"
)
_ABANDON = (
    f"INSERT INTO external_job ({', '.join(JOB_COLUMNS)}, cleanup, cleanup_error)"
    f" SELECT {', '.join('?' * len(JOB_COLUMNS))}, 'ABANDONED', ?"
    # The attempt's own entry may be owed, or abandoned, already.
    " WHERE NOT EXISTS (SELECT 1 FROM external_job WHERE execution_id = ?"
    " AND attempt = ? AND job_key = ?) ON CONFLICT DO NOTHING"
)


async def _settle_own(tx: Tx, item: Apply, cleanup: Cleanup) -> None:
    """Write what became of the attempt's own job."""
    row = item.row
    own = (row.id, row.attempt, row.job_key)
    abandoned = cleanup is Cleanup.ABANDONED
    error = row.timer.last_error if abandoned else None
    if await tx.run(_SETTLE, (str(cleanup), error, *own)) or not abandoned:
        return
    if row.meta is None or row.meta_version is None or row.job_key is None:
        return
    # The service has used the name before, and the key is another's entry.
    name = _name_of_both(row.job_key, row.id, row.attempt)
    job = NewJob(row.meta, row.meta_version, name)
    values_ = job_row(row.id, row.attempt, row, job, item.now, adopted=False)
    if await tx.run(_ABANDON, (*values_, error, *own)):
        key = (row.task_type, row.task_version, row.job_key)
        logger.error(
            "job %s of execution %s was execution %s's before: what is ABANDONED now"
            " is in the ledger as %s",
            row.job_key,
            row.id,
            await tx.scalar(_HOLDER, key),
            name,
        )
