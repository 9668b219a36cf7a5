"""Questions to the orchestrator's database, asked by plain SQL from outside.

Reads the file through sqlite3 in a process that has no engine, so that nothing of
the code under test answers for itself.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator._machine._transitions import TRANSITIONS

if TYPE_CHECKING:
    from pathlib import Path

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"})
_ENDED = "('" + "', '".join(sorted(TERMINAL)) + "')"
_RETRIES = (
    "('NOT_CREATED_RETRY', 'REMOTE_FAILED_RETRY', 'REMOTE_RETRYABLE_FAILED',"
    " 'JOB_LOST_RETRY', 'TIMEOUT_RETRY')"
)
_EDGES = frozenset(
    (None if source is None else str(source), str(cause), str(target))
    for (source, cause), target in TRANSITIONS.items()
)

# Each must return no row. The first column names the execution, the rest says what.
_HISTORY = {
    "Q1 the last history row is not the row's phase and version": """
        SELECT e.id, e.phase, e.version, h.to_phase, h.version FROM execution e
        LEFT JOIN history h ON h.execution_id = e.id AND h.version =
          (SELECT max(version) FROM history WHERE execution_id = e.id)
        WHERE h.version IS NOT e.version OR h.to_phase IS NOT e.phase
           -- a retry is the last transition of the attempt that it ends
           OR e.attempt - h.attempt <> (h.cause IN {RETRIES})""",
    "Q2 history has a gap": """
        SELECT execution_id, count(*), min(version), max(version) FROM history
        GROUP BY execution_id
        HAVING count(*) <> max(version) OR min(version) <> 1""",
    "Q3 a transition does not start where the last one ended": """
        SELECT h.execution_id, h.version, h.from_phase, p.to_phase FROM history h
        JOIN history p ON p.execution_id = h.execution_id
         AND p.version = h.version - 1
        WHERE h.from_phase IS NOT p.to_phase""",
    "Q5 the lease epoch went back": """
        SELECT h.execution_id, h.version, h.epoch, p.epoch FROM history h
        JOIN history p ON p.execution_id = h.execution_id
         AND p.version = h.version - 1
        WHERE h.epoch < p.epoch""",
    "Q8 two adopted jobs that owe nothing, in one attempt": """
        SELECT execution_id, attempt, count(*) FROM external_job
        WHERE adopted_at IS NOT NULL AND cleanup = 'NONE'
        GROUP BY execution_id, attempt HAVING count(*) > 1""",
    "Q9 terminal with an ABORTING job that owes nothing": """
        SELECT h.execution_id, h.attempt, j.job_key FROM history h
        JOIN execution e ON e.id = h.execution_id AND e.phase IN {ENDED}
        JOIN external_job j ON j.execution_id = h.execution_id
         AND j.attempt = h.attempt AND j.cleanup = 'NONE'
        WHERE h.to_phase = 'ABORTING'""",
    "Q11 an attempt began after an abort was wished": """
        SELECT h.execution_id, h.version, h.attempt FROM history h
        JOIN history w ON w.execution_id = h.execution_id AND w.version < h.version
         AND w.cause = 'ABORT_REQUESTED'
        WHERE h.cause = 'CREATE_INTENT'""",
    "a terminal row still has a timer, or a live one has none": """
        SELECT e.id, e.phase, t.due_at FROM execution e
        LEFT JOIN timer t ON t.execution_id = e.id
        WHERE (e.phase IN {ENDED}) = (t.execution_id IS NOT NULL)""",
    "a terminal row has not exactly one outbox row": """
        SELECT e.id, e.phase, count(o.id) FROM execution e
        LEFT JOIN outbox o ON o.execution_id = e.id
        GROUP BY e.id HAVING count(o.id) <> (e.phase IN {ENDED})""",
    "a counter is not the number of rows": """
        SELECT * FROM (SELECT task_type, phase, count(*) FROM execution
                       GROUP BY task_type, phase
                       EXCEPT SELECT task_type, phase, executions FROM counter)
        UNION ALL
        SELECT * FROM (SELECT task_type, phase, executions FROM counter
                       WHERE executions <> 0
                       EXCEPT SELECT task_type, phase, count(*) FROM execution
                       GROUP BY task_type, phase)""",
}


def _filled(query: str) -> str:
    return query.replace("{ENDED}", _ENDED).replace("{RETRIES}", _RETRIES)


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
        """Return one line per row that breaks an invariant (Q1-Q5, Q8-Q11)."""
        lines = [
            f"{what}: {row}"
            for what, query in _HISTORY.items()
            for row in self._rows(_filled(query))
        ]
        query = "SELECT DISTINCT from_phase, cause, to_phase FROM history"
        edges = sorted(set(self._rows(query)) - _EDGES, key=str)
        return lines + [f"Q4 an illegal edge: {edge}" for edge in edges]

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
