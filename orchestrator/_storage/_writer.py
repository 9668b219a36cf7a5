"""The one writer of a node: everything that is ready becomes one transaction.

Callers add items and await their commit. While one transaction is at work the
next batch gathers. Guarantees:

* An item is resolved only after its transaction is durably committed.
* A statement that raises rolls the batch back; the batch is cut in two until the
  item that breaks stands alone and fails alone.
* A commit that fails, or whose connection breaks, means "unknown": each member
  asks the database for its own key before it is written again.
* A cancelled caller does not cancel the commit; the cancellation arrives after it.
* While the database is away, items of the engine wait with backoff; items of
  users fail with StoreUnavailableError.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError

from orchestrator._secrets import get_logger
from orchestrator._storage._dialects import connect, translate
from orchestrator._storage._items import Batch
from orchestrator._storage._tx import Tx
from orchestrator.errors import (
    ConfigurationError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    import aiosqlite
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from orchestrator._clock import Clock
    from orchestrator._faults import Faults
    from orchestrator._storage._items import Item

logger = get_logger(__name__)

NOT_OPEN = "not open: use `async with Orchestrator(...)`, or await open() first"
_BATCH_MAX = 1000
_RETRY_FIRST_S, _RETRY_MAX_S = 0.1, 10.0


class _CommitUnknownError(Exception):
    """The transaction's outcome is not known."""


