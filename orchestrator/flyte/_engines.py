"""The engine of a loop that nobody opened one in: open while somebody runs on it.

Flyte runs local tasks in event loops of its own, in threads that the interpreter
abandons when it exits. An engine that stayed open there would keep the process from
ending, so it is closed with its last caller, or when the main thread ends.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from orchestrator._orchestrator import Orchestrator
from orchestrator._orchestrator._verbs import running_orchestrator

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator


@dataclass
class _Lent:
    """One loop's engine and how many use it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    orchestrator: Orchestrator | None = None
    watched: bool = False

    async def enter(self, database: str | os.PathLike[str] | None) -> None:
        """Open for the first caller; under the lock."""
        if self.orchestrator is None:
            orchestrator = Orchestrator(database)
            await orchestrator.open()
            self.orchestrator = orchestrator
        if (
            not self.watched
            and threading.current_thread() is not threading.main_thread()
        ):
            self.watched = True
            _close_at_exit(asyncio.get_running_loop(), self)
        self.users += 1

    async def leave(self) -> None:
        """Close after the last caller."""
        async with self.lock:
            self.users -= 1
            if not self.users:
                await self.close()

    async def close(self) -> None:
        """Close what is open; of no effect twice."""
        orchestrator, self.orchestrator = self.orchestrator, None
        if orchestrator is not None:
            await orchestrator.close()


_lent: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lent] = WeakKeyDictionary()


@asynccontextmanager
async def engine(database: str | os.PathLike[str] | None) -> AsyncIterator[None]:
    """Have the running loop's engine open: the user's own, else one on *database*."""
    loop = asyncio.get_running_loop()
    lent = _lent.setdefault(loop, _Lent())
    async with lent.lock:
        theirs = lent.orchestrator is None and running_orchestrator() is not None
        if not theirs:
            await lent.enter(database)
    try:
        yield
    finally:
        if not theirs:
            await asyncio.shield(lent.leave())


def _close_at_exit(loop: asyncio.AbstractEventLoop, lent: _Lent) -> None:
    """Close when the main thread has ended, and a loop in another is abandoned."""

    def wait() -> None:
        threading.main_thread().join()
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(lent.close(), loop)

    threading.Thread(target=wait, name="orchestrator-flyte-exit", daemon=True).start()
