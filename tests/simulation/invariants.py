"""What must hold of every database, at any moment and at the end, and of its world.

The SQL asks the file itself, through sqlite3; each query must return no row. What
holds at any moment is the product's own audit. The world is the witness of what the
services were asked and did.
"""

# ruff: noqa: S608 - the pieces are constants of this module

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING, Any

from orchestrator._ids import create_token
from orchestrator._machine import INTENTS
from orchestrator._phase import TERMINAL, Cause
from orchestrator._storage import INVARIANTS
from tests.simulation.world import Kind, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.simulation.world import Job, World

_ENDED = "('" + "', '".join(sorted(TERMINAL)) + "')"
_INTENTS = "('" + "', '".join(sorted(INTENTS)) + "')"
_MOMENT_US = 60 * 10**6

ALWAYS = {f"{each.name} {each.says}": each.query for each in INVARIANTS}
"""Invariants of every committed state: name to a query that finds what breaks it."""

QUIET: dict[str, str] = {
    "all rows are terminal": f"""
        SELECT id, phase, hold FROM execution WHERE phase NOT IN {_ENDED}""",
    "no debt is left": """
        SELECT execution_id, attempt, job_key FROM external_job
        WHERE cleanup = 'DUE' OR cleanup_node IS NOT NULL""",
    "no search is left": "SELECT token, execution_id, due_at FROM sweep",
}
"""Invariants of the end, when nothing is left to do."""


class Database:
    """One SQLite file, read from outside while engines come and go."""

    def __init__(self, path: Path) -> None:
        """Look at *path*, which exists."""
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None)
        self._db.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return what *query* finds."""
        return self._db.execute(query, parameters).fetchall()

    def number(self, query: str, *parameters: object) -> int:
        """Return the one number that *query* finds."""
        return int(self.rows(query, *parameters)[0][0])

    def broken(self, invariants: Mapping[str, str] = ALWAYS) -> list[str]:
        """Return one line for each row that breaks an invariant."""
        return [
            f"broken: {name}: {row}"
            for name, query in invariants.items()
            for row in self.rows(query)
            if not (name.startswith("Q11 ") and self._only_by_time(row))
        ]

    def _only_by_time(self, row: tuple[Any, ...]) -> bool:
        """Whether nothing but the wall clock says that the abort was first.

        Clocks are set here, by an hour and more, and the wish has no version. That the
        intent's commit asks for wishes is held by a test of the store.
        """
        query = (
            "SELECT count(*) FROM history WHERE execution_id = ? AND version < ?"
            f" AND cause = '{Cause.ABORT_REQUESTED}'"
        )
        return not self.number(query, *row[:2])

    def busy(self) -> bool:
        """Whether anything is left to do."""
        live = "SELECT count(*) FROM timer"
        debts = "SELECT count(*) FROM external_job WHERE cleanup = 'DUE'"
        searches = "SELECT count(*) FROM sweep"
        return any(map(self.number, (live, debts, searches)))

    def terminal_hashes(self) -> dict[str, str]:
        """Return a hash over all columns of each terminal row, by id (P4)."""
        query = f"SELECT * FROM execution WHERE phase IN {_ENDED}"
        return {
            row[0]: hashlib.sha256(repr(row).encode()).hexdigest()
            for row in self.rows(query)
        }

    def trace(self) -> list[tuple[Any, ...]]:
        """Return what the engine decided and learnt, in a fixed order."""
        history = self.rows("SELECT * FROM history ORDER BY execution_id, version")
        jobs = self.rows("SELECT * FROM external_job ORDER BY id")
        return history + jobs


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return one line for each terminal row that is not what it was (P4)."""
    return [
        f"P4: {execution_id} was terminal and has changed"
        for execution_id, known in before.items()
        if now.get(execution_id) != known
    ]


