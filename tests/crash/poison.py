"""Bad rows beside good ones (P6): ``python -m tests.crash.poison --jobs 60``.

The same good jobs run twice, each time in a worker process on a database of its own:
alone, and beside rows that are bad in every way: calls that hang for as long as they
may, metas that nobody can read, garbage in a column. The job server's ledger tells
how long the good jobs took, from the first create to the last end; the orchestrator's
database is not asked. Exits with 1 if one did not end, or if they took much longer;
``--in-flight 1`` shows that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import Config, Orchestrator
from orchestrator._faults import FAULT_POINTS
from orchestrator._registry import Registry
from orchestrator.testing import Fault, JobSpec, Rule, ServiceClass
from tests.crash.life import Orders, live
from tests.crash.scenario import KINDS, Plan
from tests.crash.worker import policy_of, task_of
from tests.jobserver.client import JobClient
from tests.jobserver.connectors import JobServerI
from tests.jobserver.launch import RunningServer, job_server
from tests.support.spoiler import Spoiler

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVICE = ServiceClass.IDEMPOTENT
GOOD = ("plain", "polled", "waits", "retried")
_ROWS = ("meta", "inputs", "labels", "message", "hold", "remote_phase")
_VALUES = ("x'ff00'", "'garbage'", "CAST(x'fffe' AS TEXT)", "1e300")
_GARBAGE = [(column, value) for column in _ROWS for value in _VALUES]
_TIMER = [("due_at", "x'ff00'"), ("step", "'garbage'"), ("errors", "1e300")]
_HANGS = [Rule(do=Fault.HANG, verb="create"), Rule(do=Fault.HANG, verb="get")]
SLACK, SLACK_S = 3.0, 4.0
"""The good may take so many times as long, and so much longer: other programs run."""


@dataclass(frozen=True)
class Outcome:
    """What the witness says of the good jobs of one run.

    Attributes:
        seconds: From the first create to the last end.
        missing: Those that did not end.
        bad_calls: Requests of the bad rows while they ran.
    """

    seconds: float
    ended: int
    missing: int
    bad_calls: int


async def poison(folder: Path, server: RunningServer, bad: int) -> set[str]:
    """Make *bad* rows in the database, half hanging, half spoiled; return their ids."""
    client = JobClient(server.host, server.port)
    registry = Registry()
    registry.register(JobServerI(client, policy=policy_of(SERVICE)))
    path = folder / "orchestrator.db"
    specs = [
        JobSpec(until_told=True, faults=() if n % 2 else (_HANGS[n // 2 % 2],))
        for n in range(bad)
    ]
    config = Config(stop_timeout=timedelta(0))  # not even for what hangs
    async with Orchestrator(
        path, registry=registry, config=config, start=False
    ) as orchestrator:
        plans = [Plan("", "plain", SERVICE, spec) for spec in specs]
        handles = await orchestrator.submit_many(
            [
                (task_of(p, JobServerI.task_type_name), _inputs(p.spec), {})
                for p in plans
            ]
        )
        spoiled = [handle.id for handle in handles[1::2]]
        while not all([(await orchestrator.get(i)).resource_meta for i in spoiled]):
            await orchestrator.tick()
    await client.aclose()
    spoiler = Spoiler(path)
    for number, execution_id in enumerate(spoiled):
        table, key, cases = ("execution", "id", _GARBAGE)
        if number % 4 == 3:
            table, key, cases = ("timer", "execution_id", _TIMER)
        case = cases[number % len(cases)]
        assert spoiler.spoil(table, key, execution_id, *case), case
    spoiler.run("UPDATE timer SET due_at = 1 WHERE typeof(due_at) = 'integer'")
    spoiler.close()
    return {handle.id for handle in handles}


def _inputs(spec: JobSpec) -> dict[str, str]:
    return {"spec": json.dumps(spec.to_json())}


def run(
    folder: Path, server: RunningServer, *, jobs: int, bad: int, in_flight: int = 1000
) -> Outcome:
    """Run the good jobs beside *bad* rows in a process; ask the ledger about them."""
    folder.mkdir()
    poisoned = asyncio.run(poison(folder, server, bad)) if bad else set()
    board = folder / "board"
    orders = Orders(
        arguments=[
            *("--database", f"sqlite+aiosqlite:///{folder / 'orchestrator.db'}"),
            *("--server", server.address, "--board", str(board)),
            *("--jobs", str(jobs), "--class", SERVICE.value, "--batches", "1"),
            *(
                word
                for kind in KINDS
                if kind not in GOOD
                for word in ("--without", kind)
            ),
            *("--in-flight", str(in_flight)),
        ],
        board=board,
        points=FAULT_POINTS,
    )
    life = live(orders)
    if life.returncode:
        sys.stderr.write(f"the worker ended with {life.returncode}:\n{life.errors}\n")
    good = {execution_id for _, execution_id in life.acknowledged()}
    return _witnessed(server.ledger, good - poisoned, poisoned, jobs)


def _witnessed(
    ledger: Path, good: Iterable[str], bad: Iterable[str], jobs: int
) -> Outcome:
    query = """
        SELECT substr(job.token, 2, 32), min(job.created_us), max(job_state.at_us)
        FROM job LEFT JOIN job_state
        ON job_state.job_id = job.id AND state = 'SUCCEEDED'
        GROUP BY 1"""
    with closing(sqlite3.connect(ledger)) as db:
        lives = {row[0]: row[1:] for row in db.execute(query)}
        calls = dict(
            db.execute("SELECT substr(token, 2, 32), count(*) FROM call GROUP BY 1")
        )
    ended = [lives[i] for i in good if i in lives and lives[i][1] is not None]
    first = min((created for created, _ in ended), default=0)
    last = max((end for _, end in ended), default=0)
    return Outcome(
        seconds=(last - first) / 1e6,
        ended=len(ended),
        missing=jobs - len(ended),
        bad_calls=sum(calls.get(i, 0) for i in bad),
    )


def bound(alone: Outcome) -> float:
    """Return how many seconds the good jobs may take beside bad rows."""
    return SLACK * alone.seconds + SLACK_S


def kept(alone: Outcome, beside: Outcome) -> bool:
    """Whether the bad rows have not delayed the good jobs."""
    return not (alone.missing or beside.missing) and beside.seconds <= bound(alone)


def main() -> int:
    """Run both, print, return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.poison")
    parser.add_argument("--jobs", type=int, default=60, help="good ones")
    logging.getLogger("orchestrator").setLevel(logging.CRITICAL)
    parser.add_argument("--bad", type=int, default=100, help="bad rows beside them")
    parser.add_argument(
        "--in-flight", type=int, default=1000, help="1: to see the good ones wait"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="poison-") as name:
        folder = Path(name)
        with job_server(folder / "ledger.db") as server:
            alone = run(folder / "alone", server, jobs=options.jobs, bad=0)
            beside = run(
                folder / "beside",
                server,
                jobs=options.jobs,
                bad=options.bad,
                in_flight=options.in_flight,
            )
    sys.stdout.write(
        f"good jobs alone              {alone.ended} ended in {alone.seconds:.2f} s\n"
        f"beside {options.bad:>4} bad rows         {beside.ended} ended in"
        f" {beside.seconds:.2f} s (bound {bound(alone):.1f} s)\n"
        f"calls for the bad meanwhile  {beside.bad_calls}\n"
        f"good jobs that did not end   {alone.missing + beside.missing}\n"
    )
    return int(not kept(alone, beside))


if __name__ == "__main__":
    sys.exit(main())
