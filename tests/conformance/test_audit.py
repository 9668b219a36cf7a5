"""The audit: silent on what an engine wrote, exact on what was broken on purpose."""

# ruff: noqa: S608 - the pieces are constants of this module

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sqlalchemy import event

from orchestrator._storage import INVARIANTS, Invariant, _audit
from orchestrator.errors import StoreError
from tests.support.lived import live
from tests.support.stores import make_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from blockbuster import BlockBuster

    from orchestrator._storage import Finding, Store
    from orchestrator.testing import ManualClock

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

_UNADOPTED = """
    INSERT INTO external_job (execution_id, attempt, task_type, task_version, job_key,
      meta, meta_version, recorded_at, adopted_at)
    SELECT id, attempt, task_type, task_version, 'second', x'7b7d', 1, 1, NULL
    FROM execution WHERE id = {id}"""
_ADOPTED = _UNADOPTED.replace("NULL", "1")
_TIMER = """
    INSERT INTO timer (execution_id, task_type, task_version, due_at, epoch)
    VALUES ({id}, 't', 0, 1, 1000)"""
_EVENT = "INSERT INTO outbox (execution_id, version, phase, created_at)"
_SWEEP = "INSERT INTO sweep (token, execution_id, attempt, task_type, task_version,"
_ROW = "WHERE execution_id = {id} AND version ="


class Break(NamedTuple):
    """What to do to a good database: statements, ``{id}`` is the named execution's."""

    who: str
    statements: tuple[str, ...]
    rows: int


def _break(who: str, *statements: str, rows: int = 1) -> Break:
    return Break(who, statements, rows)


