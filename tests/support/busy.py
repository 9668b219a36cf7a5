"""A host program whose own blocking calls fill the default executor."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def busy_host() -> Iterator[None]:
    """Keep every thread of the running loop's default executor until the end."""
    ended, threads = threading.Event(), ThreadPoolExecutor(1, "asyncio")
    asyncio.get_running_loop().set_default_executor(threads)
    threads.submit(ended.wait)
    try:
        yield
    finally:
        ended.set()
