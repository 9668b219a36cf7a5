"""The engine of a loop that nobody opened one in: open while somebody runs on it.

Flyte runs local tasks in event loops of its own, in threads that the interpreter
abandons when it exits, and never shuts those loops down. So an engine there is closed
with its last caller; one that is interrupted is to its rows a process that died.
"""

from __future__ import annotations

import asyncio
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

    async def enter(self, database: str | os.PathLike[str] | None) -> None:
        """Open for the first caller; under the lock."""
        if self.orchestrator is None:
            orchestrator = Orchestrator(database)
            await orchestrator.open()
            self.orchestrator = orchestrator
        self.users += 1

    async def leave(self) -> None:
        """Close after the last caller."""
        async with self.lock:
            self.users -= 1
            if not self.users and self.orchestrator is not None:
                orchestrator, self.orchestrator = self.orchestrator, None
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
