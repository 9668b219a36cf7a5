"""The schema's version: checked by a plain SELECT, changed by Alembic.

Alembic is imported only when a migration is due. It runs on the standard
library's driver, all that is due in one ``BEGIN IMMEDIATE`` transaction, so that a
kill at any statement leaves the old schema whole.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import event, exc

from orchestrator._storage._dialects import enter_wal, translate
from orchestrator.errors import NotADatabaseError, SchemaMismatchError, StoreError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD = "0001"
VERSION_TABLE = "orchestrator_version"
_OURS = {"execution", "history", "timer"}
ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps the migration at work in globals: two at once in one process, even
of two databases, would run on each other's connections. Held around `upgrade_on`."""


def migrations_dir() -> Path:
    """Return the migrations of the wheel, or of the checkout that this is."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    msg = "the migrations are missing from this installation: install it again"
    raise StoreError(msg)


def current(connection: Connection) -> str | None:
    """Return the database's revision, None without any."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}")
    revision = found.scalar()
    return None if revision is None else str(revision)


def revision_of(url: sa.URL) -> str | None:
    """Return the revision of a database file, which is only read; None without any.

    Raises:
        NotADatabaseError: The file is something else.
        StoreUnavailableError: It cannot be read.
    """
    path = str(url.database)
    engine = sa.create_engine(url.set(drivername="sqlite"))
    try:
        with engine.connect() as connection:
            return current(connection)
    except exc.DBAPIError as error:
        raise (translate(error, path) or StoreError(f"{path}: {error}")) from error
    finally:
        engine.dispose()


def check(found: str | None, *, path: str) -> None:
    """Raise unless *found* is the revision that this version needs.

    Raises:
        SchemaMismatchError: Older (upgrade) or newer (install a newer version).
    """
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        advice = f"{path} was written by a newer version: install that version"
    else:
        advice = "run `orchestrator db upgrade`"
    raise SchemaMismatchError(found, HEAD, advice)


def alembic_config() -> Config:
    """Return Alembic's configuration, without a file."""
    from alembic.config import Config as AlembicConfig  # noqa: PLC0415 - 0.1 s

    config = AlembicConfig()
    config.set_main_option("script_location", str(migrations_dir()))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(url: sa.URL, *, busy_s: float) -> None:
    """Bring the database to `HEAD`; safe to run again after a kill.

    Two processes may call it at once: the second waits, then finds nothing to do.

    Raises:
        SchemaMismatchError: The database is newer than this version.
        StoreError: The database refused.
    """
    path = str(url.database)
    engine = sa.create_engine(
        url.set(drivername="sqlite"), connect_args={"timeout": busy_s}
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        enter_wal(connection.execute)
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with ONE_AT_A_TIME, engine.begin() as connection:
            upgrade_on(connection, path)
    except (exc.DBAPIError, sqlite3.Error) as error:
        raise (translate(error, path) or StoreError(f"{path}: {error}")) from error
    finally:
        engine.dispose()


def upgrade_on(connection: Connection, path: str) -> None:
    """Bring the database of an open transaction to `HEAD`."""
    found = current(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        check(found, path=path)
    if found is None and _OURS & set(sa.inspect(connection).get_table_names()):
        problem = (
            f"has tables named like ours ({', '.join(sorted(_OURS))}): use a new file"
        )
        raise NotADatabaseError(path, problem)
    from alembic import command  # noqa: PLC0415 - 0.1 s, needed here only

    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
