"""Node leases: who may decide, and how a dead node's rows come free.

A node row carries ``until``; a heartbeat renews it. On one host a node holds a
lock file for its life, so another process proves it dead by taking that lock and
breaks its lease at once; elsewhere the lease expires. Breaking bumps the epoch of
every row that the node held: whatever it writes later is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orchestrator._storage._tx import Tx

_INSERT = (
    "INSERT INTO node (id, host, pid, lock_path, version, started_at, until)"
    # Ids are random per start: the same one is this registration, written again.
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
_RENEW = "UPDATE node SET until = ? WHERE id = ? AND ended_at IS NULL"
_OTHERS = (
    "SELECT json_group_array(json_array(id, host, lock_path, until)) FROM node"
    " WHERE ended_at IS NULL AND id <> ?"
)
_BREAK = (
    "UPDATE timer SET node = NULL, epoch = epoch + 1, due_at = min(due_at, ?)"
    " WHERE node = ?"
)
_BREAK_CLEANUPS = (
    "UPDATE external_job SET cleanup_node = NULL, cleanup_epoch = cleanup_epoch + 1"
    " WHERE cleanup_node = ?"
)
# Rows of a node that ended, however they came to it, belong to nobody.
_FREE = (
    "UPDATE timer SET node = NULL, epoch = epoch + 1, due_at = min(due_at, ?)"
    " WHERE node IS NOT NULL AND EXISTS (SELECT 1 FROM node n"
    " WHERE n.id = timer.node AND n.ended_at IS NOT NULL)"
)
_FREE_CLEANUPS = (
    "UPDATE external_job SET cleanup_node = NULL, cleanup_epoch = cleanup_epoch + 1"
    " WHERE cleanup = 'DUE' AND EXISTS (SELECT 1 FROM node n"
    " WHERE n.id = external_job.cleanup_node AND n.ended_at IS NOT NULL)"
)
_HELD = (
    "SELECT json_group_array(json_array(execution_id, epoch)) FROM timer WHERE node = ?"
)
_FREE_STRAYS = (
    "UPDATE timer SET node = NULL, epoch = epoch + 1, due_at = min(due_at, ?)"
    " WHERE node = ? AND EXISTS (SELECT 1 FROM json_each(?) k"
    " WHERE json_extract(k.value, '$[0]') = timer.execution_id"
    " AND json_extract(k.value, '$[1]') = timer.epoch)"
)
_WAKE_HELD = (
    "UPDATE timer SET due_at = min(due_at, ?) WHERE node IS NULL AND execution_id IN"
    " (SELECT id FROM execution WHERE hold = 'CONNECTOR_MISSING'"
    " AND finished_at IS NULL)"
    " AND task_type || ' ' || task_version IN (SELECT value FROM json_each(?))"
)
_SEE_CONNECTOR = (
    "INSERT INTO connector (task_type, task_version, name, seen_at)"
    " VALUES (?, ?, ?, ?) ON CONFLICT (task_type, task_version)"
    " DO UPDATE SET name = excluded.name, seen_at = excluded.seen_at"
)
_END = "UPDATE node SET ended_at = ? WHERE id = ? AND ended_at IS NULL"


@dataclass(slots=True)
class LockFile:
    """A file that this process holds locked for its life."""

    path: str
    descriptor: int

    @classmethod
    def take(cls, path: str) -> LockFile | None:
        """Lock *path*, None if a living process holds it.

        The lock file is never a database file: closing one of those would drop
        SQLite's own locks.
        """
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def release(self, *, remove: bool = True) -> None:
        """Let the lock go, and *remove* the file first unless it is to be found."""
        if remove:
            with contextlib.suppress(FileNotFoundError):
                Path(self.path).unlink()
        os.close(self.descriptor)

    @staticmethod
    def forget(path: str) -> None:
        """Remove the file of a node whose end is committed."""
        Path(path).unlink(missing_ok=True)


def host_name() -> str:
    """Return what tells this host from others."""
    return socket.gethostname()


async def register(
    tx: Tx,
    *,
    node: str,
    lock_path: str | None,
    version: str,
    now: int,
    until: int,
) -> None:
    """Enter this start of this process."""
    pid = os.getpid()
    await tx.run(_INSERT, (node, host_name(), pid, lock_path, version, now, until))


async def renew(tx: Tx, node: str, until: int) -> bool:
    """Extend the lease; False if it was broken meanwhile."""
    return await tx.run(_RENEW, (until, node)) == 1


async def break_dead(tx: Tx, node: str, now: int) -> list[str]:
    """Free the rows of every other node that is dead or whose lease expired.

    Returns:
        The nodes that were broken. Two processes never break one twice: the node
        row is ended in the same transaction.
    """
    broken = []
    for other, host, lock_path, until in await tx.json(_OTHERS, (node,)):
        if until >= now and not _proved_dead(host, lock_path):
            continue
        await tx.run(_BREAK, (now, other))
        await tx.run(_BREAK_CLEANUPS, (other,))
        await tx.run(_END, (now, other))
        broken.append(other)
    await tx.run(_FREE, (now,))
    await tx.run(_FREE_CLEANUPS)
    return broken


def _proved_dead(host: str, lock_path: str | None) -> bool:
    if lock_path is None or host != host_name():
        return False
    if not Path(lock_path).exists():
        # Another mount, a moved folder, or a power loss that took the name with it
        # (nobody syncs the folder): it proves nothing, and the lease has to end.
        return False
    lock = LockFile.take(lock_path)
    if lock is None:
        return False
    # The file stays until the proof is committed: a proof that a crash took back
    # must be found again.
    lock.release(remove=False)
    return True


async def held_by(tx: Tx, node: str) -> set[tuple[str, int]]:
    """Return id and epoch of every row that *node* holds."""
    return {(i, epoch) for i, epoch in await tx.json(_HELD, (node,))}


async def free(tx: Tx, node: str, rows: Collection[tuple[str, int]], now: int) -> int:
    """Free those of *rows* that *node* holds under these epochs; return how many."""
    return await tx.run(_FREE_STRAYS, (now, node, json.dumps(sorted(rows))))


async def see_connectors(
    tx: Tx, connectors: Sequence[tuple[str, int, str]], now: int
) -> None:
    """Note which connectors a node has; wake rows that waited for them."""
    for task_type, version, name in connectors:
        await tx.run(_SEE_CONNECTOR, (task_type, version, name, now))
    keys = json.dumps([f"{name} {version}" for name, version, _ in connectors])
    await tx.run(_WAKE_HELD, (now, keys))


async def end(tx: Tx, node: str, now: int) -> None:
    """Free this node's rows and end it: an orderly stop."""
    await tx.run(_BREAK, (now, node))
    await tx.run(_BREAK_CLEANUPS, (node,))
    await tx.run(_END, (now, node))
