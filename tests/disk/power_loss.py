"""Cut the power at every write: ``python -m tests.disk.power_loss --jobs 30``.

Needs strace (and the right to trace a child: Linux, no root). A worker with the real
engine, SQLite file and job server runs to its end, twice, under strace. Then, for a
cut at every event, the database files are rebuilt as a power loss may leave them, and
SQLite and the audit look at each. Some of the images are given to an engine, which
must finish all jobs without making one twice. Exits with 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.disk.checker import Facts, Owed, look, write_image
from tests.disk.images import Disk, Plan, Policy
from tests.disk.record import TRACED, Event, Said, Sync, Truncate, Write, parse
from tests.disk.resume import Resumed, resume
from tests.jobserver.launch import ROOT, RunningServer, job_server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATABASE = "orchestrator.db"
_DATA_MAX = 1 << 22
_LIFE_S = 300.0
_EXAMPLES_MAX = 6
WITHOUT = ("never answered", "given up")
"""Kinds of the crash scenario that only take long."""
LEASE_S = 4
"""A node whose lock file is lost with its folder's entry is waited for so long."""


@dataclass
class Figures:
    """What a run prints."""

    events: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    images: Counter[str] = field(default_factory=Counter)
    checkpointed: int = 0
    acknowledged: int = 0
    lossy: Counter[str] = field(default_factory=Counter)
    corrupt: int = 0
    broken: int = 0
    lost: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)
    resumed: Resumed = field(default_factory=Resumed)

    @property
    def clean(self) -> bool:
        """Whether nothing was lost or damaged, and every engine went on."""
        found = self.corrupt or self.broken or self.lost or self.resumed.findings
        return not found

    def example(self, line: str) -> None:
        """Keep the first few findings as text."""
        if len(self.examples) < _EXAMPLES_MAX:
            self.examples.append(line)

    def lines(self) -> list[str]:
        """Return the figures as text."""
        images = ", ".join(f"{name} {n}" for name, n in sorted(self.images.items()))
        lossy = ", ".join(f"{name} {n}" for name, n in sorted(self.lossy.items()))
        engines = self.resumed
        events = ", ".join(f"{name} {n}" for name, n in sorted(self.events.items()))
        return [
            f"events recorded             {self.events.total()} ({events})",
            f"checkpoints in the middle   {self.checkpointed}",
            f"cuts                        {self.cuts}",
            f"images tried                {self.images.total()} ({images})",
            f"corrupt                     {self.corrupt}",
            f"with a broken history       {self.broken}",
            f"acknowledged                {self.acknowledged}",
            f"of these lost               {len(self.lost)}",
            f"images that lost something  {self.lossy.total()} ({lossy or 'none'})",
            f"engines that went on        {engines.finished} of {engines.started}",
            *(f"  {line}" for line in [*self.examples, *engines.findings]),
        ]


def record(
    folder: Path, server: RunningServer, lives: Sequence[Sequence[str]]
) -> list[Event]:
    """Let a worker live as often as there are *lives*; return what it did and said."""
    database = folder / "database" / DATABASE
    events: list[Event] = []
    for number, arguments in enumerate(lives):
        trace = folder / f"strace-{number}.txt"
        command = [
            *strace_command(trace),
            *(sys.executable, "-m", "tests.disk.worker"),
            *("--database", str(database), "--server", server.address),
            *("--board", str(folder / "board"), *arguments),
        ]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, timeout=_LIFE_S, check=False
        )
        if done.returncode or not done.stdout.endswith(b"DONE\n"):
            detail = done.stderr.decode(errors="replace")
            sys.exit(f"power_loss: the worker ended with {done.returncode}: {detail}")
        parsed(trace, database, events)
    return events


def strace_command(trace: Path, *expressions: str) -> list[str]:
    """Return the command that records what the command after it does in *trace*."""
    strace = shutil.which("strace")
    if strace is None:
        sys.exit("strace is not installed: nothing was tried")
    more = [word for expression in expressions for word in ("-e", expression)]
    return [
        *(strace, "-f", "--seccomp-bpf", "-y", "-xx", "-s", str(_DATA_MAX)),
        *("-e", f"trace={TRACED}", "-e", "signal=none", *more, "-o", str(trace)),
    ]


def parsed(
    trace: Path, database: Path, events: list[Event] | None = None
) -> list[Event]:
    """Return *trace*'s events, after *events*, and remove it: it is large."""
    with trace.open(encoding="ascii") as lines:
        events = parse(lines, database, events)
    trace.unlink()
    return events


