"""SQLite in the simulation's own thread: a statement costs no trip to another one.

The driver hands each call to a thread per connection and waits; with engines that come
and go by the dozen those trips were nine tenths of a seed's time, and the order in
which threads answered was the one thing that no seed decides. The statements, the
file, its locks and its WAL stay what they are, and whoever awaits the database still
waits for a turn of the loop. Real threads are met in every other test.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import aiosqlite

if TYPE_CHECKING:
    from collections.abc import Iterator


class _AtOnce:
    """Stands where a connection has its queue: what is put into it is done."""

    def put_nowait(self, work: Any) -> None:
        """Do the call, and tell its future in the loop's next turn."""
        if not isinstance(work, tuple):
            return  # how an older driver tells its thread to end
        future, call = work
        answer = error = None
        try:
            answer = call()
        except Exception as raised:  # noqa: BLE001 - it is the caller's, whatever it is
            error = raised
        if future is not None:
            future.get_loop().call_soon(_tell, future, answer, error)


def _tell(future: asyncio.Future[Any], answer: object, error: Exception | None) -> None:
    if future.done():
        return  # whoever asked was cancelled
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)


class _NoThreads(ThreadPoolExecutor):
    """Runs what is to run in a thread at once."""

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return the finished future of *call*."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            future.set_exception(error)
        return future


_connect = aiosqlite.connect


def _connect_here(*args: Any, **kwargs: Any) -> aiosqlite.Connection:
    connection: Any = _connect(*args, **kwargs)
    connection._tx = _AtOnce()
    # Up to 0.21 a connection is its thread, later it has one.
    thread = getattr(connection, "_thread", connection)
    thread.start = lambda: None
    return connection  # type: ignore[no-any-return]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let what the running loop opens meanwhile do without threads."""
    asyncio.get_running_loop().set_default_executor(_NoThreads(1))
    aiosqlite.connect = _connect_here
    try:
        yield
    finally:
        aiosqlite.connect = _connect
