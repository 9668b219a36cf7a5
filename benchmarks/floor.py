"""F, the floor: the writes of W by the bare sqlite3 module, with no engine at all.

6 + k row writes for an execution with k polls: the row; the intent and its history;
the job and its history; k - 1 polls without news; the end and its history. They go
in transactions of a thousand executions, in WAL mode with ``synchronous=FULL``, so
that every commit waits for the disk as the engine's do.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from benchmarks.meter import Measurement
from benchmarks.service import INPUTS_JSON, OUTPUTS_JSON

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BATCH = 1000

SCHEMA = """
CREATE TABLE execution (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  phase INTEGER NOT NULL,
  job TEXT,
  inputs TEXT,
  outputs TEXT,
  due_at INTEGER,
  polls INTEGER NOT NULL DEFAULT 0,
  submitted_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE INDEX execution_due ON execution (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE history (
  execution_id INTEGER NOT NULL,
  version INTEGER NOT NULL,
  phase INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (execution_id, version)
) WITHOUT ROWID;
"""
QUEUED, CREATING, RUNNING, SUCCEEDED = range(4)

SUBMIT = (
    "INSERT INTO execution (id, name, phase, inputs, due_at, submitted_at, updated_at)"
    " VALUES (?, 'free', 0, ?, ?, ?, ?)"
)
INTEND = "UPDATE execution SET phase = 1, updated_at = ? WHERE id = ?"
START = (
    "UPDATE execution SET phase = 2, job = ?, due_at = ?, updated_at = ? WHERE id = ?"
)
POLL = "UPDATE execution SET due_at = ?, polls = ?, updated_at = ? WHERE id = ?"
END = (
    "UPDATE execution SET phase = 3, outputs = ?, due_at = NULL, polls = ?,"
    " updated_at = ? WHERE id = ?"
)
HISTORY = "INSERT INTO history VALUES (?, ?, ?, ?)"

Statement = tuple[str, list[tuple[object, ...]]]


def measure(executions: int, polls: int, folder: Path) -> Measurement:
    """Write everything that *executions* with *polls* each leave in a database."""
    with closing(
        sqlite3.connect(folder / "floor.db", isolation_level=None)
    ) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(SCHEMA)
        with Measurement(executions) as measurement:
            for batch in _batches(executions, polls):
                database.execute("BEGIN IMMEDIATE")
                for sql, rows in batch:
                    database.executemany(sql, rows)
                database.execute("COMMIT")
        _check(database, executions, polls)
    return measurement


def _batches(executions: int, polls: int) -> Iterator[list[Statement]]:
    """Yield one transaction after the other, each stage for all before the next."""
    ids = range(1, executions + 1)
    chunks = [ids[first : first + BATCH] for first in range(0, executions, BATCH)]
    for chunk in chunks:
        now = _now_us()
        yield [(SUBMIT, [(i, INPUTS_JSON, now, now, now) for i in chunk])]
    for chunk in chunks:
        now = _now_us()
        yield [(INTEND, [(now, i) for i in chunk]), _history(chunk, CREATING, now)]
    for chunk in chunks:
        now = _now_us()
        rows: list[tuple[object, ...]] = [(f"job-{i}", now, now, i) for i in chunk]
        yield [(START, rows), _history(chunk, RUNNING, now)]
    for poll in range(1, polls):
        for chunk in chunks:
            now = _now_us()
            yield [(POLL, [(now, poll, now, i) for i in chunk])]
    for chunk in chunks:
        now = _now_us()
        rows = [(OUTPUTS_JSON, polls, now, i) for i in chunk]
        yield [(END, rows), _history(chunk, SUCCEEDED, now)]


def _history(chunk: range, phase: int, now: int) -> Statement:
    return HISTORY, [(i, phase, phase, now) for i in chunk]


def _now_us() -> int:
    return time.time_ns() // 1000


def _check(database: sqlite3.Connection, executions: int, polls: int) -> None:
    """Refuse figures of a run that did not do the work."""
    ended = database.execute(
        "SELECT count(*) FROM execution WHERE phase = 3 AND polls = ?", (polls,)
    ).fetchone()
    history = database.execute("SELECT count(*) FROM history").fetchone()
    assert (ended, history) == ((executions,), (3 * executions,))
