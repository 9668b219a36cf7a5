"""Opening: what is no database of ours is refused by its path, and left as it was."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator._config import Config, database_url
from orchestrator._storage import HEAD
from orchestrator._storage._dialects import enter_wal
from orchestrator._storage._migrate import VERSION_TABLE
from orchestrator.errors import (
    ConfigurationError,
    NotADatabaseError,
    SchemaMismatchError,
)
from orchestrator.testing import ManualClock
from tests.support.factories import NOW, make_new
from tests.support.stores import CONFIG, make_store, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator._storage import Store


def _store(path: Path | str, config: Config = CONFIG) -> Store:
    return make_store(f"sqlite+aiosqlite:///{path}", ManualClock(), config=config)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777


async def _refused(path: Path, error: type[Exception], match: str) -> None:
    before = _bytes(path)
    store = _store(path)
    with pytest.raises(error, match=match):
        await store.open()
    assert _bytes(path) == before


async def test_a_new_path_becomes_a_database_of_its_owner_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.db"
    store = _store(path)
    await store.open()
    await store.submit([make_new()], NOW)
    for suffix in ("", "-wal", "-shm"):
        assert _mode(f"{path}{suffix}") == 0o600
    sizes = await asyncio.to_thread(store.sizes)
    assert set(sizes) == {str(path), f"{path}-wal"}
    await store.close()


async def test_the_connections_are_durable_and_checked(tmp_path: Path) -> None:
    store = _store(tmp_path / "jobs.db")
    await store.open()
    settings = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "busy_timeout": 100,
    }
    for name, value in settings.items():
        assert await query(store, f"PRAGMA {name}") == [(value,)]
        connection = await store.writer._connect()
        result = await connection.exec_driver_sql(f"PRAGMA {name}")
        assert result.scalar() == value
        await connection.rollback()
    await store.close()


def _plain(path: Path) -> sqlite3.Connection:
    """Connect as a program does that knows nothing of us, and never waits."""
    return sqlite3.connect(path, isolation_level=None, timeout=0)


def test_the_switch_to_wal_waits_for_who_is_at_work(tmp_path: Path) -> None:
    """SQLite itself does not: its pragma fails at once beside a writer."""
    path = tmp_path / "jobs.db"
    with closing(_plain(path)) as other, closing(_plain(path)) as mine:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE theirs (x)")
        seen: list[str] = []

        def execute(sql: str) -> object:
            seen.append(sql)
            if sql.startswith("BEGIN"):  # where a busy timeout would wait
                other.execute("COMMIT")
            return mine.execute(sql)

        enter_wal(execute)
        pragma = "PRAGMA journal_mode=WAL"
        assert seen == [pragma, "BEGIN EXCLUSIVE", "ROLLBACK", pragma]
        assert mine.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_switch_to_wal_gives_up_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(_plain(path)) as other, closing(_plain(path)) as mine:
        other.execute("CREATE TABLE theirs (x)")

        def execute(sql: str) -> object:
            if sql.startswith("PRAGMA"):  # somebody is always in the way
                other.execute("BEGIN IMMEDIATE")
            try:
                return mine.execute(sql)
            finally:
                if other.in_transaction:
                    other.execute("ROLLBACK")

        with pytest.raises(sqlite3.OperationalError, match="locked"):
            enter_wal(execute)


async def test_a_path_with_odd_characters_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a b%20ä'?#.db"
    store = make_store(database_url(path), ManualClock())
    await store.open()
    await store.close()
    assert path.exists()


async def test_a_text_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all\n" * 50)
    await _refused(path, NotADatabaseError, "notes.txt")


async def test_a_short_file_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "short.db"
    path.write_text("hello")
    await _refused(path, NotADatabaseError, "short.db")


async def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = _store(path)
    await store.open()
    await store.submit([make_new() for _ in range(200)], NOW)
    await store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    store = _store(path)

    async def use() -> None:
        await store.open()
        await query(store, "SELECT * FROM execution")

    with pytest.raises(NotADatabaseError, match="damaged"):
        await use()
    await store.close()


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    await _refused(tmp_path, NotADatabaseError, "folder")


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    await _refused(tmp_path / "none" / "jobs.db", NotADatabaseError, "none")


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = _store(path)
    await store.open()
    await store.close()
    _change(path, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")  # noqa: S608
    with pytest.raises(SchemaMismatchError, match="newer") as caught:
        await _store(path).open()
    assert (caught.value.found, caught.value.expected) == ("9999", HEAD)
    found = sqlite3.connect(path)
    assert found.execute(f"SELECT * FROM {VERSION_TABLE}").fetchall() == [("9999",)]  # noqa: S608
    found.close()


def _change(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("table", ["execution", "history", "timer"])
async def test_a_foreign_database_with_our_table_s_name_is_left_alone(
    tmp_path: Path, table: str
) -> None:
    path = tmp_path / "theirs.db"
    _change(path, f"CREATE TABLE {table} (x)")
    with pytest.raises(NotADatabaseError, match="tables named like ours"):
        await _store(path).open()
    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [(table,)]


async def test_without_leave_to_migrate_an_old_database_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.db"
    config = Config(migrate=False)
    with pytest.raises(SchemaMismatchError, match="db upgrade") as caught:
        await _store(path, config).open()
    assert caught.value.found is None
    store = _store(path)
    await store.open()
    await store.close()
    store = _store(path, config)
    await store.open()
    await store.close()


@pytest.mark.parametrize(
    "url", ["postgresql://h/d", "mysql://h/d", "nonsense", "oracle+nothing://x"]
)
def test_another_database_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match="database"):
        make_store(url, ManualClock())


async def test_a_memory_database_migrates_itself() -> None:
    store = make_store("sqlite://", ManualClock())
    await store.open()
    await store.submit([make_new()], NOW)
    assert len(await store.find()) == 1
    assert (store.lock_path("n"), store.sizes()) == (None, {})
    await store.close()


NOBODY = 65534
OPEN_READ_ONLY = """
import asyncio, os, sys
from orchestrator._clock import SystemClock
from orchestrator.errors import StoreUnavailableError
from tests.support.stores import make_store

async def main():
    store = make_store("sqlite+aiosqlite:///" + sys.argv[1], SystemClock())
    if os.geteuid() == 0:  # permissions do not bind root
        os.setgid(int(sys.argv[2]))
        os.setuid(int(sys.argv[2]))
    try:
        await store.open()
    except StoreUnavailableError as error:
        sys.stdout.write(str(error))
        return
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that everybody may come to.

    Not below pytest's own: each session that begins shuts that for others, under the
    feet of one that runs beside it.
    """
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
        Path(name).chmod(0o755)


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_what_may_not_be_written_is_told(open_to_all: Path, what: str) -> None:
    """A file, or a folder without the file, that belongs to somebody else."""
    path = open_to_all / "jobs.db"
    if what == "file":
        store = _store(path)
        await store.open()
        await store.close()
        path.chmod(0o444)
    path.parent.chmod(0o555)
    told = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", OPEN_READ_ONLY, str(path), str(NOBODY)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert str(path) in told.stdout
    assert "denied" in told.stdout or "not readable and writable" in told.stdout
    assert (_bytes(path) is not None) == (what == "file")
