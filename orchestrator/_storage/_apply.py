"""What a step writes: changes that a guard accepts or refuses, and facts.

Each kind is written by set-based statements over all its items of a batch. The
guards: a transition needs the row's version and the claim's node and epoch, all
other engine writes node and epoch; an intent also needs that no abort was wished.
What a guard refuses changes nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator._ids import create_token
from orchestrator._phase import TERMINAL, Cleanup, Phase
from orchestrator._records import NewJob, Timer
from orchestrator._secrets import get_logger
from orchestrator._storage import _sweeps
from orchestrator._storage._items import Item
from orchestrator._storage._tx import insert, values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._records import Change, Claimed, Execution
    from orchestrator._storage._sweeps import Search
    from orchestrator._storage._tx import Tx

logger = get_logger(__name__)

HISTORY_COLUMNS = (
    "execution_id",
    "version",
    "attempt",
    "cause",
    "from_phase",
    "to_phase",
    "remote_phase",
    "at",
    "node",
    "epoch",
    "message",
)
_OUTBOX_COLUMNS = ("execution_id", "version", "phase", "created_at")
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


async def count(tx: Tx, deltas: dict[tuple[str, str], int]) -> None:
    """Keep the rollup counters: ``(task type, phase) -> number of executions``."""
    rows = [(task, phase, n) for (task, phase), n in sorted(deltas.items()) if n]
    await tx.over(
        lambda size: insert(
            "counter",
            ("task_type", "phase", "executions"),
            size,
            "ON CONFLICT (task_type, phase)"
            " DO UPDATE SET executions = executions + excluded.executions",
        ),
        rows,
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
        await tx.over(
            lambda n: insert("external_job", JOB_COLUMNS, n, KEEP_FIRST), rows
        )
        await owe_cleanup(tx, [f.claimed.id for f in items], items[0].now)

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


async def owe_cleanup(tx: Tx, execution_ids: Sequence[str], now: int) -> None:
    """Mark as DUE every job of these executions that nobody can adopt any more."""
    await tx.run(
        "UPDATE external_job SET cleanup = 'DUE', cleanup_since = ?,"
        " cleanup_due_at = ? WHERE execution_id IN (SELECT value FROM json_each(?))"
        " AND adopted_at IS NULL AND cleanup = 'NONE' AND NOT EXISTS ("
        "SELECT 1 FROM execution e WHERE e.id = external_job.execution_id"
        " AND e.attempt = external_job.attempt"
        " AND e.phase IN ('QUEUED', 'CREATING', 'CREATE_UNKNOWN'))",
        (now, now, json.dumps(list(execution_ids))),
    )


class Apply(Item):
    """One step's change: accepted whole, or refused by a guard and without effect."""

    __slots__ = ("change", "node", "now", "row", "woken")
    order = 3

    def __init__(self, row: Claimed, change: Change, node: str, now: int) -> None:
        """Apply *change* to *row*, claimed by *node*, at *now*."""
        super().__init__()
        self.row = row
        self.change = change
        self.node = node
        self.now = now
        self.woken = False
        """Whether a wish came meanwhile: the released row is due at once."""

    @classmethod
    async def write(cls, tx: Tx, items: Sequence[Apply]) -> None:
        """Update the wide rows, then history, timers, ledger, outbox, counters."""
        nodes: dict[str, list[Apply]] = {}
        for item in items:
            nodes.setdefault(item.node, []).append(item)
        # More than one only in the moment in which a lease was lost and begun anew.
        for node, group in nodes.items():
            await cls._write(tx, group, node)

    @staticmethod
    async def _write(tx: Tx, items: Sequence[Apply], node: str) -> None:
        now = items[0].now
        shapes: dict[tuple[bool, tuple[str, ...]], list[Apply]] = {}
        for item in items:
            item.result = True
            change = item.change
            if change.cause is not None or change.sets:
                shape = (change.cause is not None, tuple(change.sets))
                shapes.setdefault(shape, []).append(item)
        for (moves, columns), group in shapes.items():
            await _update_executions(tx, group, columns, node, moves=moves)
        accepted = [item for item in items if item.result]
        moved = [item for item in accepted if item.change.cause is not None]
        if moved:
            await _append_history(tx, moved)
        await _update_timers(tx, accepted, node, now)
        if moved:
            await _update_ledger(tx, moved, now)
            await _sweeps.begin(tx, moved)
            await _finish(tx, moved)

    async def landed(self, tx: Tx) -> bool:
        """Look for the history row that only this change can have written."""
        if self.change.cause is None:
            return False
        sql = (
            "SELECT count(*) FROM history WHERE execution_id = ? AND version = ?"
            " AND node = ? AND epoch = ? AND cause = ?"
        )
        row = self.row
        key = (row.id, row.version + 1, self.node, row.epoch, str(self.change.cause))
        return bool(await tx.scalar(sql, key))


