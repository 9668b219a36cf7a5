"""A migrated database is the schema of the code, word for word, and stays whole."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.engine import Engine

from orchestrator._storage import HEAD, _ddl, migrations_dir, upgrade
from orchestrator._storage._migrate import VERSION_TABLE, alembic_config
from orchestrator._storage._schema import metadata
from orchestrator.testing import ManualClock
from tests.support.migrate import DIED
from tests.support.stores import make_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Schema = dict[tuple[str, str], str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database is to be."""
    return tmp_path / "jobs.db"


def _migrate(path: Path) -> None:
    upgrade(make_url(f"sqlite:///{path}"), busy_s=5)


def _schema(path: Path) -> Schema:
    """Return every statement that made the database, apart from Alembic's table."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ).fetchall()
    connection.close()
    return {
        (kind, name): re.sub(r"\s+", " ", sql).strip()
        for kind, name, sql in rows
        if name != VERSION_TABLE
    }


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    """Return the schema that the code makes, without any migration."""
    path = tmp_path_factory.mktemp("fresh") / "jobs.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        metadata.create_all(connection)
        _ddl.create_all(connection.exec_driver_sql)
    engine.dispose()
    return _schema(path)


@pytest.fixture
def on(path: Path) -> Iterator[Callable[[Callable[[Connection], object]], object]]:
    """Return a function that calls another with a connection to the database."""
    engine = create_engine(f"sqlite:///{path}")

    def call(function: Callable[[Connection], object]) -> object:
        with engine.begin() as connection:
            return function(connection)

    yield call
    engine.dispose()


def _alembic(verb: str, revision: str) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        getattr(command, verb)(config, revision)

    return run


def _revision(path: Path) -> list[tuple[str]]:
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()  # noqa: S608
    connection.close()
    return found


def test_a_migrated_database_is_the_schema_of_the_code_word_for_word(
    path: Path, fresh: Schema
) -> None:
    """Tables, indexes, triggers and views, with their checks and defaults."""
    _migrate(path)
    assert _schema(path) == fresh
    assert {kind for kind, _ in fresh} == {"table", "index", "trigger", "view"}
    assert {name for kind, name in fresh if kind == "table"} == set(metadata.tables)


def test_alembic_finds_no_difference(
    path: Path, on: Callable[[Callable[[Connection], object]], object]
) -> None:
    _migrate(path)

    def compare(connection: Connection) -> object:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, metadata)

    assert on(compare) == []


def test_the_head_is_the_one_that_the_code_expects() -> None:
    """One line of revisions, in the order of their names, each with a note."""
    script = ScriptDirectory.from_config(alembic_config())
    revisions = [revision.revision for revision in script.walk_revisions()][::-1]
    assert script.get_heads() == [HEAD]
    assert revisions == sorted(revisions)
    notes = (migrations_dir() / "NOTES.md").read_text()
    assert [rev for rev in revisions if f"**{rev}**" not in notes] == []


def test_a_second_upgrade_finds_nothing_to_do(path: Path) -> None:
    _migrate(path)
    before = path.read_bytes()
    _migrate(path)
    assert path.read_bytes() == before


def test_down_and_up_again_is_the_same_schema(
    path: Path, fresh: Schema, on: Callable[[Callable[[Connection], object]], object]
) -> None:
    _migrate(path)
    on(_alembic("downgrade", "base"))
    assert _schema(path) == {}
    on(_alembic("upgrade", HEAD))
    assert _schema(path) == fresh
    assert _revision(path) == [(HEAD,)]


def test_what_others_keep_in_the_file_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.execute("INSERT INTO theirs VALUES (7)")
    connection.commit()
    _migrate(path)
    assert connection.execute("SELECT x FROM theirs").fetchall() == [(7,)]
    connection.close()


class _DiedError(Exception):
    """Stands for the end of the process."""


def _statements(path: Path, fatal: int = 0) -> int:
    """Migrate; raise before statement *fatal*; return how many statements it takes."""
    count = 0

    def before(*_: object) -> None:
        nonlocal count
        count += 1
        if count == fatal:
            raise _DiedError

    event.listen(Engine, "before_cursor_execute", before)
    try:
        _migrate(path)
    finally:
        event.remove(Engine, "before_cursor_execute", before)
    return count


def test_a_migration_that_ends_before_any_statement_leaves_all_or_nothing(
    tmp_path: Path, fresh: Schema
) -> None:
    """And the next start completes it: for every statement, one after the other."""
    total = _statements(tmp_path / "whole.db")
    assert total > 40
    path = tmp_path / "jobs.db"
    for fatal in range(1, total + 1):
        path.unlink(missing_ok=True)
        with pytest.raises(_DiedError):
            _statements(path, fatal)
        assert _schema(path) == {}, f"statement {fatal} of {total}"
    _migrate(path)
    assert _schema(path) == fresh


def _start(path: Path, fatal: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.migrate", str(path), str(fatal)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _finish(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    return [process.returncode for process in processes]


def test_processes_that_are_killed_in_a_migration_leave_all_or_nothing(
    tmp_path: Path, fresh: Schema
) -> None:
    """Early, in the middle and before the last statement; a rerun completes it."""
    total = _statements(tmp_path / "whole.db")
    fatal = [2, total // 2, total]
    paths = [tmp_path / f"{number}.db" for number in fatal]
    killed = [_start(path, at) for path, at in zip(paths, fatal, strict=True)]
    assert _finish(killed) == [DIED] * len(fatal)
    for path in paths:
        assert _schema(path) == {}
        _migrate(path)
        assert _schema(path) == fresh


def test_threads_of_one_process_may_migrate_at_once(
    tmp_path: Path, fresh: Schema
) -> None:
    """Alembic alone would mix up their connections: it works with globals."""
    paths = [tmp_path / f"{number}.db" for number in range(4)]
    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(_migrate, paths))
    assert [_schema(path) for path in paths] == [fresh] * len(paths)


async def test_databases_in_memory_may_be_opened_at_once(path: Path) -> None:
    """In one loop, beside one that migrates a file in its thread."""
    urls = ["sqlite://", "sqlite://", f"sqlite+aiosqlite:///{path}"]
    stores = [make_store(url, ManualClock()) for url in urls]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        assert await store.counts() == {}
        await store.close()


def test_two_processes_may_migrate_at_once(path: Path, fresh: Schema) -> None:
    """The second waits, then finds nothing to do."""
    assert _finish([_start(path), _start(path)]) == [0, 0]
    assert _schema(path) == fresh
    assert _revision(path) == [(HEAD,)]
