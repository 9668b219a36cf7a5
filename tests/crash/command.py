"""What the commands ``two`` and ``zombies`` have in common: options, loop, totals."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from orchestrator.testing import ServiceClass
from tests.crash.crew import SilentError
from tests.crash.figures import Totals, load, save, summary
from tests.jobserver.connectors import REMEMBERED_S
from tests.jobserver.launch import RunningServer, job_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Cycle:
    """One cycle: its number, its dice, and what it works with."""

    service: ServiceClass
    number: int
    seed: int
    folder: Path
    server: RunningServer
    totals: Totals

    @property
    def rng(self) -> Random:
        """The same for a seed."""
        return Random(f"{self.seed}:{self.service}:{self.number}")

    def rarest(self, points: Sequence[str], rng: Random) -> str:
        """Return the point with the fewest hits; what is missed comes later again."""
        hits, tried = self.totals.points, self.totals.places
        order = rng.sample(points, len(points))
        point = min(order, key=lambda point: hits[point] + tried[point])
        tried[point] += 1
        return point


def run(
    arguments: argparse.Namespace, folder: Path, one: Callable[[Cycle], None]
) -> Totals:
    """Run *one* as often as ordered, on a job server; keep and return the totals."""
    service = ServiceClass(arguments.service)
    totals = load(arguments.resume).get(service.value, Totals())
    seed = totals.next_seed if arguments.seed is None else arguments.seed
    totals.seeds[str(seed)] += 0
    with job_server(
        folder / "ledger.db", seed=str(seed), remember_s=REMEMBERED_S + 0.5
    ) as server:
        for number in range(1, arguments.cycles + 1):
            cycle = Cycle(service, number, seed, folder, server, totals)
            try:
                one(cycle)
            except SilentError as error:
                totals.cycles["hung"] += 1
                totals.note([f"cycle {number}: {error}"])
            totals.seeds[str(seed)] += 1
            save(arguments.resume, {service.value: totals})
    return totals


def main(prog: str, points: tuple[str, ...], one: Callable[[Cycle], None]) -> int:
    """Read the command line, run, print; return the exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.crash.{prog}")
    parser.add_argument("--cycles", type=int, default=60)
    parser.add_argument("--class", dest="service", default="I", help="I, T, L or N")
    parser.add_argument("--seed", type=int, help="default: the first unused one")
    parser.add_argument("--resume", type=Path, help="JSON file of running totals")
    parser.add_argument("--report", type=Path, help="print such a file, run nothing")
    arguments = parser.parse_args()
    if arguments.report is not None:
        for service, totals in load(arguments.report).items():
            _print(f"{prog}, class {service}", totals, points)
        return 0
    folder = Path(tempfile.mkdtemp(prefix=f"{prog}-"))
    totals = run(arguments, folder, one)
    _print(f"{prog}, class {arguments.service}", totals, points)
    if totals.clean:
        shutil.rmtree(folder)
        return 0
    sys.stdout.write(f"violations: databases and ledger are kept in {folder}\n")
    return 1


def _print(title: str, totals: Totals, points: tuple[str, ...]) -> None:
    sys.stdout.write("\n".join(summary(title, totals, points)) + "\n")