_FENCE = (
    "EXISTS (SELECT 1 FROM timer t WHERE t.execution_id = j.id_"
    " AND t.epoch = j.epoch_ AND t.node = ?)"
)
_NOT_ABORTED = (
    # A step that read its row before a user's abort must not begin an attempt.
    " AND NOT (execution.phase = 'QUEUED' AND j.phase_ = 'CREATING'"
    " AND execution.abort_requested_at IS NOT NULL)"
)


async def _update_executions(
    tx: Tx, group: list[Apply], columns: tuple[str, ...], node: str, *, moves: bool
) -> None:
    bound = ("id_", "version_", "epoch_", "phase_", "attempt_", "now_", *columns)
    sets = ", ".join(f"{c} = j.{c}" for c in columns)
    head = "phase = j.phase_, attempt = j.attempt_, version = execution.version + 1,"
    assignments = f"{head if moves else ''} updated_at = j.now_" + (
        f", {sets}" if sets else ""
    )

    def text(size: int) -> str:
        return (
            f"UPDATE execution SET {assignments} FROM {values(bound, size)}"
            f" WHERE execution.id = j.id_ AND execution.version = j.version_"
            f" AND {_FENCE}{_NOT_ABORTED if moves else ''}"
        )

    rows = [
        (
            a.row.id,
            a.row.version,
            a.row.epoch,
            str(a.change.phase),
            a.change.attempt,
            a.now,
            *a.change.sets.values(),
        )
        for a in group
    ]
    if await tx.over(text, rows, (node,)) == len(group):
        return
    await _mark_refused(tx, group, node, 1 if moves else 0)


async def _mark_refused(tx: Tx, group: list[Apply], node: str, versions: int) -> None:
    """Find which members a guard refused: the rare case pays for it alone."""
    keys = [(a.row.id, a.row.version + versions, a.row.epoch) for a in group]
    taken = await tx.json(
        "SELECT json_group_array(e.id) FROM json_each(?) k"
        " JOIN execution e ON e.id = json_extract(k.value, '$[0]')"
        " AND e.version = json_extract(k.value, '$[1]')"
        " JOIN timer t ON t.execution_id = e.id"
        " AND t.epoch = json_extract(k.value, '$[2]')"
        " AND t.node = ?"
        # Where the history row is there, an earlier change took the version.
        " WHERE ? = 0 OR NOT EXISTS (SELECT 1 FROM history h"
        " WHERE h.execution_id = e.id AND h.version = e.version)",
        (json.dumps(keys), node, versions),
    )
    accepted = set(taken)
    for item in group:
        item.result = item.row.id in accepted


async def _append_history(tx: Tx, moved: list[Apply]) -> None:
    rows = [
        (
            a.row.id,
            a.row.version + 1,
            a.row.attempt,
            str(a.change.cause),
            a.row.phase,
            str(a.change.phase),
            a.change.sets.get("remote_phase", a.row.remote_phase),
            a.now,
            a.node,
            a.row.epoch,
            a.change.message,
        )
        for a in moved
    ]
    await tx.over(lambda n: insert("history", HISTORY_COLUMNS, n), rows)


_TIMER_BOUND = (
    "id_",
    "epoch_",
    "due_",
    "now_",
    *Timer._fields,
)


_WOKEN = (
    "SELECT json_group_array(execution_id) FROM timer WHERE woken > 0"
    " AND execution_id IN (SELECT value FROM json_each(?))"
)