def against_world(database: Database, world: World) -> list[str]:
    """Return what the services' own record contradicts, once all is quiet."""
    now = world.now()
    ends = {
        row[0]: row[1:]
        for row in database.rows("SELECT id, phase, error_code FROM execution")
    }
    ledger = {
        row[0]: row[1:]
        for row in database.rows(
            "SELECT job_key, execution_id, attempt, cleanup FROM external_job"
        )
    }
    aborting = {
        (row[0], row[1]): row[2]
        for row in database.rows(
            "SELECT execution_id, attempt, min(at) FROM history"
            " WHERE to_phase = 'ABORTING' GROUP BY execution_id, attempt"
        )
    }
    problems: list[str] = []
    problems += _intents(database, world)
    tokens: dict[str, list[Job]] = {}
    for job in world.jobs.values():
        tokens.setdefault(job.token, []).append(job)
        execution_id, attempt = job.attempt
        unknown = ends[execution_id][1] == "CREATE_OUTCOME_UNKNOWN"
        cleanup = ledger.get(job.id, (None, None, None))[2]
        if job.live(now) and not unknown and cleanup != "ABANDONED":
            problems.append(f"P3: {job} lives on, {ends[execution_id]}, {cleanup}")
        since = aborting.get((execution_id, attempt))
        # What ends by itself at that moment needs no delete.
        if (
            since is not None
            and job.id in ledger
            and not job.deletes
            and job.over_at() > world.clock.when(since)[1] + _MOMENT_US
        ):
            problems.append(f"P10: {job} was to be aborted, and never deleted")
    problems += _duplicates(tokens, ledger, now)
    problems += _overlaps(world)
    problems += _successes(database, world)
    return problems


def _intents(database: Database, world: World) -> Iterator[str]:
    query = f"""
        SELECT execution_id, attempt, count(*) FROM history
        WHERE cause IN {_INTENTS} GROUP BY execution_id, attempt"""
    allowed = {create_token(row[0], row[1]): row[2] for row in database.rows(query)}
    for token, calls in world.creates.items():
        if calls > allowed.get(token, 0):
            yield f"Q6: {calls} creates of {token}, {allowed.get(token, 0)} intents"


def _duplicates(
    tokens: Mapping[str, list[Job]], ledger: Mapping[str, Any], now: int
) -> Iterator[str]:
    for token, jobs in tokens.items():
        if len(jobs) < 2:
            continue
        ids = [job.id for job in jobs]
        live = [job.id for job in jobs if job.live(now)]
        if jobs[0].kind in (Kind.IDEMPOTENT, Kind.TIMED):
            yield f"P2: {token} made {ids}"
        elif len(live) > 1:
            yield f"P2: {token} has the live jobs {live}"
        elif missing := [j.id for j in jobs if j.id not in ledger and not j.lost_at]:
            yield f"P2: {token} made {ids}, the ledger lacks {missing}"


def _overlaps(world: World) -> Iterator[str]:
    """Q12: attempt k + 1 begins when job k is over."""
    latest: dict[tuple[str, int], Job] = {}
    for job in world.jobs.values():
        latest.setdefault(job.attempt, job)
    for (execution_id, attempt), job in latest.items():
        before = latest.get((execution_id, attempt - 1))
        if before is not None and before.over_at() > job.made_at:
            yield f"Q12: {job.id} was made while {before.id} lived"


def _successes(database: Database, world: World) -> Iterator[str]:
    """Q10: an execution that SUCCEEDED has the outputs of its own, succeeded job."""
    query = """SELECT id, attempt, job_key, json_extract(outputs_json, '$.result')
               FROM execution WHERE phase = 'SUCCEEDED'"""
    for execution_id, attempt, key, result in database.rows(query):
        job = world.jobs.get(key)
        if (
            job is None
            or job.attempt != (execution_id, attempt)
            or job.state(world.now()) is not State.SUCCEEDED
            or result != f"output of {job.id}"
        ):
            yield f"Q10: {execution_id} SUCCEEDED with {result!r}, its job is {job}"


def acknowledged(
    database: Database, wished: Iterable[tuple[str, str | None]]
) -> Iterator[str]:
    """P1: what a submit returned is a row, under its key, and there is no other."""
    rows = {row[1]: row[0] for row in database.rows(
        "SELECT id, idempotency_key FROM execution WHERE retry_of IS NULL"
    )}  # fmt: skip
    for key, execution_id in wished:
        if execution_id is not None and rows.get(key) != execution_id:
            yield f"P1: {key} was acknowledged as {execution_id}: {rows.get(key)}"
    total = database.number("SELECT count(*) FROM execution WHERE retry_of IS NULL")
    if total != len(rows):
        yield f"P1: {total} rows for {len(rows)} keys"