BREAKS: dict[str, dict[str, Break]] = {
    "Q1": {
        "another version": _break(
            "running", "UPDATE execution SET version = version + 1 WHERE id = {id}"
        ),
        "another attempt": _break(
            "queued", "UPDATE execution SET attempt = 2 WHERE id = {id}"
        ),
        "another phase": _break(
            "creating",
            "UPDATE execution SET phase = 'CREATE_UNKNOWN' WHERE id = {id}",
            "UPDATE counter SET phase = 'CREATE_UNKNOWN' WHERE phase = 'CREATING'"
            " AND executions = 1",
        ),
        "no history": _break("queued", "DELETE FROM history WHERE execution_id = {id}"),
    },
    "Q2": {
        "one is missing": _break("succeeded", f"DELETE FROM history {_ROW} 4"),
        "the first is missing": _break("running", f"DELETE FROM history {_ROW} 1"),
    },
    "Q3": {
        "a step aside": _break(
            "succeeded",
            "UPDATE history SET from_phase = 'ABORTING', to_phase = 'ABORTING',"
            f" cause = 'HOLD_SET' {_ROW} 4",
            rows=2,  # there, and back
        ),
    },
    "Q4": {
        "no such edge": _break(
            "succeeded", f"UPDATE history SET cause = 'ADOPTED' {_ROW} 4"
        ),
        "no such cause": _break(
            "queued", f"UPDATE history SET cause = 'MAGIC' {_ROW} 1"
        ),
    },
    "Q5": {
        "of history": _break("succeeded", f"UPDATE history SET epoch = 1000 {_ROW} 2"),
        "of the timer": _break(
            "running", "UPDATE timer SET epoch = 0 WHERE execution_id = {id}"
        ),
    },
    "Q6": {
        "a job of a queued attempt": _break("queued", _UNADOPTED),
        "more calls than intents": _break(
            "creating", "UPDATE execution SET creates = 2 WHERE id = {id}"
        ),
    },
    "Q7": {
        "an attempt in between": _break(
            "succeeded", f"UPDATE history SET attempt = 7 {_ROW} 4", rows=2
        ),
        "not from 1": _break(
            "queued",
            "UPDATE history SET attempt = 2 WHERE execution_id = {id}",
            "UPDATE execution SET attempt = 2 WHERE id = {id}",
        ),
        "a search for another token": _break(
            "late",
            f"{_SWEEP} since, due_at, until)"
            " VALUES ('o' || {id} || '-9', {id}, 1, 't', 0, 1, 1, 1)",
        ),
        "a job of another's token": _break(
            "late",
            "UPDATE external_job SET job_key = 'o' || {succeeded} || '-1'"
            " WHERE execution_id = {id}",
        ),
    },
    "Q8": {
        "two are adopted": _break("failed", _ADOPTED),
        "a job that nobody wants": _break(
            "failed",
            "UPDATE external_job SET adopted_at = NULL WHERE execution_id = {id}",
        ),
    },
    "Q9": {
        "an unconfirmed abort": _break(
            "aborted",
            "UPDATE external_job SET cleanup = 'NONE' WHERE execution_id = {id}",
        ),
        "an unconfirmed timeout": _break(
            "timed_out",
            "UPDATE external_job SET cleanup = 'NONE' WHERE execution_id = {id}"
            " AND attempt = 2",
        ),
    },
    "Q10": {
        "the row does not say so": _break(
            "succeeded", "UPDATE execution SET remote_phase = 'RUNNING' WHERE id = {id}"
        ),
        "history does not say so": _break(
            "succeeded", f"UPDATE history SET remote_phase = NULL {_ROW} 5"
        ),
        "the job of another attempt": _break(
            "retried", "UPDATE execution SET job_key = 'job-1' WHERE id = {id}"
        ),
        "nobody's job": _break(
            "succeeded", "UPDATE execution SET job_key = 'nobody' WHERE id = {id}"
        ),
        "no job": _break(
            "succeeded", "UPDATE execution SET job_key = NULL WHERE id = {id}"
        ),
    },
    "Q11": {
        "by the clock": _break(
            "retried",
            "UPDATE execution SET abort_requested_at = 1 WHERE id = {id}",
            rows=2,
        ),
        "by the order": _break(
            "timed_out", f"UPDATE history SET cause = 'ABORT_REQUESTED' {_ROW} 5"
        ),
    },
    "Q12": {
        f"{cleanup} when the next began": _break(
            "timed_out",
            f"UPDATE external_job SET cleanup = '{cleanup}',"
            f" cleanup_due_at = nullif('{cleanup}', 'NONE')"
            " WHERE execution_id = {id} AND attempt = 1",
        )
        for cleanup in ("NONE", "DUE", "ABANDONED")
    },
    "Q13": {
        "the node has ended": _break("creating", "UPDATE node SET ended_at = 1"),
        "there is no such node": _break("creating", "DELETE FROM node"),
        "nobody will look": _break(
            "creating",
            "UPDATE timer SET node = NULL, due_at = due_at + 864000000000"
            " WHERE execution_id = {id}",
        ),
        "a delete of nobody": _break(
            "owing",
            "UPDATE external_job SET cleanup_node = 'x' WHERE execution_id = {id}",
        ),
    },
    "timer": {
        "of a terminal row": _break("failed", _TIMER),
        "missing": _break("queued", "DELETE FROM timer WHERE execution_id = {id}"),
        "of no row": _break("ghost", _TIMER),
    },
    "end": {
        "no event": _break("failed", "DELETE FROM outbox WHERE execution_id = {id}"),
        "another event": _break(
            "failed", "UPDATE outbox SET phase = 'ABORTED' WHERE execution_id = {id}"
        ),
        "too early": _break("running", f"{_EVENT} VALUES ({{id}}, 3, 'RUNNING', 1)"),
    },
    "counter": {
        "one too many": _break(
            "",
            "UPDATE counter SET executions = 2 WHERE task_type = 'failed'"
            " AND phase = 'FAILED'",
        ),
        "of nothing": _break("", "INSERT INTO counter VALUES ('ghost', 'QUEUED', 1)"),
        "missing": _break("", "DELETE FROM counter WHERE task_type = 'running'"),
    },
    "job": {
        "not in the ledger": _break(
            "running", "DELETE FROM external_job WHERE execution_id = {id}"
        ),
    },
    "key": {
        "another key": _break(
            "succeeded", "UPDATE execution SET idempotency_key = 'x' WHERE id = {id}"
        ),
        "leads nowhere": _break(
            "ghost", "UPDATE idempotency_key SET execution_id = {id}"
        ),
    },
}


