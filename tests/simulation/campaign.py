"""Many seeds, in several processes, with totals that can be kept in a file."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import tempfile
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.run import memory_folder, migrated, simulate
from tests.simulation.world import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

COUNTED = ("figures", "calls", "crashes", "causes", "reached")
CHUNK = 10
"""So many seeds are one errand of a process."""


@dataclass
class Totals:
    """What some seeds did together.

    Attributes:
        seeds: How many were played.
        seen: In how many of them each kind of fault occurred.
        counted: The sums of what each `Result` counts, by its attribute.
        problems: What was violated, by seed.
        traces: A short hash of all that happened, by seed.
    """

    seeds: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    counted: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in COUNTED}
    )
    problems: dict[int, list[str]] = field(default_factory=dict)
    traces: dict[int, str] = field(default_factory=dict)

    def add(self, other: Totals) -> None:
        """Count what *other* did, too."""
        self.seeds += other.seeds
        self.seen += other.seen
        for name in COUNTED:
            self.counted[name] += other.counted[name]
        self.problems |= other.problems
        self.traces |= other.traces

    def save(self, file: Path) -> None:
        """Write everything to *file*, whole or not at all."""
        made = file.with_name(f"{file.name}.new")
        made.write_text(json.dumps(vars(self)), encoding="utf-8")
        made.replace(file)

    @classmethod
    def load(cls, file: Path) -> Totals:
        """Return what `save` wrote, nothing if *file* is not there."""
        if not file.exists():
            return cls()
        told = json.loads(file.read_text(encoding="utf-8"))
        return cls(
            seeds=told["seeds"],
            seen=Counter(told["seen"]),
            counted={name: Counter(told["counted"][name]) for name in COUNTED},
            problems={int(seed): said for seed, said in told["problems"].items()},
            traces={int(seed): trace for seed, trace in told["traces"].items()},
        )

    def report(self, only: str = "") -> list[str]:
        """Return the figures as lines, and how to see each failing seed again."""
        lines = [f"{self.seeds} seeds, {len(self.problems)} failed"]
        for seed, problems in self.problems.items():
            lines.append(f"seed {seed} failed; again: {command(seed)}{only}")
            lines += [f"  {problem}" for problem in problems[:10]]
        groups = {"seeds with each kind of fault": self.seen, **self.counted}
        del groups["reached"]
        for name, counter in groups.items():
            lines += ["", name]
            lines += [f"  {n:9} {what}" for what, n in sorted(counter.items())]
        return lines


def command(seed: int) -> str:
    """Return what plays *seed* again."""
    return f"python -m tests.simulation --seed {seed}"


def play(
    seeds: Iterable[int], empty: Path, kinds: Sequence[Kind] = tuple(Kind)
) -> Totals:
    """Play *seeds* one after the other, each in a loop of its own."""
    totals = Totals()
    for seed in seeds:
        totals.seeds += 1
        try:
            result = asyncio.run(simulate(seed, empty, kinds=kinds))
        except Exception:  # noqa: BLE001 - whatever it is, the seed is to be named
            totals.problems[seed] = traceback.format_exc().splitlines()[-10:]
            continue
        totals.traces[seed] = result.trace[:16]
        totals.seen.update(dict.fromkeys(result.faults, 1))
        for name in COUNTED:
            totals.counted[name] += getattr(result, name)
        if result.problems:
            totals.problems[seed] = result.problems
    return totals


def campaign(
    seeds: range,
    *,
    kinds: Sequence[Kind] = tuple(Kind),
    workers: int = 1,
    totals: Totals | None = None,
    after: Callable[[Totals], None] = lambda _: None,
) -> Totals:
    """Play *seeds* and return the totals; call *after* with them now and then.

    What *totals* have counted already are the first of the seeds.
    """
    totals = totals or Totals()
    rest = seeds[totals.seeds :]
    chunks = [rest[at : at + CHUNK] for at in range(0, len(rest), CHUNK)]
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        errand = partial(play, empty=migrated(Path(folder)), kinds=kinds)
        if workers == 1:
            for chunk in chunks:
                totals.add(errand(chunk))
                after(totals)
            return totals
        with ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=logging.disable,
        ) as pool:
            for done in pool.map(errand, chunks):  # in order: what is done is a prefix
                totals.add(done)
                after(totals)
    return totals
