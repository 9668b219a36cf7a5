"""The store: one database, its writer, its readers, and every verb on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError

from orchestrator._clock import duration_to_us
from orchestrator._config import Policy
from orchestrator._storage import (
    _audit,
    _cleanups,
    _migrate,
    _nodes,
    _reads,
    _sweeps,
    _wishes,
)
from orchestrator._storage._apply import Apply
from orchestrator._storage._claim import READ_AGAIN, Claim, Known, parse
from orchestrator._storage._dialects import (
    connected,
    is_memory,
    parse_url,
    prepare_file,
    reader_engine,
    translate,
    writer_engine,
)
from orchestrator._storage._items import Run, UserRun
from orchestrator._storage._ledger import Fact
from orchestrator._storage._nodes import LockFile
from orchestrator._storage._submit import NewExecution, Submit, Submitted
from orchestrator._storage._writer import NOT_OPEN, Writer
from orchestrator.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Collection,
        Sequence,
    )

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from orchestrator._clock import Clock
    from orchestrator._config import Config
    from orchestrator._faults import Faults
    from orchestrator._phase import Resolution
    from orchestrator._records import (
        Change,
        Claimed,
        Execution,
        Job,
        NewJob,
        Transition,
    )
    from orchestrator._storage._cleanups import OwedJob
    from orchestrator._storage._sweeps import Search
    from orchestrator._storage._tx import Tx

_T = TypeVar("_T")

_HOLD_US = duration_to_us(Policy().hold_delay)
"""For rows whose connector, and so its own policy, cannot be known."""


class Store:
    """One open database.

    Every write goes through the one writer (group commit); every read sees one
    committed state. Methods raise StoreUnavailableError while the database is
    away, except the engine's own writes, which wait.
    """

    def __init__(
        self, database: str, *, config: Config, clock: Clock, faults: Faults
    ) -> None:
        """Prepare for *database*, a URL; `open` does the work."""
        self.url = parse_url(database)
        self.path = str(self.url.database or ":memory:")
        self._config = config
        self._clock = clock
        self._memory = is_memory(self.url)
        busy = config.busy_timeout.total_seconds()
        engine = writer_engine(self.url, busy)
        self._engine: AsyncEngine = engine
        self._reader = engine if self._memory else reader_engine(self.url, busy)
        self.known = Known()
        self._opened = False
        self.reads = 0  # under way
        self.writer = Writer(engine, clock=clock, faults=faults, path=self.path)

    async def open(self) -> None:
        """Check the file and its schema, upgrade if configured, start the writer.

        Raises:
            NotADatabaseError: The path is something else.
            SchemaMismatchError: The database is newer, or old and not to be
                upgraded.
            StoreUnavailableError: It cannot be opened or written.
        """
        prepare_file(self.url)
        try:
            await self._upgrade()
        except DBAPIError as error:
            await self._dispose()
            ours = translate(error, self.path)
            raise ours or StoreError(f"{self.path}: {error}") from error
        except BaseException:
            await self._dispose()
            raise
        self.writer.start()
        self._opened = True

    async def _upgrade(self) -> None:
        if self._memory:
            # Not waited for in the loop's thread: who holds it may run in this loop.
            while not _migrate.ONE_AT_A_TIME.acquire(blocking=False):
                await self._clock.sleep(0)
            try:
                async with self._engine.begin() as connection:
                    await connection.run_sync(_migrate.upgrade_on, self.path)
            finally:
                _migrate.ONE_AT_A_TIME.release()
            return
        # Read before anything is set: a file that is not ours must stay as it is.
        found = await self.revision()
        if found == _migrate.HEAD:
            return
        if not self._config.migrate:
            _migrate.check(found, path=self.path)
        busy = self._config.busy_timeout.total_seconds()
        await asyncio.to_thread(_migrate.upgrade, self.url, busy_s=busy)

    async def close(self) -> None:
        """Write what is pending, then close every connection."""
        self._opened = False
        await self.writer.close()
        await self._dispose()

    async def _dispose(self) -> None:
        await self._reader.dispose()
        await self._engine.dispose()

    def now_us(self) -> int:
        """Return the time of leases: on SQLite, the injected clock's."""
        return self._clock.now_us()

    # Submissions and wishes: users' writes, refused while the database is away

    async def submit(self, news: Sequence[NewExecution], now: int) -> list[Submitted]:
        """Insert *news* in one transaction; existing keys answer with their holder."""
        result: list[Submitted] = await self.writer.write(Submit(news, now))
        return result

    async def wish_abort(self, execution_id: str, reason: str, now: int) -> bool:
        """Record the wish and wake the row; False if it is terminal or wished."""
        wish = (execution_id, reason, now)
        return bool(
            await self.writer.write(
                UserRun(
                    lambda tx: _wishes.abort(tx, *wish),
                    lambda tx: _wishes.aborted(tx, *wish),
                )
            )
        )

    async def wish_resolve(
        self, execution_id: str, resolution: Resolution, now: int
    ) -> bool:
        """Record what a user knows of an unknown create.

        False, without effect, if it is not unknown, or a step is at work on it.
        """
        return bool(
            await self.writer.write(
                UserRun(
                    lambda tx: _wishes.resolve(tx, execution_id, resolution, now),
                    lambda tx: _wishes.resolved(tx, execution_id, resolution),
                )
            )
        )

    async def wake(self, execution_id: str, now: int) -> bool:
        """Make a live row due now; False if it is terminal or unknown."""
        return bool(
            await self.writer.write(
                UserRun(lambda tx: _wishes.wake(tx, execution_id, now))
            )
        )

    # The engine's writes: they wait while the database is away

    async def claim(
        self, *, node: str, limit: int, loaded: Sequence[tuple[str, int]], now: int
    ) -> list[Claimed]:
        """Take up to *limit* due rows for *node*, by due time, then id.

        Atomicity: two nodes never receive the same row. Crash: a node that dies
        after this call loses the rows when its lease is broken.
        """
        grace = duration_to_us(self._config.missing_connector_grace)
        item = Claim(
            node=node,
            now=now,
            limit=limit,
            loaded=loaded,
            unloaded_before=now - grace,
            hold_until=now + _HOLD_US,
            known=self.known,
        )
        rows: list[Claimed] = await self.writer.write(item)
        return rows

    def apply(
        self, row: Claimed, change: Change, *, node: str, now: int
    ) -> tuple[Apply, asyncio.Future[None]]:
        """Queue *change*; await the future, then read the item's error and result.

        The result is False if a guard refused it, and then nothing changed. Guards:
        the claim (node and epoch), and for a transition the row's version. (No
        coroutine of its own: this is the most frequent call of all.)
        """
        item = Apply(row, change, node, now)
        return item, self.writer.add(item)

    async def record(
        self, row: Claimed | Search, attempt: int, job: NewJob, now: int
    ) -> None:
        """Enter a job in the ledger, whoever holds the lease. Idempotent."""
        await self.writer.write(Fact(row, attempt, job, now))

    async def enter(self, execution: Execution, job: NewJob, now: int) -> str | None:
        """Enter a job that a user found; see `Fact.enter`. Idempotent."""
        write = Run(Fact(execution, execution.attempt, job, now).enter)
        holder: str | None = await self.writer.write(write)
        return holder

    async def read_again(self, row: Claimed, node: str) -> Claimed | None:
        """Return the row as it is now, None if *node* lost the claim."""

        async def read(tx: Tx) -> Claimed | None:
            rows = await tx.json(READ_AGAIN, (row.id, row.epoch, node))
            return parse(rows[0]) if rows else None

        result: Claimed | None = await self.writer.write(Run(read))
        return result

    async def see_connectors(
        self, connectors: Sequence[tuple[str, int, str]], now: int
    ) -> None:
        """Note which connectors this node has; wake rows that waited for them."""
        await self.writer.write(
            Run(lambda tx: _nodes.see_connectors(tx, connectors, now))
        )

    async def bring_forward(self, since: int, size: int) -> None:
        """Make what waits due *size* microseconds sooner: the clock went back by it.

        *since* is a moment shortly before. Several processes notice a step: what was
        brought forward twice is due now. What waits for longer than the step stays.
        """
        await self.writer.write(Run(lambda tx: _wishes.bring_forward(tx, since, size)))

    async def register_node(self, node: str, *, version: str, until: int) -> None:
        """Enter this start of this process, and take its lock file."""
        now = self.now_us()

        async def write(tx: Tx) -> None:
            await _nodes.register(
                tx,
                node=node,
                lock_path=self.lock_path(node),
                version=version,
                now=now,
                until=until,
            )

        await self.writer.write(Run(write))

    async def heartbeat(self, node: str, until: int) -> tuple[bool, list[str]]:
        """Renew the lease, free what dead nodes held.

        Returns:
            Whether the lease still stood, and which nodes were found dead.
        """
        now = self.now_us()

        async def write(tx: Tx) -> tuple[bool, list[str]]:
            stood = await _nodes.renew(tx, node, until)
            return stood, await _nodes.break_dead(tx, node, now)

        stood, broken = await self.writer.write(Run(write))
        for dead in broken:
            path = self.lock_path(dead)
            if path is not None:
                await asyncio.to_thread(LockFile.forget, path)
        return stood, broken

    async def claimed_by(self, node: str) -> set[tuple[str, int]]:
        """Return id and epoch of every row that *node* holds."""
        result: set[tuple[str, int]] = await self.writer.write(
            Run(lambda tx: _nodes.held_by(tx, node))
        )
        return result

    async def free(self, node: str, rows: Collection[tuple[str, int]]) -> int:
        """Give back rows that *node* holds and nobody works on; return how many."""
        now = self.now_us()
        return int(
            await self.writer.write(Run(lambda tx: _nodes.free(tx, node, rows, now)))
        )

    async def end_node(self, node: str) -> None:
        """Free this node's rows: an orderly stop."""
        now = self.now_us()

        async def write(tx: Tx) -> None:
            await _nodes.end(tx, node, now)

        await self.writer.write(Run(write))

    async def claim_cleanups(
        self, *, node: str, limit: int, loaded: Sequence[tuple[str, int]], now: int
    ) -> list[OwedJob]:
        """Take up to *limit* jobs of the ledger that are to be deleted."""
        taken: list[OwedJob] = []

        async def write(tx: Tx) -> list[OwedJob]:
            taken[:] = await _cleanups.claim(
                tx,
                node=node,
                now=now,
                hold_until=now + _HOLD_US,
                limit=limit,
                loaded=loaded,
            )
            return taken

        async def landed(tx: Tx) -> bool:
            await _cleanups.give_back(tx, node, taken)
            return False

        result: list[OwedJob] = await self.writer.write(Run(write, landed))
        return result

    async def claim_searches(
        self, *, now: int, loaded: Sequence[tuple[str, int]], **how: Any
    ) -> list[Search]:
        """Take tokens that are to be searched for again; see `_sweeps.claim`."""

        async def write(tx: Tx) -> list[Search]:
            hold_until = now + _HOLD_US
            return await _sweeps.claim(
                tx, now=now, hold_until=hold_until, loaded=loaded, **how
            )

        result: list[Search] = await self.writer.write(Run(write))
        return result

    async def end_search(self, search: Search) -> None:
        """Search no more for a token whose last search was answered."""
        await self.writer.write(Run(lambda tx: _sweeps.end(tx, search)))

    async def finish_cleanup(self, job: OwedJob, **columns: Any) -> bool:
        """Write what became of a debt; see `_cleanups.finish`."""

        async def write(tx: Tx) -> bool:
            return await _cleanups.finish(tx, job, **columns)

        async def landed(tx: Tx) -> bool:
            return await _cleanups.finished(tx, job)

        return bool(await self.writer.write(Run(write, landed)))

    # Reads

    async def get(self, execution_id: str) -> Execution | None:
        """Return one execution, None without it."""
        return await self.read(lambda c: _reads.get(c, execution_id))

    async def adoptable(self, execution_id: str, attempt: int) -> Job | None:
        """Return the ledger entry that this attempt may adopt, None without one."""
        return await self.read(lambda c: _reads.adoptable(c, execution_id, attempt))

    async def template_proto(self, digest: str) -> bytes | None:
        """Return a stored template, None without it."""
        return await self.read(lambda c: _reads.template_proto(c, digest))

    async def terminal_of(self, execution_ids: Sequence[str]) -> list[str]:
        """Return which of these executions are terminal."""
        return await self.read(lambda c: _reads.terminal_of(c, execution_ids))

    async def inputs_proto(self, execution_id: str) -> bytes | None:
        """Return an execution's encoded inputs, None without the execution."""
        return await self.read(lambda c: _reads.inputs_proto(c, execution_id))

    async def find(self, **filters: Any) -> list[Execution]:
        """Return executions that match all filters, newest first; see `_reads`."""
        return await self.read(lambda c: _reads.find(c, **filters))

    async def transitions(self, execution_id: str) -> list[Transition]:
        """Return an execution's history, oldest first."""
        return await self.read(lambda c: _reads.transitions(c, execution_id))

    async def jobs(self, **filters: Any) -> list[Job]:
        """Return ledger entries, oldest first; see `_reads`."""
        return await self.read(lambda c: _reads.jobs(c, **filters))

    async def counts(self) -> dict[tuple[str, str], int]:
        """Return (task type, phase) -> number of executions."""
        return await self.read(_reads.counts)

    async def stuck(self, overdue_before: int) -> list[Execution]:
        """Return live rows that wait for somebody: held, or long overdue."""
        return await self.read(lambda c: _reads.stuck(c, overdue_before))

    async def revision(self) -> str | None:
        """Return the schema's revision; the file is only read. None without any."""
        return await asyncio.to_thread(_migrate.revision_of, self.url)

    async def nodes(self) -> list[Row[Any]]:
        """Return the nodes that have not ended, oldest first."""
        return await self.read(_reads.nodes)

    async def orphans(self, since: int) -> list[Row[Any]]:
        """Return jobs that are owed or were lost since a moment, oldest first."""
        return await self.read(lambda c: _reads.orphans(c, since))

    async def audit(self, *, shown: int = _audit.SHOWN_MAX) -> list[_audit.Finding]:
        """Return the invariants that are broken, as of one moment; see `_audit`."""
        # A memory database's reads stand in a transaction already.
        begin = not self._memory
        return await self.read(lambda c: _audit.findings(c, shown, begin=begin))

    async def next_due(self, loaded: Sequence[tuple[str, int]]) -> int | None:
        """Return when the next row or debt is due, None without any."""
        grace = duration_to_us(self._config.missing_connector_grace)
        return await self.read(lambda c: _reads.next_due(c, loaded, grace))

    async def read(self, query: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """Run *query* on a reader's connection.

        Raises:
            ConfigurationError: The store is not open.
            StoreUnavailableError: The database is away.
        """
        if not self._opened:
            raise ConfigurationError(NOT_OPEN)
        # A memory database has one connection: reads wait for the transaction.
        turn = self.writer.lock if self._memory else contextlib.nullcontext()
        self.reads += 1
        try:
            async with turn, connected(self._reader) as connection:
                return await query(connection)
        except DBAPIError as error:
            ours = translate(error, self.path)
            raise ours or StoreError(f"{self.path}: {error}") from error
        finally:
            self.reads -= 1

    async def data_version(self) -> tuple[int, int]:
        """Return what changes when another process commits.

        Asked on the writer's own connection, whose own commits do not count. A
        memory database has no other process: it never changes.

        Raises:
            StoreUnavailableError: The database is away.
        """
        return (0, 0) if self._memory else await self.writer.data_version()

    def lock_path(self, node: str) -> str | None:
        """Return where *node* proves that it lives, None without a file."""
        if self._memory:
            return None
        return f"{Path(self.path).absolute()}-node-{node}.lock"

    def sizes(self) -> dict[str, int]:
        """Return the bytes of the database's files, by `stat` alone."""
        files = [] if self._memory else ["", "-wal"]
        return {
            f"{self.path}{suffix}": os.stat(f"{self.path}{suffix}").st_size  # noqa: PTH116
            for suffix in files
            if Path(f"{self.path}{suffix}").exists()
        }
