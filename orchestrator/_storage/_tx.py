"""One write transaction, and the text of set-based statements.

A statement over many rows is ``... FROM (VALUES ...)`` in chunks whose sizes are
few, so that texts and prepared statements are reused. Results come back as one
JSON value: SQLite's driver lets the interpreter lock go at every row it fetches,
and beside a busy event loop each return of it costs up to one switch interval
(measured: 1,000 rows, 5 ms idle, seconds beside a busy loop).
"""

from __future__ import annotations

import json
import sqlite3
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator._secrets import get_logger
from orchestrator._storage import _migrate
from orchestrator._storage._dialects import translate
from orchestrator.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    import aiosqlite

_T = TypeVar("_T")

logger = get_logger(__name__)

CHUNK = 250
UNREADABLE = (sqlite3.Error, ValueError, TypeError)
"""What a row raises that somebody's tool has spoiled: a BLOB, text that is no UTF-8."""


class Tx:
    """Statements on the writer's connection, inside its open transaction.

    They go to the driver directly: SQLAlchemy's cursor takes three turns of the
    driver's thread for each statement, the driver one.
    """

    def __init__(self, driver: aiosqlite.Connection) -> None:
        """Wrap the writer's *driver* connection."""
        self._driver = driver

    async def run(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Execute one statement; return how many rows it changed."""
        cursor = await self._driver.execute(sql, params)
        return cursor.rowcount

    async def scalar(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """Return the first column of the first row, None without a row."""
        rows = list(await self._driver.execute_fetchall(sql, params))
        return rows[0][0] if rows else None

    async def json(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """Return the parsed JSON of a statement that selects one JSON value."""
        return json.loads(await self.scalar(sql, params))

    async def take(
        self,
        together: Callable[[], Awaitable[list[_T]]],
        keys: Callable[[], Awaitable[Sequence[Any]]],
        one: Callable[[Any], Awaitable[list[_T]]],
        give_up: Callable[[Any, Exception], Awaitable[None]],
    ) -> list[_T]:
        """Return what *together* takes; if a row of it cannot be read, one by one.

        Then *one* is asked for each of the *keys*, and *give_up* told of each that it
        cannot read: one spoiled row takes no other with it.

        Raises:
            Exception: What is no row's fault (see `blame_row`).
        """
        try:
            return await together()
        except UNREADABLE as error:
            self.blame_row(error)
            await self.check_schema()
            logger.warning("claiming one by one: %s", error)
        taken = []
        for key in await keys():
            try:
                taken += await one(key)
            except UNREADABLE as error:
                self.blame_row(error)
                await give_up(key, error)
        return taken

    def blame_row(self, error: Exception) -> None:
        """Return if *error* is a row's fault, and the transaction goes on.

        SQLite undoes the whole transaction on an I/O error or an interrupt: what is
        done after it would stand alone, and what came before it is lost.

        Raises:
            Exception: *error* itself, else.
        """
        away = isinstance(translate(error, ""), StoreUnavailableError)
        if away or not self._driver.in_transaction:
            raise error

    async def check_schema(self) -> None:
        """Ask, when a statement has failed, whether another version has upgraded.

        Raises:
            SchemaMismatchError: It has: nothing is wrong with the row.
        """
        found = await self.scalar(f"SELECT version_num FROM {_migrate.VERSION_TABLE}")
        path = await self.scalar("SELECT file FROM pragma_database_list WHERE seq = 0")
        _migrate.check(found, path=path)

    async def over(
        self,
        text: Callable[[int], str],
        rows: Sequence[Sequence[Any]],
        tail: Sequence[Any] = (),
    ) -> int:
        """Execute ``text(n)`` over chunks of *rows*; return how many rows changed."""
        changed = 0
        for chunk in chunks(rows):
            params = [*chain.from_iterable(chunk), *tail]
            changed += await self.run(text(len(chunk)), params)
        return changed


def chunks(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut *rows* into chunks of `CHUNK`, the rest into powers of two."""
    start, count = 0, len(rows)
    while start < count:
        left = count - start
        size = CHUNK if left >= CHUNK else 1 << (left.bit_length() - 1)
        yield rows[start : start + size]
        start += size


@lru_cache(maxsize=2048)
def values(columns: tuple[str, ...], count: int) -> str:
    """Return a named relation of *count* bound rows: ``(SELECT ... ) AS j``."""
    named = ", ".join(f"column{i} AS {c}" for i, c in enumerate(columns, 1))
    row = "(" + ",".join("?" * len(columns)) + ")"
    return f"(SELECT {named} FROM (VALUES {','.join([row] * count)})) AS j"


@lru_cache(maxsize=2048)
def insert(table: str, columns: tuple[str, ...], count: int, suffix: str = "") -> str:
    """Return a multi-row INSERT of bound values."""
    row = "(" + ",".join("?" * len(columns)) + ")"
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"VALUES {','.join([row] * count)} {suffix}"
    )
