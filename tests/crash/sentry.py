"""Triggers that a test adds to the database: they note who writes without the lease.

They see every statement of every process and refuse nothing, so that what the fence
of the code under test lets through is on record, whatever becomes of it later.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from orchestrator._storage import upgrade

if TYPE_CHECKING:
    from pathlib import Path

DECIDED = "decided without the lease"
CLAIMED_HELD = "claimed while held"
CLAIMED_ENDED = "claimed by a node that had ended"
SETTLED = "settled debt changed"
FORBIDDEN = (DECIDED, CLAIMED_HELD, CLAIMED_ENDED, SETTLED)
"""What must never be noted."""
CLAIMED = "claims"
BROKEN = "claims broken"

_TABLE = """
CREATE TABLE sentry (
  number INTEGER PRIMARY KEY, what TEXT NOT NULL, execution_id TEXT, node TEXT
)"""
_NOTE = (
    "INSERT INTO sentry (what, execution_id, node)"
    " VALUES ('{what}', NEW.execution_id, {node})"
)
_TRIGGERS = {
    DECIDED: """
        BEFORE INSERT ON history WHEN NEW.node IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM timer t WHERE t.execution_id = NEW.execution_id
          AND t.node = NEW.node AND t.epoch = NEW.epoch)""",
    CLAIMED_HELD: """
        BEFORE UPDATE OF node ON timer WHEN OLD.node IS NOT NULL
          AND NEW.node IS NOT NULL AND NEW.node <> OLD.node""",
    CLAIMED_ENDED: """
        BEFORE UPDATE OF node ON timer WHEN OLD.node IS NULL AND EXISTS (
          SELECT 1 FROM node n WHERE n.id = NEW.node AND n.ended_at IS NOT NULL)""",
    SETTLED: """
        BEFORE UPDATE OF cleanup ON external_job
          WHEN OLD.cleanup IN ('DONE', 'ABANDONED') AND NEW.cleanup <> OLD.cleanup""",
    CLAIMED: """
        BEFORE UPDATE OF node ON timer WHEN OLD.node IS NULL
          AND NEW.node IS NOT NULL""",
    BROKEN: """
        BEFORE UPDATE OF node ON timer WHEN OLD.node IS NOT NULL
          AND NEW.node IS NULL AND NEW.epoch > OLD.epoch""",
}


def post(path: Path) -> None:
    """Make the database at *path*, with the triggers in it."""
    upgrade(make_url(f"sqlite:///{path}"), busy_s=5)
    with closing(sqlite3.connect(path)) as db:
        db.execute(_TABLE)
        for number, (what, when) in enumerate(_TRIGGERS.items()):
            of_job = "ON external_job" in when
            node = "NEW.cleanup_node" if of_job else "coalesce(NEW.node, OLD.node)"
            if "ON history" in when:
                node = "NEW.node"
            note = _NOTE.format(what=what, node=node)
            db.execute(f"CREATE TRIGGER sentry_{number} {when} BEGIN {note}; END")
        db.commit()


def noted(path: Path) -> Counter[str]:
    """Return how often each was noted."""
    with closing(sqlite3.connect(path, timeout=10)) as db:
        return Counter(dict(db.execute("SELECT what, count(*) FROM sentry GROUP BY 1")))


def notes(path: Path) -> list[str]:
    """Return what must not have happened, as lines."""
    query = "SELECT what, execution_id, node FROM sentry ORDER BY number"
    with closing(sqlite3.connect(path, timeout=10)) as db:
        rows = db.execute(query).fetchall()
    return [
        f"{what}: {execution_id} by node {node}"
        for what, execution_id, node in rows
        if what in FORBIDDEN
    ]
