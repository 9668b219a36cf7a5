"""What holds for every test: no blocking of the loop, no leaks, no environment."""

from __future__ import annotations

import asyncio
import os
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockBuster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# These need the flyte package, which has an environment of its own: `make test-flyte`
# names the folder, and finds nothing to run where flyte is missing, which is an error.
collect_ignore = [] if find_spec("flyte") else ["flyte/install"]

# A driver's thread gets this long to end once its connection is closed.
THREAD_END_S_MAX = 5.0

# Opening and closing a database looks at its own folder: a few calls of microseconds,
# none of them while anything runs. pydantic asks once in a process for its plugins,
# when the first connector is registered.
MAY_BLOCK = {
    "orchestrator/_storage/_dialects.py": {"_engine", "prepare_file"},
    "orchestrator/_storage/_migrate.py": {"upgrade_on"},
    "orchestrator/_storage/_nodes.py": {"take", "release", "_proved_dead"},
    "orchestrator/_storage/_store.py": {"lock_path"},
    "pydantic/plugin/_loader.py": {"get_plugins"},
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let every asynchronous test be followed by the check for pending tasks.

    The fixture goes first, so that it is torn down last: what other fixtures close
    is no leak. Synchronous tests do without it, and so without an event loop.
    """
    function = getattr(item, "function", None)
    if asyncio.iscoroutinefunction(function) and isinstance(item, pytest.Function):
        item.fixturenames.insert(0, "no_leaked_tasks")


@pytest.fixture(scope="session")
def blocking_guard() -> Iterator[BlockBuster]:
    """Make a blocking call from our code on an event loop raise BlockingError."""
    guard = BlockBuster("orchestrator")
    for function in guard.functions.values():
        for file, names in MAY_BLOCK.items():
            function.can_block_in(file, names)
    guard.activate()
    yield guard
    guard.deactivate()


@pytest.fixture(autouse=True)
def no_blocking_calls(
    request: pytest.FixtureRequest, blocking_guard: BlockBuster
) -> Iterator[None]:
    """Keep the guard on, but for tests that are marked ``may_block``."""
    if request.node.get_closest_marker("may_block") is None:
        yield
        return
    blocking_guard.deactivate()
    yield
    blocking_guard.activate()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's own ORCHESTRATOR_* settings from the tests."""
    for name in [name for name in os.environ if name.startswith("ORCHESTRATOR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves asyncio tasks pending or driver threads running."""
    tasks_before = asyncio.all_tasks()
    threads_before = set(threading.enumerate())
    yield
    leaked_tasks = asyncio.all_tasks() - tasks_before - {asyncio.current_task()}
    assert not leaked_tasks, f"tasks left pending: {leaked_tasks}"
    leaked_threads = [
        thread
        for thread in set(threading.enumerate()) - threads_before
        # The loop's default executor ends with the loop; a thread that a library's
        # native code has started and logged from cannot be waited for.
        if not thread.name.startswith("asyncio_")
        and not isinstance(thread, threading._DummyThread)
    ]
    for thread in leaked_threads:
        await asyncio.to_thread(thread.join, THREAD_END_S_MAX)
    leaked_threads = [thread for thread in leaked_threads if thread.is_alive()]
    assert not leaked_threads, f"threads left running: {leaked_threads}"
