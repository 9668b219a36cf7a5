"""What users wish of a row: abort, resolve, wake. Steps act on it, soon.

And what moves a row's time without looking at the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator._phase import Resolution
    from orchestrator._storage._tx import Tx

_ABORT = (
    "UPDATE execution SET abort_requested_at = ?, abort_reason = ?"
    " WHERE id = ? AND finished_at IS NULL AND abort_requested_at IS NULL"
)
_ABORTED = (
    "SELECT count(*) FROM execution"
    " WHERE id = ? AND abort_requested_at = ? AND abort_reason = ?"
)
_RESOLVE = (
    # A queued row can only be given up: what is said of its next create is too early.
    "UPDATE execution SET resolution = ?1 WHERE id = ?2"
    " AND (phase = 'CREATE_UNKNOWN' OR (phase = 'QUEUED' AND ?1 = 'GIVE_UP'))"
    # A step at work would not see it, and may make the unknown another one.
    " AND EXISTS (SELECT 1 FROM timer WHERE execution_id = ?2 AND node IS NULL)"
)
_RESOLVED = "SELECT count(*) FROM execution WHERE id = ? AND resolution = ?"
# A row that some step holds is marked: the step's release makes it due at once.
_WAKE = (
    "UPDATE timer SET due_at = CASE WHEN node IS NULL THEN min(due_at, ?)"
    " ELSE due_at END, woken = woken + 1 WHERE execution_id = ?"
)
_BRING_FORWARD = tuple(
    f"UPDATE {table} SET {due} = {due} - ?1 WHERE {free}"
    f" AND {due} >= ?2 - ?1 AND {due} < ?2 + ?1"
    for table, due, free in (
        ("timer", "due_at", "node IS NULL"),
        ("external_job", "cleanup_due_at", "cleanup = 'DUE' AND cleanup_node IS NULL"),
        ("sweep", "due_at", "true"),
    )
)


async def abort(tx: Tx, execution_id: str, reason: str, now: int) -> bool:
    """Record the wish and wake the row; False if it is terminal or wished."""
    changed = await tx.run(_ABORT, (now, reason, execution_id))
    return bool(changed) and await wake(tx, execution_id, now)


async def aborted(tx: Tx, execution_id: str, reason: str, now: int) -> bool:
    """Whether `abort` with these words took effect."""
    return bool(await tx.scalar(_ABORTED, (execution_id, now, reason)))


async def resolve(tx: Tx, execution_id: str, resolution: Resolution, now: int) -> bool:
    """Record what a user knows and wake the row; False, without effect, if it may not.

    It may not if the row is not unknown, or a step is at work on it.
    """
    changed = await tx.run(_RESOLVE, (str(resolution), execution_id))
    return bool(changed) and await wake(tx, execution_id, now)


async def resolved(tx: Tx, execution_id: str, resolution: Resolution) -> bool:
    """Whether `resolve` took effect."""
    return bool(await tx.scalar(_RESOLVED, (execution_id, str(resolution))))


async def wake(tx: Tx, execution_id: str, now: int) -> bool:
    """Make a live row due now; False if it is terminal or unknown."""
    return bool(await tx.run(_WAKE, (now, execution_id)))


async def bring_forward(tx: Tx, since: int, size: int) -> None:
    """Move rows, debts and searches that wait, after a step back by *size*."""
    for statement in _BRING_FORWARD:
        await tx.run(statement, (size, since))
