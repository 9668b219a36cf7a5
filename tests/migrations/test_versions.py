"""Two versions and one database: kills in between, refusals, an upgrade underneath."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from orchestrator import Config, Orchestrator
from orchestrator._ids import Ids
from orchestrator._storage import HEAD
from orchestrator._storage._migrate import VERSION_TABLE, revision_of
from orchestrator.errors import SchemaMismatchError
from tests.crash.audit import Audit
from tests.engine.kit import DONE, Clock, Script, a_task, registry_of
from tests.migrations import killed
from tests.support import future

if TYPE_CHECKING:
    from pathlib import Path

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

CLOCK, SEEDS = Clock(), count()


def the_future(path: Path, kind: str, *more: str) -> str:
    """Let another process, of a version to come, upgrade *path*."""
    return subprocess.run(
        [sys.executable, "-m", "tests.support.future", str(path), kind, *more],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    ).stdout


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask the file, as a program does that knows nothing of us."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def revision(path: Path) -> str | None:
    """Return the revision that the file says it has."""
    return revision_of(make_url(f"sqlite:///{path}"))


def an_orchestrator(path: Path, **settings: Any) -> Orchestrator:
    """Return one that runs scripts, by ticks, on the clock of all."""
    script = Script(get=DONE, create_is_idempotent=True)
    return Orchestrator(
        path,
        config=Config(**settings),
        registry=registry_of(script),
        clock=CLOCK,
        ids=Ids(CLOCK, Random(next(SEEDS))),
        start=False,
    )


async def ended(orchestrator: Orchestrator, execution_id: str) -> str:
    """Tick until the execution is terminal; return its phase."""
    for _ in range(10):
        await orchestrator.tick()
        CLOCK.advance(2)
    return str((await orchestrator.get(execution_id)).phase)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database of this version, with an execution that lives and one that ended."""
    path = tmp_path / "jobs.db"
    async with an_orchestrator(path) as orchestrator:
        first = await orchestrator.submit(a_task())
        assert await ended(orchestrator, first.id) == "SUCCEEDED"
        await orchestrator.submit(a_task("waits"))
    return path


def test_an_upgrade_that_is_killed_at_any_statement_leaves_the_old_version_whole(
    path: Path, tmp_path: Path
) -> None:
    """All or nothing, rows included; this version works on, and a rerun completes."""
    folder = tmp_path / "killed"
    folder.mkdir()
    total = int(the_future(path, "additive", "--kill-each", str(folder)))
    assert total > len(future.KINDS["additive"])
    before = Audit(path).snapshot()
    for number in range(total):
        copy = folder / f"{number}.db"
        assert revision(copy) == HEAD, number
        assert ask(copy, "PRAGMA integrity_check") == [("ok",)]
        assert Audit(copy).snapshot() == before, number
    again = folder / f"{total - 1}.db"
    with future.future("additive"):
        future.upgrade(again)
    for whole in (again, folder / f"{total}.db"):
        assert revision(whole) == future.FUTURE
        colours = ask(whole, "SELECT colour FROM execution ORDER BY 1")
        assert colours == [("blue",), ("old",)]


def test_a_first_migration_that_is_killed_leaves_nothing_and_a_rerun_completes_it(
    tmp_path: Path,
) -> None:
    """Real SIGKILLs, at each 11th statement; the command takes every one."""
    found = killed.first_migration(tmp_path, step=11)
    assert found.killed > 4
    assert (found.empty, found.completed) == (found.killed, found.killed)


async def test_this_version_refuses_a_database_that_a_newer_one_has_upgraded(
    path: Path,
) -> None:
    """Whether it may migrate or not; the file stays as it is."""
    the_future(path, "additive")
    before = await asyncio.to_thread(path.read_bytes)
    for migrate in (True, False):
        with pytest.raises(SchemaMismatchError, match="newer version") as caught:
            await an_orchestrator(path, migrate=migrate).open()
        assert (caught.value.found, caught.value.expected) == (future.FUTURE, HEAD)
    assert await asyncio.to_thread(path.read_bytes) == before


async def test_a_newer_version_without_leave_to_migrate_says_what_to_run(
    path: Path,
) -> None:
    """And with leave it upgrades, and goes on with what the old version accepted."""
    with future.future("additive"):
        with pytest.raises(SchemaMismatchError, match="orchestrator db upgrade"):
            await an_orchestrator(path, migrate=False).open()
        assert revision(path) == HEAD
        async with an_orchestrator(path) as newer:
            [waiting] = await newer.list(phase="QUEUED")
            assert await ended(newer, waiting.id) == "SUCCEEDED"
    assert revision(path) == future.FUTURE


async def test_an_open_engine_works_on_when_a_newer_version_adds_to_its_database(
    path: Path,
) -> None:
    """Both versions work side by side on one file; nothing is lost or corrupt."""
    async with an_orchestrator(path) as older:
        [waiting] = await older.list(phase="QUEUED")
        the_future(path, "additive")
        assert await ended(older, waiting.id) == "SUCCEEDED"
        handle = await older.submit(a_task())
        with future.future("additive"):
            async with an_orchestrator(path) as newer:
                assert await ended(newer, handle.id) == "SUCCEEDED"
                handle = await newer.submit(a_task())
        assert await ended(older, handle.id) == "SUCCEEDED"
    assert Audit(path).broken_histories() == []
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    colours = ask(path, "SELECT colour, count(*) FROM execution GROUP BY 1")
    assert colours == [("blue", 3), ("old", 1)]


async def test_an_open_engine_whose_database_no_longer_fits_stops_with_a_clear_error(
    path: Path,
) -> None:
    """Its writes are refused whole, by revision, and not by a driver's riddle."""
    async with an_orchestrator(path) as older:
        before = Audit(path).snapshot()
        the_future(path, "breaking")
        with pytest.raises(SchemaMismatchError, match="newer version") as caught:
            await older.tick()
        assert (caught.value.found, caught.value.expected) == (future.FUTURE, HEAD)
        assert Audit(path).snapshot() == before
    assert Audit(path).broken_histories() == []
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    assert ask(path, f"SELECT * FROM {VERSION_TABLE}") == [(future.FUTURE,)]  # noqa: S608
