"""Who is at work on a database, and who will carry out a wish. Changes nothing."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator._clock import SystemClock, to_datetime
from orchestrator._phase import Hold
from orchestrator.cli._text import iso

if TYPE_CHECKING:
    from orchestrator._records import Execution
    from orchestrator._storage import Store

ALIVE = "alive"


@dataclass(frozen=True, slots=True)
class Node:
    """A process that runs ticks, or ran them until it died."""

    id: str
    host: str
    pid: int
    version: str
    started_at: str
    lease_until: str
    state: str


async def nodes(store: Store) -> list[Node]:
    """Return the nodes that have not ended in order, oldest first."""
    now, rows = SystemClock().now_us(), await store.nodes()
    return await asyncio.to_thread(lambda: [_node(row, now) for row in rows])


async def runner(store: Store, execution: Execution) -> str:
    """Return who goes on with *execution*, in words."""
    missing = "none is at work on this database"
    if any(node.state == ALIVE for node in await nodes(store)):
        if execution.hold != Hold.CONNECTOR_MISSING:
            return "the process that runs it"
        missing = "none at work has it"
    kind = execution.task_type
    return f"a process that loads the connector of {kind!r} (start one: {missing})"


def _node(row: Any, now: int) -> Node:
    state = ALIVE
    if _is_dead(row.host, row.lock_path):
        state = "dead"
    elif row.until < now:
        state = "silent"
    return Node(
        id=row.id,
        host=row.host,
        pid=row.pid,
        version=row.version,
        started_at=iso(to_datetime(row.started_at)),
        lease_until=iso(to_datetime(row.until)),
        state=state,
    )


def _is_dead(host: str, lock_path: str | None) -> bool:
    """Tell whether a node of this host let its lock go, without taking it away.

    A shared lock is asked for and given back: whoever wants the file for good at
    this very moment sees it taken, and asks again with its next heartbeat.
    """
    if lock_path is None or host != os.uname().nodename:
        return False
    try:
        descriptor = os.open(lock_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno == errno.ENOENT
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
