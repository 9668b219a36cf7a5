"""The stores under test. A new database is one more `Backend`, and no other change."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from orchestrator._storage import HEAD, upgrade
from orchestrator._storage._migrate import VERSION_TABLE
from orchestrator.testing import ManualClock
from tests.support.stores import check_store, make_store, preload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from orchestrator._storage import Store


@dataclass(frozen=True)
class Backend:
    """A kind of database and what it can do.

    Attributes:
        shared: Several stores, also of several processes, can open one database.
    """

    name: str
    shared: bool


BACKENDS = [
    Backend("sqlite-file", shared=True),
    Backend("sqlite-memory", shared=False),
]
SHARED = [backend for backend in BACKENDS if backend.shared]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated SQLite file to copy: a migration takes a while."""
    path = tmp_path_factory.mktemp("migrated") / "jobs.db"
    upgrade(make_url(f"sqlite:///{path}"), busy_s=5)
    return path


@pytest.fixture
def clock() -> ManualClock:
    """Return the clock of every store of the test."""
    return ManualClock()


def _url(backend: Backend, migrated: Path, folder: Path) -> str:
    if backend.name == "sqlite-memory":
        return "sqlite+aiosqlite:///:memory:"
    path = folder / "jobs.db"
    if not path.exists():
        shutil.copy(migrated, path)
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def url(request: pytest.FixtureRequest, migrated_file: Path, tmp_path: Path) -> str:
    """Return an empty database of each kind."""
    return _url(request.param, migrated_file, tmp_path)


@pytest.fixture(params=SHARED, ids=lambda backend: backend.name)
def shared_url(
    request: pytest.FixtureRequest, migrated_file: Path, tmp_path: Path
) -> str:
    """Return an empty database of each kind that several stores can open."""
    return _url(request.param, migrated_file, tmp_path)


@pytest.fixture(scope="session")
def migrated_statements(migrated_file: Path) -> list[str]:
    """Return the statements that make a migrated database."""
    connection = sqlite3.connect(migrated_file)
    made = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    statements = [sql for (sql,) in connection.execute(made)]
    connection.close()
    revision = f"INSERT INTO {VERSION_TABLE} VALUES ('{HEAD}')"  # noqa: S608 - ours
    return [*statements, revision]


@pytest.fixture
async def store(
    url: str, clock: ManualClock, migrated_statements: list[str]
) -> AsyncIterator[Store]:
    """Return an open store; what holds for every database is checked at the end."""
    store = make_store(url, clock)
    if ":memory:" in url:
        preload(store, migrated_statements)
    await store.open()
    try:
        yield store
        await check_store(store)
    finally:
        await store.close()


@pytest.fixture
async def open_store(
    shared_url: str, clock: ManualClock
) -> AsyncIterator[Callable[..., Store]]:
    """Return a function that makes one more store of the same database.

    The test opens it; it is closed after the test.
    """
    made: list[Store] = []

    def make(**options: object) -> Store:
        made.append(make_store(shared_url, clock, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for store in made:
        await store.close()
