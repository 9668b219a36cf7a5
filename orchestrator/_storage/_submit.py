"""Submissions: executions come into being, many in one transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator._storage._apply import HISTORY_COLUMNS, count
from orchestrator._storage._items import Item
from orchestrator._storage._ledger import JOB_COLUMNS, job_row
from orchestrator._storage._tx import insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._records import NewJob
    from orchestrator._storage._tx import Tx

EXECUTION_COLUMNS = (
    "id",
    "name",
    "task_type",
    "task_version",
    "template_hash",
    "phase",
    "version",
    "attempt",
    "max_attempts",
    "priority",
    "labels",
    "submitted_at",
    "start_at",
    "ready_at",
    "deadline_at",
    "updated_at",
    "phase_at",
    "waiting_on",
    "created_at",
    "meta",
    "meta_version",
    "job_key",
    "inputs",
    "inputs_json",
    "idempotency_key",
    "retry_of",
)
_TIMER_COLUMNS = ("execution_id", "task_type", "task_version", "due_at")
_KEY_COLUMNS = ("key", "execution_id", "request_hash", "created_at")
_TEMPLATE_COLUMNS = ("hash", "proto", "json", "created_at")


_JobKey = tuple[str, int, str]


class NewExecution(NamedTuple):
    """A submission: the wide row's values, and what goes beside it."""

    row: dict[str, Any]
    cause: str
    template: tuple[str, bytes, str]
    key: str | None = None
    request_hash: str = ""
    job: NewJob | None = None
    """A job that exists already: its execution begins as RUNNING."""
    replaces_failed: bool = False
    """Whether a holder of the key that ended without success gives it up."""

    @property
    def job_of(self) -> _JobKey | None:
        """Return what makes the job that exists already unique, None without one."""
        if self.job is None:
            return None
        return (self.row["task_type"], self.row["task_version"], self.job.job_key)


class Submitted(NamedTuple):
    """What became of a submission: its own id, or the holder of its key."""

    execution_id: str
    existing: bool = False
    conflict: bool = False


class _Holder(NamedTuple):
    """Who holds an idempotency key."""

    execution_id: str
    request_hash: str
    failed: bool

    def same(self, new: NewExecution) -> bool:
        """Whether *new* is the same request."""
        return self.request_hash == new.request_hash


