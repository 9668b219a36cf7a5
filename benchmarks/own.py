"""S, the same rows: every row write that the engine makes, by bare sqlite3.

The engine's own schema with its triggers, keys and foreign keys, and for each
execution exactly the row writes of W: 3 at the submission, 3 for the claim and the
intent, 4 for the job, 3 + 2 (k - 2) for the polls, 5 at the end. In transactions
of a thousand executions, ``synchronous=FULL``.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from benchmarks.meter import Measurement
from benchmarks.service import INPUTS_JSON, OUTPUTS_JSON
from orchestrator._storage import upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BATCH = 1000
BYTES = b"x" * 60

SUBMIT = (
    "INSERT INTO execution (id, name, task_type, task_version, template_hash, phase,"
    " version, attempt, max_attempts, submitted_at, ready_at, updated_at, phase_at,"
    " inputs, inputs_json) VALUES (?, 'free', 'free', 0, 'h', 'QUEUED', 1, 1, 1,"
    " ?, ?, ?, ?, ?, ?)"
)
TIMER = (
    "INSERT INTO timer (execution_id, task_type, task_version, due_at)"
    " VALUES (?, 'free', 0, ?)"
)
HISTORY = (
    "INSERT INTO history (execution_id, version, attempt, cause, from_phase, to_phase,"
    " remote_phase, at, node, epoch) VALUES (?, ?, 1, ?, ?, ?, ?, ?, 'n', ?)"
)
CLAIM = (
    "UPDATE timer SET node = 'n', epoch = epoch + 1, woken = 0 WHERE execution_id = ?"
)
RELEASE = (
    "UPDATE timer SET node = NULL, due_at = ?, polls = ?, step = ?, errors = 0,"
    " errors_since = NULL, budget_us = 0, called_at = ?, last_error = NULL"
    " WHERE execution_id = ?"
)
INTEND = (
    "UPDATE execution SET phase = 'CREATING', version = 2, updated_at = ?,"
    " creates = 1, create_called_at = ?, waiting_on = NULL, queued_us = 0,"
    " phase_at = ? WHERE id = ?"
)
START = (
    "UPDATE execution SET phase = 'RUNNING', version = 3, updated_at = ?, meta = ?,"
    " meta_version = 1, job_key = ?, created_at = ?, hold = NULL, waiting_on = NULL,"
    " phase_at = ? WHERE id = ?"
)
JOB = (
    "INSERT INTO external_job (execution_id, attempt, task_type, task_version,"
    " job_key, meta, meta_version, recorded_at, adopted_at)"
    " VALUES (?, 1, 'free', 0, ?, ?, 1, ?, ?)"
)
NEWS = (
    "UPDATE execution SET version = 4, updated_at = ?, remote_phase = 'RUNNING',"
    " run_started_at = ?, queued_us = 0 WHERE id = ?"
)
END = (
    "UPDATE execution SET phase = 'SUCCEEDED', version = version + 1, updated_at = ?,"
    " finished_at = ?, phase_at = ?, polls = ?, remote_phase = 'SUCCEEDED',"
    " outputs = ?, outputs_json = ? WHERE id = ?"
)
FORGET = "DELETE FROM timer WHERE execution_id = ?"
OUTBOX = (
    "INSERT INTO outbox (execution_id, version, phase, created_at)"
    " VALUES (?, ?, 'SUCCEEDED', ?)"
)
Statement = tuple[str, list[tuple[Any, ...]]]


def measure(executions: int, polls: int, folder: Path) -> Measurement:
    """Write the rows of *executions* with *polls* each, at least two."""
    path = folder / "own.db"
    upgrade(make_url(f"sqlite:///{path}"), busy_s=5)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("INSERT INTO template VALUES ('h', x'00', '{}', 0)")
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
    ids = [f"{i:032x}" for i in range(executions)]
    chunks = [ids[first : first + BATCH] for first in range(0, executions, BATCH)]
    for chunk in chunks:
        yield _submit(chunk, _now_us())
    for chunk in chunks:
        yield _intend(chunk, _now_us())
    for chunk in chunks:
        yield _start(chunk, _now_us())
    for poll in range(1, polls):
        for chunk in chunks:
            yield _poll(chunk, poll, _now_us())
    for chunk in chunks:
        yield _end(chunk, polls, _now_us())


def _submit(chunk: list[str], now: int) -> list[Statement]:
    rows = [(i, now, now, now, now, BYTES, INPUTS_JSON) for i in chunk]
    history = [(i, 1, "SUBMITTED", None, "QUEUED", None, now, 0) for i in chunk]
    return [(SUBMIT, rows), (TIMER, [(i, now) for i in chunk]), (HISTORY, history)]


def _intend(chunk: list[str], now: int) -> list[Statement]:
    moved = [(i, 2, "CREATE_INTENT", "QUEUED", "CREATING", None, now, 1) for i in chunk]
    rows = [(now, now, now, i) for i in chunk]
    return [(CLAIM, [(i,) for i in chunk]), (INTEND, rows), (HISTORY, moved)]


def _start(chunk: list[str], now: int) -> list[Statement]:
    moved = [(i, 3, "CREATED", "CREATING", "RUNNING", None, now, 1) for i in chunk]
    return [
        (START, [(now, BYTES, f"job-{i}", now, now, i) for i in chunk]),
        (HISTORY, moved),
        (JOB, [(i, f"job-{i}", BYTES, now, now) for i in chunk]),
        (RELEASE, [(now, 0, 0, now, i) for i in chunk]),
    ]


def _poll(chunk: list[str], poll: int, now: int) -> list[Statement]:
    statements: list[Statement] = [(CLAIM, [(i,) for i in chunk])]
    if poll == 1:  # the remote phase is news once
        cause, phase = "REMOTE_PHASE_CHANGED", "RUNNING"
        moved = [(i, 4, cause, phase, phase, phase, now, 2) for i in chunk]
        statements += [(NEWS, [(now, now, i) for i in chunk]), (HISTORY, moved)]
    statements.append((RELEASE, [(now, poll, poll, now, i) for i in chunk]))
    return statements


def _end(chunk: list[str], polls: int, now: int) -> list[Statement]:
    version = 4 if polls == 1 else 5
    end = ("REMOTE_SUCCEEDED", "RUNNING", "SUCCEEDED", "SUCCEEDED", now, polls + 1)
    return [
        (CLAIM, [(i,) for i in chunk]),
        (END, [(now, now, now, polls, BYTES, OUTPUTS_JSON, i) for i in chunk]),
        (HISTORY, [(i, version, *end) for i in chunk]),
        (FORGET, [(i,) for i in chunk]),
        (OUTBOX, [(i, version, now) for i in chunk]),
    ]


def _now_us() -> int:
    return time.time_ns() // 1000


def _check(database: sqlite3.Connection, executions: int, polls: int) -> None:
    """Refuse figures of a run that did not do the work."""
    ended = "SELECT count(*) FROM execution WHERE phase = 'SUCCEEDED'"
    assert database.execute(ended).fetchone() == (executions,)
    history = 4 if polls == 1 else 5
    transitions = database.execute("SELECT count(*) FROM history").fetchone()
    assert transitions == (history * executions,)
