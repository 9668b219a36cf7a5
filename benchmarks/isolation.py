"""Others' polls while one connector blocks: ``python -m benchmarks.isolation``.

One connector's ``get`` blocks for half a second, again and again; another one's jobs
are polled every 50 ms meanwhile. What is measured is how much later than planned each
of those polls comes. Once with everything on the engine's loop, once with the blocking
connector in a thread of its own, each in a process of its own, in turns; and once with
a ``get`` that only waits, which shows what the machine does by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from benchmarks.service import FreeConnector, FreeMeta
from orchestrator import Config, Orchestrator, Registry, TaskTemplate
from orchestrator._config import Policy
from orchestrator.connectors import Resource
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S = 200
MEASURE_S = 15.0
JOBS = 4
POLL_S = 0.05
BLOCK_S = 0.5
WAYS = {
    "none": "no get blocks: each waits as long on the loop",
    "thread": 'the blocking connector has runs_in = "thread"',
    "loop": 'the blocking connector has runs_in = "loop"',
}


class Blocking(FreeConnector):
    """Each ``get`` blocks, or waits, for half a second; the jobs never end."""

    task_type_name = "blocking"
    policy = Policy(
        poll_delay_min=timedelta(milliseconds=1),
        poll_delay_max=timedelta(milliseconds=1),
        jitter=0.0,
    )

    def __init__(self, way: str) -> None:
        """Block, or wait, as *way* says."""
        super().__init__(0, 0)
        self._blocks = way != "none"
        vars(self)["runs_in"] = "thread" if way == "thread" else "loop"
        self.gets = 0

    async def get(self, resource_meta: FreeMeta, **kwargs: Any) -> Resource:
        """Answer after half a second."""
        del resource_meta, kwargs
        self.gets += 1
        if self._blocks:
            time.sleep(BLOCK_S)  # noqa: ASYNC251 - a client that blocks
        else:
            await asyncio.sleep(BLOCK_S)
        return Resource(phase=TaskExecution.RUNNING)


class Polled(FreeConnector):
    """Notes how much later than planned each poll comes, in seconds."""

    task_type_name = "polled"
    policy = Policy(
        poll_delay_min=timedelta(seconds=POLL_S),
        poll_delay_max=timedelta(seconds=POLL_S),
        jitter=0.0,
    )

    def __init__(self, polls: int) -> None:
        """Set `enough` after *polls* of all jobs together."""
        super().__init__(0, 0)
        self._last: dict[str, float] = {}
        self._enough_after = polls
        self.late: list[float] = []
        self.enough = asyncio.Event()

    async def get(self, resource_meta: FreeMeta, **kwargs: Any) -> Resource:
        """Note the delay."""
        del kwargs
        now, job = time.perf_counter(), resource_meta.job_id
        if job in self._last:
            self.late.append(max(now - self._last[job] - POLL_S, 0))
        self._last[job] = now
        if len(self.late) >= self._enough_after:
            self.enough.set()
        return Resource(phase=TaskExecution.RUNNING)


def _task(kind: str) -> TaskTemplate:
    interface = NativeInterface(inputs={}, outputs={})
    return TaskTemplate(name=kind, task_type=kind, interface=interface, image=None)


async def measure(way: str, polls: int, path: Path) -> list[float]:
    """Return how late polls came while another connector did as *way* says.

    Of *polls* polls, or of those that came within `MEASURE_S`.
    """
    blocking, polled = Blocking(way), Polled(polls)
    registry = Registry()
    registry.register(blocking)
    registry.register(polled)
    config = Config(stop_timeout=timedelta(seconds=2))
    async with Orchestrator(path, registry=registry, config=config) as orchestrator:
        await orchestrator.submit(_task("blocking"))
        await orchestrator.submit_many([(_task("polled"), {})] * JOBS)
        with suppress(TimeoutError):
            async with asyncio.timeout(MEASURE_S):
                await polled.enough.wait()
    assert blocking.gets > 1
    assert len(polled.late) > 1
    return polled.late


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    if options.only:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "jobs.db"
            late = asyncio.run(measure(options.only, options.polls, path))
        print(json.dumps(late))
        return 0
    late_by_way: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, late in late_by_way.items():
            late.extend(_measure_in_child(way, options))
    print(
        f"how late the polls of {JOBS} jobs came, one each {POLL_S * 1000:.0f} ms,"
        f" while a get took {BLOCK_S * 1000:.0f} ms; {options.rounds} rounds"
    )
    for way, late in late_by_way.items():
        print(
            f"{way:>6} {len(late):6,} polls: p50 {_ms(late, 50):7.1f} ms,"
            f" p99 {_ms(late, 99):7.1f} ms, max {max(late) * 1000:7.1f} ms"
            f"  {WAYS[way]}"
        )
    p99 = _ms(late_by_way["thread"], 99)
    if options.max_p99 and p99 > options.max_p99:
        print(f"That is more than {options.max_p99:g} ms.", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.isolation", description=__doc__)
    parser.add_argument("--polls", type=int, default=300, help="at most, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--max-p99", type=float, help="exit 1 if it is later with a thread, in ms"
    )
    parser.add_argument("--folder", type=Path, help="where the databases go")
    parser.add_argument("--only", choices=WAYS, help="one measurement, as JSON")
    options = parser.parse_args()
    if min(options.polls, options.rounds) < 1:
        parser.error("--polls and --rounds must be at least 1")
    return options


def _measure_in_child(way: str, options: argparse.Namespace) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.isolation", "--only", way]
    command += ["--polls", str(options.polls)]
    if options.folder:
        command += ["--folder", str(options.folder)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S
    )
    late: list[float] = json.loads(done.stdout)
    return late


def _ms(seconds: list[float], percent: int) -> float:
    cut: Callable[..., list[float]] = statistics.quantiles
    return cut(seconds, n=100, method="inclusive")[percent - 1] * 1000


if __name__ == "__main__":
    sys.exit(main())