class Lived(NamedTuple):
    """A database that an engine wrote, and the executions in it by name."""

    path: Path
    ids: dict[str, str]


@pytest.fixture(scope="session")
def original(
    migrated_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    blocking_guard: BlockBuster,
) -> Lived:
    """Return the database of a real run: see `live` for what happened in it."""
    path = tmp_path_factory.mktemp("lived") / "lived.db"
    shutil.copy(migrated_file, path)
    blocking_guard.deactivate()  # as for every test here, but once for all
    ids = asyncio.run(live(path))
    blocking_guard.activate()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Lived(path, ids)


@pytest.fixture
def lived(original: Lived, tmp_path: Path) -> Lived:
    """Return a copy of it, to be broken."""
    path = tmp_path / "lived.db"
    shutil.copy(original.path, path)
    return original._replace(path=path)


@pytest.fixture
async def lived_store(lived: Lived, clock: ManualClock) -> AsyncIterator[Store]:
    """Return a store open on the copy; no connector is registered anywhere."""
    store = make_store(f"sqlite+aiosqlite:///{lived.path}", clock)
    await store.open()
    yield store
    await store.close()


def tamper(lived: Lived, *statements: str, who: str = "") -> None:
    """Break the database behind everybody's back: triggers and checks are off."""
    named = {name: f"'{execution_id}'" for name, execution_id in lived.ids.items()}
    named["id"] = named.get(who, "'ghost'")
    with closing(sqlite3.connect(lived.path, timeout=10)) as db:
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        for (name,) in db.execute(triggers).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            changed = db.execute(statement.format_map(named)).rowcount
            assert changed >= 1, f"nothing was broken by {statement}"
        db.commit()


def test_each_invariant_is_broken_below() -> None:
    """No query is believed that was never seen to find anything."""
    assert [invariant.name for invariant in INVARIANTS] == list(BREAKS)
    assert [f"Q{n}" for n in range(1, 14)] == list(BREAKS)[:13]
    assert len({invariant.says for invariant in INVARIANTS}) == len(BREAKS)


async def test_a_real_run_has_no_finding(lived: Lived, lived_store: Store) -> None:
    """Every end, a retry, unknown creates, debts paid and owed, an open call."""
    assert await lived_store.audit() == []
    with closing(sqlite3.connect(lived.path)) as db:
        phases = {row[0] for row in db.execute("SELECT phase FROM execution")}
        cleanups = {row[0] for row in db.execute("SELECT cleanup FROM external_job")}
        retried = db.execute("SELECT count(*) FROM execution WHERE attempt > 1")
        assert retried.fetchone() == (2,)
    assert {"SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT", "CREATING"} <= phases
    assert {"NONE", "DUE", "DONE"} <= cleanups


@pytest.mark.parametrize(
    ("name", "how"),
    [pytest.param(n, how, id=f"{n}-{how}") for n in BREAKS for how in BREAKS[n]],
)
async def test_a_broken_history_is_named_and_nothing_else(
    name: str, how: str, lived: Lived, lived_store: Store
) -> None:
    """Exactly that invariant, with the execution that is to blame."""
    broken = BREAKS[name][how]
    tamper(lived, *broken.statements, who=broken.who)
    [found] = await lived_store.audit()
    assert (found.name, found.count) == (name, broken.rows)
    to_blame = lived.ids.get(broken.who, broken.who or None)
    assert {row["execution_id"] for row in found.rows} == {to_blame}
    assert len(found.rows) == broken.rows


async def test_every_query_names_the_execution_first(lived: Lived) -> None:
    """And every column has a name: a finding is read by people and programs."""
    with closing(sqlite3.connect(lived.path)) as db:
        for invariant in INVARIANTS:
            names = [column[0] for column in db.execute(invariant.query).description]
            assert names[0] == "execution_id", invariant.name
            assert all(name.isidentifier() for name in names), (invariant.name, names)


