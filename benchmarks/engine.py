"""W, the workload: the same executions through the engine, everything durable."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from benchmarks.meter import Measurement
from benchmarks.service import INPUTS, FreeConnector, FreeTask
from orchestrator import Orchestrator
from orchestrator._registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

LOOK_S = 0.005
TABLE_ROWS = 45


def measure(executions: int, polls: int, folder: Path) -> Measurement:
    """Run *executions* with *polls* each on a database file in *folder*.

    The clock runs from before the submission until every end is committed; opening
    and migrating the database come before it.
    """
    return asyncio.run(_measure(executions, polls, folder / "engine.db"))


def profile(executions: int, polls: int, folder: Path) -> Measurement:
    """Measure under cProfile and print where the event loop's thread spent its time.

    Threads of the driver are not in the table; the profiler itself slows Python
    code down, and shares count for more than seconds.
    """
    profiler = cProfile.Profile()
    measurement = profiler.runcall(measure, executions, polls, folder)
    statistics = pstats.Stats(profiler).strip_dirs()
    statistics.sort_stats("tottime").print_stats(TABLE_ROWS)
    statistics.sort_stats("cumtime").print_stats(TABLE_ROWS)
    return measurement


async def _measure(executions: int, polls: int, path: Path) -> Measurement:
    connector = FreeConnector(executions, polls)
    registry = Registry()
    registry.register(connector)
    task = FreeTask()
    async with Orchestrator(path, registry=registry) as orchestrator:
        with Measurement(executions) as measurement:
            await orchestrator.submit_many([(task, INPUTS)] * executions)
            await connector.all_ended.wait()
            # The last answers are given; now their commits.
            while await asyncio.to_thread(_live, path):  # noqa: ASYNC110 - a file
                await asyncio.sleep(LOOK_S)
    _check(path, executions)
    return measurement


def _live(path: Path) -> int:
    """Return how many executions have not ended, as another process sees it."""
    return _scalar(path, "SELECT count(*) FROM timer")


def _check(path: Path, executions: int) -> None:
    """Refuse figures of a run that did not do the work."""
    succeeded = _scalar(path, "SELECT count(*) FROM execution WHERE phase='SUCCEEDED'")
    transitions = _scalar(path, "SELECT count(*) FROM history")
    assert succeeded == executions
    assert transitions >= 3 * executions


def _scalar(path: Path, sql: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        (value,) = database.execute(sql).fetchone()
    return int(value)
