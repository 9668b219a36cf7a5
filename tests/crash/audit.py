"""Questions to the orchestrator's database, asked by plain SQL from outside.

Reads the file through sqlite3 in a process that has no engine; the invariants are
the product's own, each held by a test that breaks it. What the code under test says
of itself is not believed alone: see ``tests.crash.judge``.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator._ids import create_token
from orchestrator._machine import INTENTS
from orchestrator._phase import TERMINAL
from orchestrator._storage import INVARIANTS

if TYPE_CHECKING:
    from pathlib import Path

_ENDED = "('" + "', '".join(sorted(TERMINAL)) + "')"
_INTENTS = "('" + "', '".join(sorted(INTENTS)) + "')"


@dataclass(frozen=True)
class Row:
    """What the judge needs of an execution."""

    id: str
    phase: str
    attempt: int
    hold: str | None
    error_code: str | None

    @property
    def terminal(self) -> bool:
        """Whether it may never change again."""
        return self.phase in TERMINAL


class Audit:
    """One database file; every answer is of the moment of the question."""

    def __init__(self, path: Path) -> None:
        """Look at the SQLite file at *path*."""
        self._path = path

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        # Not read-only: after a kill the first reader has to mend the -shm file.
        with closing(sqlite3.connect(self._path, timeout=10)) as db:
            db.execute("PRAGMA query_only = ON")
            return db.execute(query).fetchall()

    def ready(self) -> bool:
        """Whether the schema is there: the first kill may come before it."""
        query = "SELECT count(*) FROM sqlite_master WHERE name = 'execution'"
        return self._path.exists() and self._rows(query) == [(1,)]

    def rows(self) -> dict[str, Row]:
        """Return every execution by id."""
        query = "SELECT id, phase, attempt, hold, error_code FROM execution"
        return {row[0]: Row(*row) for row in self._rows(query)}

    def by_key(self) -> dict[str, str]:
        """Return the execution of every idempotency key."""
        query = (
            "SELECT idempotency_key, id FROM execution WHERE idempotency_key NOT NULL"
        )
        return dict(self._rows(query))

    def terminal_hashes(self) -> dict[str, str]:
        """Return a hash over all columns of every terminal row (P4)."""
        query = f"SELECT * FROM execution WHERE phase IN {_ENDED}"  # noqa: S608
        return {
            row[0]: hashlib.sha256(repr(row).encode()).hexdigest()
            for row in self._rows(query)
        }

    def snapshot(self) -> dict[str, str]:
        """Return a hash of all that was decided about each execution.

        Over all columns of its row and of its history; the ledger of jobs, where
        facts are entered whoever tells them, is left out.
        """
        decided: dict[str, list[object]] = {}
        for query in (
            "SELECT id, * FROM execution ORDER BY id",
            "SELECT execution_id, * FROM history ORDER BY execution_id, version",
        ):
            for execution_id, *values in self._rows(query):
                decided.setdefault(execution_id, []).append(values)
        return {
            execution_id: hashlib.sha256(repr(rows).encode()).hexdigest()
            for execution_id, rows in decided.items()
        }

    def broken_histories(self) -> list[str]:
        """Return one line per row that breaks an invariant of the product's audit."""
        return [
            f"{each.name} {each.says}: {row}"
            for each in INVARIANTS
            for row in self._rows(each.query)
        ]

    def intents(self) -> dict[str, int]:
        """Return how many creates each token was committed to (Q6)."""
        query = f"""
            SELECT execution_id, attempt, count(*) FROM history
            WHERE cause IN {_INTENTS} GROUP BY execution_id, attempt"""  # noqa: S608
        return {create_token(row[0], row[1]): row[2] for row in self._rows(query)}

    def recorded_job_keys(self) -> set[str]:
        """Return the jobs that the ledger of jobs knows."""
        return {row[0] for row in self._rows("SELECT job_key FROM external_job")}

    def listed_orphans(self) -> set[str]:
        """Return the executions that the audit view of orphans names."""
        return {row[0] for row in self._rows("SELECT execution_id FROM orphans_v1")}

    def cleanup_due(self) -> int:
        """Return how many jobs and sweeps the engine still has to look after."""
        query = """
            SELECT (SELECT count(*) FROM external_job WHERE cleanup = 'DUE')
                 + (SELECT count(*) FROM sweep)"""
        return int(self._rows(query)[0][0])
