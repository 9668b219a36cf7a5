"""Searches that go on after "not found": tokens of jobs that may be listed late.

A claim moves an entry to its next time at once, so that two nodes rarely make the same
search; it needs no fence, since a search changes nothing, and what it finds is a fact
that may be entered twice. A search that dies with its process, or fails, is made at its
next time. An entry ends with the answer to a search that began when its time was over:
however long nothing ran, no token is given up without having been asked for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator._ids import create_token
from orchestrator._secrets import get_logger
from orchestrator._storage._tx import insert

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator._storage._apply import Apply
    from orchestrator._storage._tx import Tx

logger = get_logger(__name__)

_COLUMNS = (
    "token",
    "execution_id",
    "attempt",
    "task_type",
    "task_version",
    "since",
    "due_at",
    "until",
)
_AGAIN = (
    "ON CONFLICT (token) DO UPDATE SET since = excluded.since,"
    " due_at = excluded.due_at, until = excluded.until"
)
_READ = (
    "SELECT json_group_array(json_array(s.token, s.since, s.until, s.execution_id,"
    " s.attempt, s.task_type, s.task_version, e.template_hash, e.labels)) FROM"
)
_DUE = (
    "SELECT * FROM sweep WHERE due_at <= ? AND task_type || ' ' || task_version IN"
    " (SELECT value FROM json_each(?)) ORDER BY due_at, token LIMIT ?"
)
_SELECT = f"{_READ} ({_DUE}) s JOIN execution e ON e.id = s.execution_id"
_SELECT_TOKENS = f"SELECT json_group_array(hex(token)) FROM ({_DUE})"
_SELECT_ONE = (
    f"{_READ} sweep s JOIN execution e ON e.id = s.execution_id WHERE hex(s.token) = ?"
)
_PUT_OFF = "UPDATE sweep SET due_at = ? WHERE hex(token) = ?"
_LATER = "UPDATE sweep SET due_at = ? WHERE token = ?"
_OVER = "DELETE FROM sweep WHERE token = ? AND until = ?"
_SOONEST_US = 1_000_000
_LAST_US = 600_000_000
"""Between last searches that got no answer."""


class Search(NamedTuple):
    """A token that is to be searched for again.

    Attributes:
        until: Given for the last search: an answer ends the entry.
    """

    id: str
    attempt: int
    task_type: str
    task_version: int
    template_hash: str
    labels: str | None
    until: int | None = None
    meta: None = None
    inputs: bytes | None = None


async def begin(tx: Tx, moved: Sequence[Apply]) -> None:
    """Enter the searches that transitions ask for."""
    rows = [
        (
            create_token(a.row.id, a.row.attempt),
            a.row.id,
            a.row.attempt,
            a.row.task_type,
            a.row.task_version,
            a.now,
            *a.change.sweep,
        )
        for a in moved
        if a.change.sweep is not None
    ]
    await tx.over(lambda n: insert("sweep", _COLUMNS, n, _AGAIN), rows)


async def claim(
    tx: Tx,
    *,
    now: int,
    hold_until: int,
    limit: int,
    loaded: Sequence[tuple[str, int]],
    believed: Callable[[int], int],
) -> list[Search]:
    """Return up to *limit* due searches; each is due again after twice its age.

    *believed* tells the time by which the limits of what is from a moment fire. One
    that cannot be read is put off until *hold_until*.
    """
    known = json.dumps([f"{name} {version}" for name, version in loaded])
    due = (now, known, limit)

    async def put_off(token: str, error: Exception) -> None:
        logger.error("search %s (hex) cannot be read", token, exc_info=error)
        await tx.run(_PUT_OFF, (hold_until, token))

    return await tx.take(
        lambda: _take(tx, now, believed, _SELECT, due),
        lambda: tx.json(_SELECT_TOKENS, due),
        lambda token: _take(tx, now, believed, _SELECT_ONE, (token,)),
        put_off,
    )


async def _take(
    tx: Tx,
    now: int,
    believed: Callable[[int], int],
    select: str,
    params: Sequence[Any],
) -> list[Search]:
    searches, later = [], []
    for token, since, until, *rest in await tx.json(select, params):
        read = believed(since)
        last = until <= read
        searches.append(Search(*rest)._replace(until=until if last else None))
        # Twice the age each time, and a last search when the time is over. (A clock
        # that went back makes ages negative: no reason to search every second.)
        age = max(abs(read - since), _SOONEST_US)
        later.append((now + min(age, _LAST_US if last else until - read), token))
    for params_of_one in later:
        await tx.run(_LATER, params_of_one)
    return searches


async def end(tx: Tx, search: Search) -> None:
    """Take out the entry of a last search, unless it has begun anew meanwhile."""
    await tx.run(_OVER, (create_token(search.id, search.attempt), search.until))