async def test_many_rows_are_counted_and_some_are_shown(
    lived: Lived, lived_store: Store
) -> None:
    """A finding stays readable however much is broken."""
    tamper(lived, "UPDATE history SET cause = 'MAGIC'")
    rows = len(sqlite_rows(lived, "SELECT 1 FROM history"))
    [found] = [f for f in await lived_store.audit() if f.name == "Q4"]
    assert (found.count, len(found.rows)) == (rows, _audit.SHOWN_MAX)
    [found] = [f for f in await lived_store.audit(shown=3) if f.name == "Q4"]
    assert (found.count, len(found.rows)) == (rows, 3)


def sqlite_rows(lived: Lived, query: str) -> list[Any]:
    """Return what *query* finds in the file."""
    with closing(sqlite3.connect(lived.path)) as db:
        return db.execute(query).fetchall()


async def test_rows_that_cannot_be_read_are_counted(
    lived: Lived, lived_store: Store
) -> None:
    """Text that is none ends neither the audit nor the finding."""
    spoilt = f"UPDATE history SET cause = CAST(x'ff' AS TEXT) {_ROW} 4"
    tamper(lived, spoilt, who="succeeded")
    [found] = await lived_store.audit()
    assert (found.name, found.count, found.rows) == ("Q4", 1, ())


async def _audit_with_a_writer_in_between(
    lived: Lived, store: Store
) -> tuple[list[Finding], int]:
    """Audit while another connection commits two halves of a break."""
    asked: list[str] = []

    @event.listens_for(store._reader.sync_engine, "after_cursor_execute")
    def _write(_c: Any, _cur: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SELECT count"):
            return
        asked.append(statement)
        if len(asked) == 1:
            tamper(lived, f"UPDATE history SET epoch = 99 {_ROW} 4", who="succeeded")

    found = await store.audit()
    event.remove(store._reader.sync_engine, "after_cursor_execute", _write)
    return found, len(asked)


async def test_the_audit_asks_of_one_moment_and_nobody_waits_for_it(
    lived: Lived, lived_store: Store
) -> None:
    """A commit between two queries succeeds, and is seen by the next audit only."""
    found, asked = await _audit_with_a_writer_in_between(lived, lived_store)
    assert (found, asked) == ([], len(INVARIANTS))
    assert [f.name for f in await lived_store.audit()] == ["Q5"]


async def test_without_its_transaction_the_audit_mixes_moments(
    lived: Lived, lived_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above rests on: red when it is off."""
    whole = _audit.findings

    async def statement_by_statement(
        connection: Any, shown: int, *, begin: bool
    ) -> list[Finding]:
        return await whole(connection, shown, begin=False)

    monkeypatch.setattr(_audit, "findings", statement_by_statement)
    found, _ = await _audit_with_a_writer_in_between(lived, lived_store)
    assert [f.name for f in found] == ["Q5"]


async def test_no_query_can_write(
    lived: Lived, lived_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a query stands, SQL allows a read and nothing else."""
    before = sqlite_rows(lived, "SELECT * FROM counter")
    writes = Invariant("X", "", "DELETE FROM counter RETURNING phase AS execution_id")
    monkeypatch.setattr(_audit, "INVARIANTS", (writes,))
    with pytest.raises(StoreError):
        await lived_store.audit()
    assert sqlite_rows(lived, "SELECT * FROM counter") == before


async def test_an_empty_database_of_any_kind_is_in_order(store: Store) -> None:
    """Also one in memory, whose only connection is the writer's."""
    assert await store.audit() == []


async def test_the_store_works_on_after_an_audit(
    lived: Lived, lived_store: Store
) -> None:
    """The reader's transaction has ended with it: later commits are seen."""
    assert await lived_store.audit() == []
    assert await lived_store.wish_abort(lived.ids["queued"], "enough", 5)
    row = await lived_store.get(lived.ids["queued"])
    assert row is not None
    assert row.abort_reason == "enough"