class Submit(Item):
    """A group of submissions that is accepted or refused as one."""

    __slots__ = ("news", "now")
    order = 1
    patient = False

    def __init__(self, news: Sequence[NewExecution], now: int) -> None:
        """Insert *news* at *now*."""
        super().__init__()
        self.news = news
        self.now = now

    @classmethod
    async def write(cls, tx: Tx, items: Sequence[Submit]) -> None:
        """Insert what is new; answer with the holder where a key is taken."""
        held = await cls._holders(tx, items)
        jobs = await cls._holders_of_jobs(tx, items)
        fresh: list[NewExecution] = []
        for item in items:
            own, item.result = cls._sort_out(item.news, held, jobs)
            if any(answer.conflict for answer in item.result):
                continue  # all or none
            fresh += own
            held |= {
                new.key: _Holder(new.row["id"], new.request_hash, failed=False)
                for new in own
                if new.key is not None
            }
            jobs |= {
                new.job_of: Submitted(new.row["id"], existing=True)
                for new in own
                if new.job_of is not None
            }
        if fresh:
            await cls._insert(tx, fresh, items[0].now)

    @staticmethod
    def _sort_out(
        news: Sequence[NewExecution],
        held: dict[str | None, _Holder],
        jobs: dict[_JobKey, Submitted],
    ) -> tuple[list[NewExecution], list[Submitted]]:
        """Return what is to be inserted, and an answer for each of *news*."""
        fresh: list[NewExecution] = []
        answers: list[Submitted] = []
        mine: dict[str, _Holder] = {}
        mine_by_job: dict[_JobKey, Submitted] = {}
        for new in news:
            job = new.job_of
            if job is not None:
                known = jobs.get(job) or mine_by_job.get(job)
                if known is not None:
                    answers.append(known)
                    continue
                mine_by_job[job] = Submitted(new.row["id"], existing=True)
            key = new.key
            holder = None if key is None else mine.get(key) or held.get(key)
            if holder is not None and not (
                new.replaces_failed and holder.failed and holder.same(new)
            ):
                conflict = not holder.same(new)
                answers.append(
                    Submitted(holder.execution_id, existing=True, conflict=conflict)
                )
                continue
            if holder is not None:
                new.row["retry_of"] = holder.execution_id
            if key is not None:
                mine[key] = _Holder(new.row["id"], new.request_hash, failed=False)
            fresh.append(new)
            answers.append(Submitted(new.row["id"]))
        return fresh, answers

    @staticmethod
    async def _holders(tx: Tx, items: Sequence[Submit]) -> dict[str | None, _Holder]:
        keys = [new.key for item in items for new in item.news if new.key is not None]
        if not keys:
            return {}
        rows = await tx.json(
            "SELECT json_group_array(json_array(k.key, k.execution_id, k.request_hash,"
            # A job that may live still is no failure to be tried again.
            " e.error_code IS NOT NULL AND e.error_code <> 'CREATE_OUTCOME_UNKNOWN'"
            " AND NOT EXISTS (SELECT 1 FROM external_job j WHERE j.execution_id = e.id"
            " AND j.cleanup IN ('DUE', 'ABANDONED')))) FROM idempotency_key k"
            " JOIN execution e ON e.id = k.execution_id"
            " WHERE k.key IN (SELECT value FROM json_each(?))",
            (json.dumps(keys),),
        )
        return {key: _Holder(*rest) for key, *rest in rows}

    @staticmethod
    async def _holders_of_jobs(
        tx: Tx, items: Sequence[Submit]
    ) -> dict[_JobKey, Submitted]:
        """Return whose the jobs are that are to be attached and known already."""
        jobs = (new.job_of for item in items for new in item.news)
        keys = {job for job in jobs if job is not None}
        if not keys:
            return {}
        rows = await tx.json(
            "SELECT json_group_array(json_array(j.task_type, j.task_version,"
            " j.job_key, j.execution_id, j.cleanup <> 'NONE')) FROM json_each(?) k"
            " JOIN external_job j ON j.task_type = json_extract(k.value, '$[0]')"
            " AND j.task_version = json_extract(k.value, '$[1]')"
            " AND j.job_key = json_extract(k.value, '$[2]')",
            (json.dumps(sorted(keys)),),
        )
        return {
            (kind, version, key): Submitted(holder, existing=True, conflict=bool(owed))
            for kind, version, key, holder, owed in rows
        }

    @staticmethod
    async def _insert(tx: Tx, fresh: list[NewExecution], now: int) -> None:
        templates = {new.template[0]: (*new.template, now) for new in fresh}
        await tx.over(
            lambda n: insert(
                "template", _TEMPLATE_COLUMNS, n, "ON CONFLICT (hash) DO NOTHING"
            ),
            list(templates.values()),
        )
        await tx.over(
            lambda n: insert("execution", EXECUTION_COLUMNS, n),
            [[new.row.get(c) for c in EXECUTION_COLUMNS] for new in fresh],
        )
        rows = [new.row for new in fresh]
        await tx.over(
            lambda n: insert("timer", _TIMER_COLUMNS, n),
            [(r["id"], r["task_type"], r["task_version"], r["ready_at"]) for r in rows],
        )
        await tx.over(
            lambda n: insert("history", HISTORY_COLUMNS, n),
            [
                (
                    r["id"],
                    1,
                    1,
                    new.cause,
                    None,
                    r["phase"],
                    None,
                    r["submitted_at"],
                    None,
                    0,
                    None,
                )
                for r, new in zip(rows, fresh, strict=True)
            ],
        )
        await tx.over(
            lambda n: insert(
                "idempotency_key",
                _KEY_COLUMNS,
                n,
                # Only a replaced holder is in the way here: the rest was looked up.
                "ON CONFLICT (key) DO UPDATE SET"
                " execution_id = excluded.execution_id,"
                " created_at = excluded.created_at",
            ),
            [
                (new.key, new.row["id"], new.request_hash, now)
                for new in fresh
                if new.key is not None
            ],
        )
        jobs = [
            job_row(new.row["id"], 1, new.row, new.job, now, adopted=True)
            for new in fresh
            if new.job is not None
        ]
        await tx.over(lambda n: insert("external_job", JOB_COLUMNS, n), jobs)
        deltas: dict[tuple[str, str], int] = {}
        for r in rows:
            where = (r["task_type"], str(r["phase"]))
            deltas[where] = deltas.get(where, 0) + 1
        await count(tx, deltas)

    async def landed(self, tx: Tx) -> bool:
        """Look for every new id; keys answer for themselves when written again."""
        ids = [new.row["id"] for new in self.news]
        found = await tx.scalar(
            "SELECT count(*) FROM execution"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(ids),),
        )
        fresh = [s for s in self.result or () if not s.existing]
        return bool(fresh) and found == len(fresh)
