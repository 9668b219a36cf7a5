"""The job server's own record: every request and state, durable, append-only.

A row is committed before the answer leaves the server. Triggers refuse updates
and deletes, so that what the witness counts is what happened.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from orchestrator.testing import JobSpec, State
from orchestrator.testing._jobserver._ledger import StoredJob

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.testing._jobserver._ledger import JobCall

_TABLES = """
CREATE TABLE IF NOT EXISTS job (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, service TEXT NOT NULL,
  token TEXT NOT NULL, spec TEXT NOT NULL, created_us INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS job_token ON job (token);
CREATE TABLE IF NOT EXISTS job_state (
  seq INTEGER PRIMARY KEY, job_id TEXT NOT NULL, state TEXT NOT NULL,
  at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS job_state_job ON job_state (job_id);
CREATE TABLE IF NOT EXISTS call (
  seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, service TEXT NOT NULL,
  verb TEXT NOT NULL, token TEXT NOT NULL, job_id TEXT, fault TEXT,
  executed INTEGER NOT NULL, status INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS call_token ON call (token);
"""
_APPEND_ONLY = """
CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;
"""


class Ledger:
    """The writer's side; ``tests.jobserver.witness`` reads the same file.

    One process writes it. Rows of the three tables share one sequence, so that
    what happened before what is plain.
    """

    def __init__(self, path: Path | str) -> None:
        """Open or create the ledger at *path*."""
        # Whoever has threads uses it from one at a time.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_TABLES)
        for table in ("job", "job_state", "call"):
            for verb in ("UPDATE", "DELETE"):
                self._db.executescript(_APPEND_ONLY.format(table=table, verb=verb))
        self._seq = self._last_seq()

    def _last_seq(self) -> int:
        query = (
            "SELECT max(coalesce((SELECT max(seq) FROM job), 0),"
            " coalesce((SELECT max(seq) FROM job_state), 0),"
            " coalesce((SELECT max(seq) FROM call), 0))"
        )
        (last,) = self._db.execute(query).fetchone()
        return int(last)

    def next_seq(self) -> int:
        """Return the next number of the shared sequence."""
        self._seq += 1
        return self._seq

    def begin(self) -> None:
        """Open the transaction of one request."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make the request durable against a crash of this process."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Forget the request: nothing of it happened."""
        self._db.execute("ROLLBACK")

    def add_job(
        self, job_id: str, service: str, token: str, spec: JobSpec, at_us: int
    ) -> None:
        """Record a new job."""
        row = (
            self.next_seq(),
            job_id,
            service,
            token,
            json.dumps(spec.to_json()),
            at_us,
        )
        self._db.execute("INSERT INTO job VALUES (?, ?, ?, ?, ?, ?)", row)

    def add_state(self, job_id: str, state: State, at_us: int) -> None:
        """Record a job's new state."""
        row = (self.next_seq(), job_id, state.value, at_us)
        self._db.execute("INSERT INTO job_state VALUES (?, ?, ?, ?)", row)

    def add_call(self, call: JobCall) -> None:
        """Record one request and what it was (or would have been) answered."""
        row = (self.next_seq(), *dataclasses.astuple(call))
        self._db.execute("INSERT INTO call VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def jobs(self) -> list[StoredJob]:
        """Return every job in order of creation: a restarted server goes on."""
        query = """
            SELECT job.id, job.service, job.token, job.spec, job.created_us,
                   s.state, s.at_us,
                   (SELECT count(*) FROM call
                    WHERE call.job_id = job.id AND verb = 'get' AND executed)
            FROM job JOIN job_state s ON s.job_id = job.id
             AND s.seq = (SELECT max(seq) FROM job_state WHERE job_id = job.id)
            ORDER BY job.seq"""
        with closing(self._db.execute(query)) as rows:
            return [
                StoredJob(
                    id=row[0],
                    service=row[1],
                    token=row[2],
                    spec=JobSpec.from_json(json.loads(row[3])),
                    created_us=row[4],
                    state=State(row[5]),
                    state_us=row[6],
                    polls=row[7],
                )
                for row in rows
            ]

    def close(self) -> None:
        """Close the file."""
        self._db.close()
