"""The ledger: every job that was told of, who has adopted it, and who owes its end.

Facts are written whoever holds the lease; what a transition means for a job is
written with it. Equal keys are one job, and the first entry stays.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING, Any

from orchestrator._ids import create_token
from orchestrator._phase import Cleanup, Phase
from orchestrator._records import NewJob
from orchestrator._secrets import get_logger
from orchestrator._storage._items import Item
from orchestrator._storage._tx import chunks, insert, values

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
    "shared_key",
    "meta",
    "meta_version",
    "recorded_at",
    "adopted_at",
)
_JOB_KEY = JOB_COLUMNS.index("job_key")


def job_row(
    execution_id: str,
    attempt: int,
    row: Any,
    job: NewJob,
    now: int,
    *,
    adopted: bool,
    shared: bool = False,
) -> tuple[Any, ...]:
    """Return a ledger row's values.

    A *shared* job's key is another execution's entry: a service uses a name again, or
    knows two requests as one job. It is entered under a name that says both, so that
    the attempt can adopt it, and somebody can see that it may live.
    """
    key = job.job_key
    if isinstance(row, dict):
        task_type, task_version = row["task_type"], row["task_version"]
    else:
        task_type, task_version = row.task_type, row.task_version
    return (
        execution_id,
        attempt,
        task_type,
        task_version,
        f"{key} ({create_token(execution_id, attempt)})" if shared else key,
        key if shared else None,
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
_TOLD = ("number", "task_type", "task_version", "job_key", "execution_id")


def _held_by_others(count: int) -> str:
    """Return what selects those of *count* told jobs that others have, and who."""
    return (
        "SELECT json_group_array(json_array(j.number, held.execution_id))"
        f" FROM {values(_TOLD, count)}"
        " JOIN external_job held ON held.task_type = j.task_type"
        " AND held.task_version = j.task_version AND held.job_key = j.job_key"
        " JOIN execution e ON e.id = j.execution_id"
        # Who has the job already needs no entry to find it by.
        " WHERE held.execution_id <> e.id AND e.job_key IS NOT held.job_key"
    )


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
        # Bound one by one: SQLite reads a text out of JSON up to its first NUL.
        told = [
            (
                number,
                fact.claimed.task_type,
                fact.claimed.task_version,
                fact.job.job_key,
                fact.claimed.id,
            )
            for number, fact in enumerate(items)
        ]
        held: list[tuple[int, str]] = []
        for chunk in chunks(told):
            sql = _held_by_others(len(chunk))
            held += await tx.json(sql, [*chain.from_iterable(chunk)])
        rows = []
        for number, holder in held:
            fact = items[number]
            claimed, job = fact.claimed, fact.job
            row = job_row(
                *(claimed.id, fact.attempt, claimed, job, fact.now),
                adopted=False,
                shared=True,
            )
            logger.warning(
                "job %s, told of for execution %s, is execution %s's: it is in the"
                " ledger as %s",
                *(job.job_key, claimed.id, holder, row[_JOB_KEY]),
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


_OWE = (
    "UPDATE external_job SET cleanup_since = ?1, cleanup = CASE"
    " WHEN shared_key IS NULL THEN 'DUE'"
    # The attempt has it under its own name: this entry is one too many.
    " WHEN shared_key = (SELECT e.job_key FROM execution e WHERE e.id = execution_id)"
    " THEN 'DONE'"
    " ELSE 'ABANDONED' END,"
    " cleanup_due_at = CASE WHEN shared_key IS NULL THEN ?1 END,"
    " cleanup_error = CASE WHEN shared_key IS NOT NULL THEN 'its name is that of"
    " another execution''s job: it is not deleted' END"
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
    job = NewJob(row.meta, row.meta_version, row.job_key)
    values_ = job_row(
        row.id, row.attempt, row, job, item.now, adopted=False, shared=True
    )
    if await tx.run(_ABANDON, (*values_, error, *own)):
        key = (row.task_type, row.task_version, row.job_key)
        logger.error(
            "job %s of execution %s was execution %s's before: what is ABANDONED now"
            " is in the ledger as %s",
            row.job_key,
            row.id,
            await tx.scalar(_HOLDER, key),
            values_[_JOB_KEY],
        )
