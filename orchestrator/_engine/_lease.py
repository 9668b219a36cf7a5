"""This node's lease: registered at start, renewed by one heartbeat, trusted for a time.

A node trusts its lease until ``lease - margin`` after the last renewal, measured on
the monotonic clock; past that it makes no call that cannot be undone, since another
node may hold its rows by now. The writes of such a node are refused anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import _version
from orchestrator._clock import duration_to_us
from orchestrator._secrets import get_logger
from orchestrator._storage import LockFile

if TYPE_CHECKING:
    from orchestrator._clock import Clock
    from orchestrator._config import Config
    from orchestrator._ids import IdFactory
    from orchestrator._storage import Store

logger = get_logger(__name__)


class Lease:
    """Who this node is, and until when it may decide."""

    def __init__(
        self, *, store: Store, clock: Clock, ids: IdFactory, config: Config
    ) -> None:
        """Take the node's identity from *ids*: random per start."""
        self._store = store
        self._clock = clock
        self._ids = ids
        self._length = config.lease
        self._margin_s = config.heartbeat.total_seconds()
        self._renewed: float | None = None
        self._lock: LockFile | None = None
        self.node = ""

    async def begin(self) -> None:
        """Register this start, and free what dead nodes held."""
        self.node = self._ids.node_id()
        path = self._store.lock_path(self.node)
        if path is not None:
            self._lock = LockFile.take(path)
        until = self._until()
        await self._store.register_node(
            self.node, version=_version.__version__, until=until
        )
        self._renewed = self._clock.monotonic()
        await self.renew()

    async def renew(self) -> bool:
        """Extend the lease; if it was broken meanwhile, begin again as a new node.

        Returns:
            Whether rows came free by it, of this node or of others: they are due, and
            only who asks for due rows will see them.
        """
        began = self._clock.monotonic()
        stood, broken = await self._store.heartbeat(self.node, self._until())
        for node in broken:
            logger.info(
                "a process ended without closing (node %s):"
                " its executions are taken over",
                node,
            )
        if stood:
            self._renewed = began
            return bool(broken)
        logger.error("lease of node %s was broken: beginning anew", self.node)
        self._release()
        await self.begin()
        return True

    async def end(self) -> None:
        """Free this node's rows and its lock file."""
        if self._renewed is not None:
            await self._store.end_node(self.node)
        self._release()

    def abandon(self) -> None:
        """Let the lock go as a crash would: whoever takes it frees the rows."""
        self._release(remove=False)

    def trusted(self) -> bool:
        """Whether the lease surely still stands."""
        if self._renewed is None:
            return False
        age = self._clock.monotonic() - self._renewed
        return age < self._length.total_seconds() - self._margin_s

    def _until(self) -> int:
        return self._store.now_us() + duration_to_us(self._length)

    def _release(self, *, remove: bool = True) -> None:
        if self._lock is not None:
            self._lock.release(remove=remove)
            self._lock = None
