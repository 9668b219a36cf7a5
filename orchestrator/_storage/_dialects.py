"""Every difference between databases: engines, pragmas, locks, errors.

SQLite: WAL, ``synchronous=FULL`` (nothing acknowledged is lost), foreign keys,
``BEGIN IMMEDIATE`` for the writer, plain reads on another engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from orchestrator.errors import (
    ConfigurationError,
    NotADatabaseError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.engine.interfaces import DBAPIConnection

SQLITE_MIN = (3, 35, 0)
_WAL_TRIES = 20
_UNAVAILABLE = {
    5: "the database is locked",
    6: "the database is locked",
    8: "the database is read-only",
    10: "the disk fails",
    13: "the disk is full",
    14: "the database cannot be opened",
}
_NOT_A_DATABASE = {11: "is damaged", 26: "is no database"}


def parse_url(database: str) -> URL:
    """Return the URL of a database that this version knows how to use.

    Raises:
        ConfigurationError: Not a URL, or another database than SQLite.
    """
    try:
        url = make_url(database)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        msg = f"database: {database!r} is no usable SQLAlchemy URL: {error}"
        raise ConfigurationError(msg) from error
    if url.drivername not in ("sqlite", "sqlite+aiosqlite"):
        msg = (
            f"database: {url.drivername!r} is not supported: use a path or"
            " sqlite+aiosqlite:///PATH"
        )
        raise ConfigurationError(msg)
    # Escapes in the path are resolved here: SQLAlchemy does so since 2.1 only.
    path = database.partition(":///")[2].partition("?")[0]
    return url.set(drivername="sqlite+aiosqlite", database=unquote(path) or None)


def is_memory(url: URL) -> bool:
    """Whether the database lives and dies with one connection."""
    return not url.database or url.database == ":memory:"


def prepare_file(url: URL) -> None:
    """Check SQLite's version and the path; create the file for its owner only.

    Raises:
        NotADatabaseError: The path is a folder or has no folder.
        StoreUnavailableError: The file cannot be created or opened.
        StoreError: SQLite is too old.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        wanted = ".".join(map(str, SQLITE_MIN))
        msg = f"SQLite {sqlite3.sqlite_version} is too old: {wanted} or newer is needed"
        raise StoreError(msg)
    if is_memory(url):
        return
    path = Path(str(url.database))
    if path.is_dir():
        raise NotADatabaseError(str(path), "is a folder: name a file")
    if not path.parent.is_dir():
        msg = f"the folder {path.parent} does not exist: create it first"
        raise NotADatabaseError(str(path), msg)
    try:
        # A file that is there is never opened here: closing it would drop the locks
        # of this process's other connections. -wal and -shm take the file's mode.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            why = "is not readable and writable for this user"
            with contextlib.suppress(OSError):  # not even to be looked at
                if os.statvfs(path).f_flag & os.ST_RDONLY:
                    why = "is on a file system that is mounted read-only"
            raise StoreUnavailableError(f"{path}: {why}") from None
    except OSError as error:
        msg = f"{path}: cannot be created: {error.strerror}"
        raise StoreUnavailableError(msg) from error


def writer_engine(url: URL, busy_s: float) -> AsyncEngine:
    """Return the engine whose transactions begin IMMEDIATE."""
    engine = _engine(url, busy_s)

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reader_engine(url: URL, busy_s: float) -> AsyncEngine:
    """Return the engine for reads; each statement sees one committed state."""
    return _engine(url, busy_s)


async def connect(engine: AsyncEngine) -> AsyncConnection:
    """Connect; a cancellation waits for the driver, or its thread would stay."""
    opening = asyncio.ensure_future(engine.connect().start())
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await (await opening).close()
        raise


@contextlib.asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Connect, and close at the end, whatever is cancelled meanwhile."""
    connection = await connect(engine)
    try:
        yield connection
    finally:
        await asyncio.shield(asyncio.ensure_future(connection.close()))


def _engine(url: URL, busy_s: float) -> AsyncEngine:
    pool: dict[str, Any] = {}
    if is_memory(url):
        pool = {"poolclass": StaticPool}
    engine = create_async_engine(
        url, connect_args={"timeout": busy_s, "cached_statements": 1024}, **pool
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={round(busy_s * 1000)}")
        enter_wal(cursor.execute)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def enter_wal(execute: Callable[[str], object]) -> None:
    """Switch a connection that has its busy timeout to WAL.

    SQLite does not wait to switch a file: beside another process at work on it the
    pragma fails at once. A transaction does wait, so one is tried in between.

    Raises:
        sqlite3.OperationalError: Others were in the way all the time.
    """
    for _ in range(_WAL_TRIES - 1):
        try:
            execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            execute("BEGIN EXCLUSIVE")
            execute("ROLLBACK")
        else:
            return
    execute("PRAGMA journal_mode=WAL")


def translate(error: Exception, path: str) -> StoreError | None:
    """Return our error for a driver's, None where the driver blames one row."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(original, sqlite3.Error):
        return None
    code = (getattr(original, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _NOT_A_DATABASE:
        return NotADatabaseError(path, _NOT_A_DATABASE[code])
    if code in _UNAVAILABLE:
        return StoreUnavailableError(f"{path}: {_UNAVAILABLE[code]}: {original}")
    if isinstance(original, sqlite3.ProgrammingError) and "closed" in str(original):
        return StoreUnavailableError(f"{path}: the connection is closed")
    return None
