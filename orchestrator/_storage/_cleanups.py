"""The ledger's debts: jobs that nobody wants and that are to be deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator._secrets import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._phase import Cleanup
    from orchestrator._storage._tx import Tx

logger = get_logger(__name__)

_DUE = (
    "SELECT * FROM external_job WHERE cleanup = 'DUE' AND cleanup_due_at <= ?"
    " AND cleanup_node IS NULL AND task_type || ' ' || task_version IN"
    " (SELECT value FROM json_each(?)) ORDER BY cleanup_due_at, id LIMIT ?"
)
_READ = (
    "SELECT json_group_array(json_array(j.id, j.execution_id, j.attempt, j.task_type,"
    " j.task_version, j.job_key, hex(j.meta), j.meta_version, j.cleanup_since,"
    " j.cleanup_tries, j.cleanup_epoch, e.template_hash)) FROM"
)
_SELECT = f"{_READ} ({_DUE}) j JOIN execution e ON e.id = j.execution_id"
_SELECT_IDS = f"SELECT json_group_array(id) FROM ({_DUE})"
_SELECT_ONE = (
    f"{_READ} external_job j JOIN execution e ON e.id = j.execution_id WHERE j.id = ?"
)
_PUT_OFF = (
    "UPDATE external_job SET cleanup_due_at = ?,"
    " cleanup_error = 'the entry cannot be read' WHERE id = ?"
)
_TAKE = (
    "UPDATE external_job SET cleanup_node = ?, cleanup_epoch = cleanup_epoch + 1"
    " WHERE id IN (SELECT value FROM json_each(?)) AND cleanup_node IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM node WHERE id = ? AND ended_at IS NOT NULL)"
)
_FINISH = (
    "UPDATE external_job SET cleanup = ?, cleanup_due_at = ?, cleanup_error = ?,"
    " cleanup_tries = cleanup_tries + 1, cleanup_node = NULL"
    " WHERE id = ? AND cleanup_node = ? AND cleanup_epoch = ? AND cleanup = 'DUE'"
)
_GIVE_BACK = (
    "UPDATE external_job SET cleanup_node = NULL"
    " WHERE cleanup_node = ? AND id IN (SELECT value FROM json_each(?))"
)
_FINISHED = (
    "SELECT count(*) FROM external_job WHERE id = ? AND cleanup_node IS NULL"
    " AND cleanup_epoch = ? AND cleanup_tries = ?"
)


class OwedJob(NamedTuple):
    """A claimed ledger entry whose job is to be deleted."""

    id: int
    execution_id: str
    attempt: int
    task_type: str
    task_version: int
    job_key: str
    meta: bytes
    meta_version: int
    since: int
    tries: int
    epoch: int
    template_hash: str


async def claim(
    tx: Tx,
    *,
    node: str,
    now: int,
    hold_until: int,
    limit: int,
    loaded: Sequence[tuple[str, int]],
) -> list[OwedJob]:
    """Take up to *limit* due debts for *node*, oldest first.

    An entry that cannot be read is put off until *hold_until*.
    """
    known = json.dumps([f"{name} {version}" for name, version in loaded])
    due = (now, known, limit)

    async def put_off(job_id: int, error: Exception) -> None:
        what = "entry %s of the ledger cannot be read"
        logger.error(what, job_id, exc_info=error)
        await tx.run(_PUT_OFF, (hold_until, job_id))

    return await tx.take(
        lambda: _take(tx, node, _SELECT, due),
        lambda: tx.json(_SELECT_IDS, due),
        lambda job_id: _take(tx, node, _SELECT_ONE, (job_id,)),
        put_off,
    )


async def _take(tx: Tx, node: str, select: str, params: Sequence[Any]) -> list[OwedJob]:
    """Take what *select* finds; nothing is taken if any of it cannot be read."""
    owed = []
    for row in await tx.json(select, params):
        row[6] = bytes.fromhex(row[6])
        row[10] += 1
        owed.append(OwedJob(*row))
    ids = json.dumps([job.id for job in owed])
    if not owed or not await tx.run(_TAKE, (node, ids, node)):
        return []  # nothing is due, or the node has ended
    return owed


async def finish(
    tx: Tx,
    job: OwedJob,
    *,
    node: str,
    cleanup: Cleanup,
    due_at: int | None,
    error: str | None,
) -> bool:
    """Write what became of a debt; False if the claim was lost, without effect."""
    key = (job.id, node, job.epoch)
    return await tx.run(_FINISH, (str(cleanup), due_at, error, *key)) == 1


async def give_back(tx: Tx, node: str, jobs: Sequence[OwedJob]) -> None:
    """Undo a claim whose commit was not answered."""
    await tx.run(_GIVE_BACK, (node, json.dumps([job.id for job in jobs])))


async def finished(tx: Tx, job: OwedJob) -> bool:
    """Whether a `finish` whose commit was not answered took effect."""
    return bool(await tx.scalar(_FINISHED, (job.id, job.epoch, job.tries + 1)))
