"""Searches that go on after "not found": tokens of jobs that may be listed late.

A claim moves an entry to its next time at once, so that two nodes rarely make the same
search; it needs no fence, since a search changes nothing, and what it finds is a fact
that may be entered twice. A claim that dies with its process costs one search.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from orchestrator._ids import create_token
from orchestrator._storage._tx import insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._storage._apply import Apply
    from orchestrator._storage._tx import Tx

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
_SELECT = (
    "SELECT json_group_array(json_array(s.execution_id, s.attempt, s.task_type,"
    " s.task_version, e.template_hash, e.labels)) FROM"
    " (SELECT * FROM sweep WHERE due_at <= ? AND task_type || ' ' || task_version IN"
    " (SELECT value FROM json_each(?)) ORDER BY due_at, token LIMIT ?) s"
    " JOIN execution e ON e.id = s.execution_id"
)
_TOKENS = " WHERE token IN (SELECT value FROM json_each(?))"
# Twice the age each time, and a last search when the time is over. (A clock that went
# back makes ages negative: no reason to search every second.)
_LATER = (
    "UPDATE sweep SET due_at = min(until, ? + max(abs(? - since), 1000000))" + _TOKENS
)
_OVER = "DELETE FROM sweep" + _TOKENS + " AND until <= ?"


class Search(NamedTuple):
    """A token that is to be searched for again."""

    id: str
    attempt: int
    task_type: str
    task_version: int
    template_hash: str
    labels: str | None
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
    tx: Tx, *, now: int, limit: int, loaded: Sequence[tuple[str, int]]
) -> list[Search]:
    """Return up to *limit* due searches; each is due again after twice its age."""
    known = json.dumps([f"{name} {version}" for name, version in loaded])
    found = [Search(*row) for row in await tx.json(_SELECT, (now, known, limit))]
    if found:
        tokens = json.dumps([create_token(s.id, s.attempt) for s in found])
        await tx.run(_OVER, (tokens, now))
        await tx.run(_LATER, (now, now, tokens))
    return found
