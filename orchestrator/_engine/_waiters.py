"""Who waits for which execution to end, in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from orchestrator._secrets import get_logger
from orchestrator.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from orchestrator._clock import Clock

logger = get_logger(__name__)

_AGAIN_S = 1.0


class Waiters:
    """Futures by execution id, resolved when the execution is terminal.

    An end that this process commits resolves at once. An end that another process
    commits is seen when the database is seen to have changed; all that wait are
    then asked for in one query.
    """

    def __init__(
        self, terminal_of: Callable[[Sequence[str]], Awaitable[list[str]]], clock: Clock
    ) -> None:
        """Ask the database with *terminal_of*."""
        self._clock = clock
        self._terminal_of = terminal_of
        self._futures: dict[str, set[asyncio.Future[None]]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._again = False

    def __len__(self) -> int:
        """Return how many executions are waited for."""
        return len(self._futures)

    def add(self, execution_id: str) -> asyncio.Future[None]:
        """Return a future of the end of *execution_id*; the database is asked once."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(execution_id, set()).add(future)
        self.changed()
        return future

    def discard(self, execution_id: str, future: asyncio.Future[None]) -> None:
        """Forget a future whose waiter went away."""
        futures = self._futures.get(execution_id)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._futures[execution_id]

    def ended(self, execution_id: str) -> None:
        """Resolve all that wait for *execution_id*."""
        for future in self._futures.pop(execution_id, ()):
            if not future.done():
                future.set_result(None)

    def changed(self) -> None:
        """Ask the database for all that are waited for, soon and once."""
        if not self._futures:
            return
        self._again = True
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="orchestrator-waiters")

    async def _ask(self) -> None:
        try:
            while self._again and self._futures:
                self._again = False
                try:
                    ends = await self._terminal_of(list(self._futures))
                except StoreError as error:
                    logger.warning("asking for ends failed, trying again: %s", error)
                    self._again = True
                    await self._clock.sleep(_AGAIN_S)
                    continue
                for execution_id in ends:
                    self.ended(execution_id)
        finally:
            self._asking = None

    async def close(self, error: Exception) -> None:
        """Fail whoever still waits."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        for futures in self._futures.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        self._futures.clear()