class Writer:
    """Gathers items and commits them, one transaction at a time."""

    def __init__(
        self, engine: AsyncEngine, *, clock: Clock, faults: Faults, path: str
    ) -> None:
        """Write through *engine*; *path* names the database in errors."""
        self._engine = engine
        self._clock = clock
        self._faults = faults
        self._path = path
        self._queue: deque[Batch] = deque()
        self._at_work = Batch()
        self._unwritten: list[list[Item]] = []
        """Later halves of a batch that was cut: their turn has not come."""
        self._wake = asyncio.Event()
        self._connection: AsyncConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._hurry = asyncio.Event()
        self._generation = 0
        self._pid = os.getpid()
        self.lock = asyncio.Lock()
        """Held during a transaction; readers of a memory database take it too."""
        self.commits = 0
        self.items = 0

    def start(self) -> None:
        """Begin to write, on the running loop; no effect while it does."""
        if self._task is not None and not self._task.done():
            return
        self._task = asyncio.create_task(self._loop(), name="orchestrator-writer")

    def hurry(self) -> None:
        """From now on do not wait for a database that is away: fail."""
        self._hurry.set()

    async def close(self) -> None:
        """Write what is pending, then close the connection."""
        self._closing = True
        self.hurry()
        self._wake.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()

    @property
    def busy(self) -> bool:
        """Whether something is written, or waits for its turn."""
        return self._wake.is_set() or self.lock.locked()

    def add(self, item: Item) -> asyncio.Future[None]:
        """Queue *item*; the future is resolved when its batch is done."""
        if self._task is None:
            raise ConfigurationError(NOT_OPEN)
        if self._closing or self._task.done():
            msg = f"{self._path}: the store is closed"
            raise StoreUnavailableError(msg)
        queue = self._queue
        if not queue or len(queue[-1].items) >= _BATCH_MAX:
            queue.append(Batch())
            self._wake.set()
        return queue[-1].add(item)

    async def write(self, item: Item) -> Any:
        """Queue *item*, await its commit, return its result or raise its error."""
        await self.add(item)
        if item.error is not None:
            raise item.error
        return item.result

    async def data_version(self) -> tuple[int, int]:
        """Return what changes when another connection commits.

        SQLite's count as this connection sees it, and which connection this is:
        counts of two connections say nothing of each other.

        Raises:
            StoreUnavailableError: The database is away.
        """
        async with self.lock:
            try:
                # Below SQLAlchemy, whose statements would begin a transaction.
                driver = await _driver(await self._connect())
                rows = await driver.execute_fetchall("PRAGMA data_version")
            except (DBAPIError, sqlite3.Error) as error:
                await self._disconnect()
                msg = f"{self._path}: {error}"
                raise StoreUnavailableError(msg) from error
        return self._generation, int(next(iter(rows))[0])

    async def _loop(self) -> None:
        try:
            await self._batches()
        except BaseException:
            # Whoever waits for a turn that does not come would wait for ever: it
            # cannot be cancelled.
            error = StoreUnavailableError(f"{self._path}: its writer has ended")
            for lost in self._queue:
                lost.fail(error)
            self._queue.clear()
            raise

    async def _batches(self) -> None:
        while True:
            await self._wake.wait()
            await self._gather()
            if self._queue:
                await self._work(self._queue.popleft())
            if not self._queue:
                self._wake.clear()
                if self._closing:
                    return

    async def _work(self, batch: Batch) -> None:
        self._at_work = batch
        self._unwritten.clear()  # a writer that was cancelled may have left some
        try:
            async with self.lock:
                await self._commit(batch.items)
        except BaseException as error:
            batch.fail(error)
            # Its transaction may be open: whoever starts again needs another.
            await self._disconnect()
            raise
        batch.resolve()

    async def _gather(self) -> None:
        """Let what is ready arrive: turns of the loop, while each brings items.

        Costs an idle engine one turn, and lets a busy one commit in large batches.
        A batch that is full does not wait: while it is written, others fill.
        """
        before = -1
        while self._queue and before < len(self._queue[0].items) < _BATCH_MAX:
            before = len(self._queue[0].items)
            await self._clock.sleep(0)

    async def _commit(self, batch: list[Item]) -> None:
        """Resolve every item of *batch*: written, or failed for a reason of its own."""
        delay = _RETRY_FIRST_S
        unknown = False
        while batch:
            away: StoreError | None = None
            try:
                await self._transaction(batch)
            except _CommitUnknownError as error:
                ours = self._unavailable(error.__cause__)
                logger.warning("commit unknown, reading back: %s", ours)
                batch = await self._read_back(batch)
                if unknown:  # not an answer that was lost: a disk that refuses
                    away = ours
                unknown = True
            except StoreUnavailableError as error:
                away = error
            except Exception as error:  # noqa: BLE001 - any row may raise anything
                if len(batch) == 1:
                    batch[0].error = translate(error, self._path) or error
                    return
                middle = len(batch) // 2
                rest = batch[middle:]
                self._unwritten.append(rest)
                await self._commit(batch[:middle])
                self._unwritten.pop()
                # What was refused meanwhile may not be written after all.
                batch = [item for item in rest if item.error is None]
            else:
                self.commits += 1
                self.items += len(batch)
                return
            if away is not None:
                batch = self._away(batch, away)
            if away is not None and batch:
                logger.warning("database away, %d items wait: %s", len(batch), away)
                await self._clock.wait(self._hurry, delay)
                delay = min(delay * 2, _RETRY_MAX_S)

    def _away(self, batch: list[Item], error: StoreError) -> list[Item]:
        """Fail users' items, those that came meanwhile too; return what waits.

        Once told to hurry, everything fails.
        """
        patient = not self._hurry.is_set()
        stay: list[Item] = []
        for item in batch:
            if item.patient and patient:
                stay.append(item)
            else:
                item.error = error
        for item in chain.from_iterable(self._unwritten):
            if not item.patient:
                item.error = error
        self._at_work.resolve_impatient()  # some of its items may be written
        for later in self._queue:
            later.fail_impatient(error)
        return stay

    async def _transaction(self, batch: list[Item]) -> None:
        if os.getpid() != self._pid:
            msg = f"{self._path}: opened before a fork: open a new Orchestrator"
            raise StoreError(msg)
        reach = self._faults.reach
        connection = await self._connect()
        reach("writer.before_begin")
        try:
            # SQLAlchemy's "begin" event sends BEGIN IMMEDIATE.
            transaction = await connection.begin()
        except Exception as error:
            await self._failed(error)
            raise
        reach("writer.after_begin")
        tx = Tx(await _driver(connection))
        kinds: dict[type[Item], list[Item]] = {}
        for item in batch:
            kinds.setdefault(type(item), []).append(item)
        try:
            for kind in sorted(kinds, key=lambda kind: kind.order):
                await kind.write(tx, kinds[kind])
        except Exception as error:
            await self._roll_back(transaction)
            await self._failed(error)
            if isinstance(error, sqlite3.OperationalError):
                await tx.check_schema()  # "no such column" says it in a riddle
            raise
        reach("writer.before_commit")
        try:
            await transaction.commit()
        except Exception as error:
            await self._roll_back(transaction)
            if isinstance(error, IntegrityError):
                # A deferred key: surely not committed, and some item's fault. Raised
                # as statements raise it, which do not go through SQLAlchemy.
                raise (error.orig or error) from error
            raise _CommitUnknownError from error
        reach("writer.after_commit")

    async def _roll_back(self, transaction: Any) -> None:
        try:
            await transaction.rollback()
            if self._connection is not None:
                # A commit that was refused leaves SQLite's transaction open, and
                # SQLAlchemy takes it for ended.
                driver = await _driver(self._connection)
                if driver.in_transaction:
                    await driver.rollback()
        except (DBAPIError, InvalidRequestError, sqlite3.Error):
            await self._disconnect()

    async def _failed(self, error: Exception) -> None:
        """Raise our error for one that is about the database, not about a row."""
        ours = translate(error, self._path)
        if ours is not None:
            await self._disconnect()
            raise ours from error

    def _unavailable(self, error: BaseException | None) -> StoreError:
        """Return our error for whatever kept a commit from being confirmed."""
        ours = translate(error, self._path) if isinstance(error, Exception) else None
        if ours is None:
            ours = StoreUnavailableError(f"{self._path}: {error}")
        ours.__cause__ = error
        return ours

    async def _read_back(self, batch: list[Item]) -> list[Item]:
        """Return what did not land; a broken connection is replaced first."""
        await self._disconnect()
        delay = _RETRY_FIRST_S
        while True:
            try:
                connection = await self._connect()
                transaction = await connection.begin()
                tx = Tx(await _driver(connection))
                missing = [item for item in batch if not await item.landed(tx)]
                # A claim whose answer was lost gives its rows back here.
                await transaction.commit()
            except (DBAPIError, sqlite3.Error, StoreError) as error:
                await self._disconnect()
                if self._hurry.is_set():
                    for item in batch:
                        item.error = self._unavailable(error)
                    return []
                await self._clock.wait(self._hurry, delay)
                delay = min(delay * 2, _RETRY_MAX_S)
            else:
                return missing

    async def _connect(self) -> AsyncConnection:
        if self._connection is None:
            try:
                self._connection = await connect(self._engine)
                self._generation += 1
            except DBAPIError as error:
                ours = translate(error, self._path)
                raise ours or error from error
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.invalidate()
            await connection.close()
        except (DBAPIError, InvalidRequestError) as error:
            logger.debug("closing a broken connection: %s", error)


async def _driver(connection: AsyncConnection) -> aiosqlite.Connection:
    raw = await connection.get_raw_connection()
    return cast("aiosqlite.Connection", raw.driver_connection)