class Trial:
    """Goes through a record and looks at the images of every cut."""

    def __init__(self, folder: Path, disk: Disk, *, seed: int, repeat: int) -> None:
        """Build the images in *folder*, *repeat* of each policy that has chance."""
        self._folder = folder
        self._rng = Random(seed)
        self._repeat = repeat
        self._known: dict[Plan, Facts] = {}
        self.disk = disk
        self.owed = Owed()
        self._checkpoint = False
        self.figures = Figures()

    def step(self, event: Event) -> None:
        """Let one event happen, cut the power after it, look."""
        self.disk.play(event)
        self.figures.events[_kind(event)] += 1
        if isinstance(event, Said):
            self.owed.note(event.line)
            # Another acknowledgement comes after it, so it was no orderly end.
            self.figures.checkpointed += self._checkpoint
            self._checkpoint = False
        elif isinstance(event, Write) and event.name == DATABASE:
            self._checkpoint = bool(self.owed.transitions)
        self.figures.cuts += 1
        for policy in Policy:
            chance = policy in (Policy.SUBSET, Policy.TEAR)
            for _ in range(self._repeat if chance else 1):
                self._cut(policy)

    def _cut(self, policy: Policy) -> None:
        plan = self.disk.plan(policy, self._rng)
        facts = self._known.get(plan)
        figures = self.figures
        if facts is None:
            write_image(self.disk.build(plan, self._rng), self._folder)
            facts = self._known[plan] = look(self._folder / DATABASE)
            figures.images[policy] += 1
            if facts.damage:
                figures.corrupt += 1
                figures.example(f"cut {figures.cuts}, {policy}: {facts.damage}")
            if facts.broken:
                figures.broken += 1
                figures.example(f"cut {figures.cuts}, {policy}: {facts.broken[0]}")
        if lost := facts.lost(self.owed):
            figures.lossy[policy] += 1
            figures.lost.update(lost)
            figures.example(f"cut {figures.cuts}, {policy}: {len(lost)}: {lost[0]}")


def _kind(event: Event) -> str:
    if isinstance(event, Write | Truncate | Sync):
        suffix = event.name.rpartition("-")[2] if "-" in event.name else event.name
        kind = type(event).__name__.lower()
        if isinstance(event, Sync) and event.failed:
            kind = f"failed {kind}"
        return f"{kind} {suffix}"
    return type(event).__name__.lower()


def judge(
    events: list[Event],
    folder: Path,
    *,
    seed: int,
    repeat: int,
    before: Mapping[str, bytes] | None = None,
) -> Figures:
    """Cut the power after each of *events*, which found the files *before*; look."""
    images = folder / "images"
    images.mkdir()
    trial = Trial(images, Disk(before), seed=seed, repeat=repeat)
    for event in events:
        trial.step(event)
    owed = trial.owed
    # A submit is a transition and a key.
    trial.figures.acknowledged = len(owed.transitions) + len(owed.wishes)
    return trial.figures


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.disk.power_loss")
    parser.add_argument("--jobs", type=int, default=25, help="jobs in each life")
    parser.add_argument("--lives", type=int, default=2, help="starts of the worker")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--repeat", type=int, default=1, help="images per cut and policy with chance"
    )
    parser.add_argument(
        "--resume", type=int, default=10, help="how many images an engine goes on with"
    )
    parser.add_argument("--synchronous", choices=("OFF", "NORMAL", "FULL"))
    parser.add_argument("--checkpoint", type=int, help="the WAL after so many pages")
    parser.add_argument("--scratch", type=Path, help="where; a tmpfs is faster")
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path) -> Figures:
    """Record, judge, resume."""
    (folder / "database").mkdir()
    common = ["--jobs", str(options.jobs), "--seed", str(options.seed)]
    common += [word for kind in WITHOUT for word in ("--without", kind)]
    if options.synchronous:
        common += ["--synchronous", options.synchronous]
    if options.checkpoint is not None:
        common += ["--checkpoint", str(options.checkpoint)]
    common += ["--lease", str(LEASE_S)]
    batches = [",".join(map(str, range(life + 1))) for life in range(options.lives)]
    with job_server(folder / "ledger.db", seed=str(options.seed)) as server:
        lives = [[*common, "--batches", numbers] for numbers in batches]
        events = record(folder, server, lives)
        figures = judge(events, folder, seed=options.seed, repeat=options.repeat)
        figures.resumed = resume(
            events,
            folder / "database" / DATABASE,
            server,
            lives[-1],
            count=options.resume,
            rng=Random(options.seed),
        )
    return figures


def main() -> int:
    """Run the command; return the exit status."""
    options = _parse()
    with tempfile.TemporaryDirectory(prefix="power-", dir=options.scratch) as folder:
        figures = run(options, Path(folder).resolve())
    sys.stdout.write("\n".join(figures.lines()) + "\n")
    return 0 if figures.clean else 1


if __name__ == "__main__":
    sys.exit(main())
