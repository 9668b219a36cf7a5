"""Databases that fail: commits whose answer is lost, locks, full disks."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator._storage import Store


_CODES = {
    "disk I/O error": sqlite3.SQLITE_IOERR,
    "database or disk is full": sqlite3.SQLITE_FULL,
}


class Commits:
    """Lets the next commits of a store's writer fail, as told.

    "before": the commit is refused, nothing was written. "after": it is done, and
    its answer is lost. Commits that only read back are not counted.
    """

    def __init__(self, store: Store, *plan: str, error: str = "disk I/O error") -> None:
        self.plan = list(plan)
        self.seen: list[str] = []
        self._error = error
        self.meanwhile: Callable[[], object] | None = None
        """Called when a commit has failed, before anybody can read back."""
        self.failed: Callable[[], object] | None = None
        """Called when a commit fails; unlike `meanwhile` it leaves it as it is."""
        dialect = store._engine.sync_engine.dialect
        self._commit = dialect.do_commit
        dialect.do_commit = self._do_commit  # type: ignore[method-assign, assignment]
        self._faults = store.writer._faults
        store.writer._faults = self
        self._writes = False

    def reach(self, name: str) -> None:
        """Note that what is committed next is a batch."""
        self._writes = self._writes or name == "writer.before_commit"
        self._faults.reach(name)

    def _do_commit(self, connection: Any) -> None:
        if not self._writes:
            self._commit(connection)
            return
        self._writes = False
        step = self.plan.pop(0) if self.plan else "ok"
        self.seen.append(step)
        if step != "before":
            self._commit(connection)
        if step == "ok":
            return
        if self.failed is not None:
            self.failed()
        if self.meanwhile is not None:
            connection.rollback()
            self.meanwhile()
        error = sqlite3.OperationalError(self._error)
        error.sqlite_errorcode = _CODES[self._error]
        raise error


@contextlib.contextmanager
def write_locked(store: Store) -> Iterator[sqlite3.Connection]:
    """Hold the database's write lock as another process would."""
    connection = sqlite3.connect(store.path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    finally:
        connection.close()
