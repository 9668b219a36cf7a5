"""Blocking client libraries, called in threads of a connector's own."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 16
"""Calls of one connector at once; more wait for a free thread."""


class Blocking:
    """The threads of one connector: a slow service fills its own and no others.

    A call that is cancelled before its turn is never made; one that is cancelled
    later goes on in its thread until the client's own timeout, which every call must
    have, and its answer is dropped.
    """

    def __init__(self, name: str, threads: int = THREADS) -> None:
        """Name the threads after *name*; none is started before the first call."""
        self._pool = ThreadPoolExecutor(threads, f"orchestrator-{name}")

    async def call(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what *function* returns, or raise what it raises."""
        context = contextvars.copy_context()
        work = partial(context.run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Let the threads end after the calls that they make now; there are no more.

        Whoever drops the connector need not: its threads end with it.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