def _timer_text(size: int, *, release: bool) -> str:
    sets = ", ".join(f"{c} = j.{c}" for c in Timer._fields)
    freed = (
        # A wish that came meanwhile is kept: the row is due at once.
        "due_at = CASE WHEN timer.woken > 0 THEN min(j.due_, j.now_) ELSE j.due_ END,"
        " node = NULL, "
        if release
        else ""
    )
    return (
        f"UPDATE timer SET {freed}{sets} FROM {values(_TIMER_BOUND, size)}"
        " WHERE timer.execution_id = j.id_ AND timer.epoch = j.epoch_"
        " AND timer.node = ?"
    )


async def _update_timers(tx: Tx, accepted: list[Apply], node: str, now: int) -> None:
    released: list[Apply] = []
    kept: list[Apply] = []
    ended: list[str] = []
    for item in accepted:
        change = item.change
        if change.phase in TERMINAL:
            ended.append(item.row.id)
        elif change.then is None:
            released.append(item)
        elif change.timer is not None:
            kept.append(item)

    def rows(items: list[Apply]) -> list[tuple[Any, ...]]:
        return [
            (
                a.row.id,
                a.row.epoch,
                a.change.due_at,
                now,
                *(a.change.timer or a.row.timer),
            )
            for a in items
        ]

    freed = await tx.over(
        lambda n: _timer_text(n, release=True), rows(released), (node,)
    )
    if freed != len(released):
        notes = [a for a in released if a.change.cause is None]
        await _mark_refused_notes(tx, notes, node)
    if released:
        ids = json.dumps([a.row.id for a in released])
        woken = set(await tx.json(_WOKEN, (ids,)))
        for item in released:
            item.woken = item.row.id in woken
    await tx.over(lambda n: _timer_text(n, release=False), rows(kept), (node,))
    if ended:
        await tx.run(
            "DELETE FROM timer WHERE execution_id IN (SELECT value FROM json_each(?))",
            (json.dumps(ended),),
        )


async def _mark_refused_notes(tx: Tx, notes: list[Apply], node: str) -> None:
    """A released row has no node: what is left under another epoch was refused."""
    keys = [(a.row.id, a.row.epoch) for a in notes]
    taken = await tx.json(
        "SELECT json_group_array(t.execution_id) FROM json_each(?) k"
        " JOIN timer t ON t.execution_id = json_extract(k.value, '$[0]')"
        " AND t.epoch = json_extract(k.value, '$[1]')"
        " AND (t.node IS NULL OR t.node = ?)",
        (json.dumps(keys), node),
    )
    accepted = set(taken)
    for item in notes:
        item.result = item.row.id in accepted


async def _update_ledger(tx: Tx, moved: list[Apply], now: int) -> None:
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
            await _settle(tx, item, item.change.cleanup)


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


async def _settle(tx: Tx, item: Apply, cleanup: Cleanup) -> None:
    """Write what became of the attempt's own job."""
    row = item.row
    own = (row.id, row.attempt, row.job_key)
    abandoned = cleanup is Cleanup.ABANDONED
    error = row.timer.last_error if abandoned else None
    if await tx.run(_SETTLE, (str(cleanup), error, *own)) or not abandoned:
        return
    if row.meta is None or row.meta_version is None or row.job_key is None:
        return
    # The service has used the name before, and the key is another's entry: under a
    # name that says both, somebody can see that this job may live.
    name = f"{row.job_key} ({create_token(row.id, row.attempt)})"
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


async def _finish(tx: Tx, moved: list[Apply]) -> None:
    ended = [a for a in moved if a.change.phase in TERMINAL]
    await tx.over(
        lambda n: insert("outbox", _OUTBOX_COLUMNS, n),
        [(a.row.id, a.row.version + 1, str(a.change.phase), a.now) for a in ended],
    )
    deltas: dict[tuple[str, str], int] = {}
    for a in moved:
        if a.row.phase != a.change.phase:
            old, new = (a.row.task_type, a.row.phase), (a.row.task_type, a.change.phase)
            deltas[old] = deltas.get(old, 0) - 1
            deltas[new[0], str(new[1])] = deltas.get((new[0], str(new[1])), 0) + 1
    await count(tx, deltas)
