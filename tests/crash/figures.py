"""Running totals of a campaign: kept over runs with ``--resume``, shown as a table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tests.crash.judge import KINDS_OF_FINDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_EXAMPLES_MAX = 40
_COUNTERS = (
    "cycles",
    "places",
    "points",
    "landed_at",
    "reached",
    "findings",
    "jobs",
    "ambiguous",
    "canaries",
    "seeds",
)


@dataclass
class Totals:
    """The totals of one service class.

    Attributes:
        cycles: Lives by how they ended: "killed at a point", "killed at random",
            "missed" (it finished first), "finished" (faults off), "hung".
        places: Kills by what they landed in; "critical" is a named point between a
            call and the commit of its answer, "idle" nothing at all.
        points: Kills per named point.
        landed_at: Those of them that were inside a call or commit.
        reached: How often each point was reached, over all lives.
        findings: Violations by kind.
        jobs: Figures of the last judgement of each run.
        ambiguous: What nobody knew after a kill, or after a commit whose answer was
            lost, and what was resolved since: nothing of it is among the findings.
        canaries: Secrets, how often a service quoted one, and where it was searched.
        seeds: Kills per seed; a seed is entered when its run begins.
        examples: The first findings, as text.
    """

    cycles: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    landed_at: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    ambiguous: Counter[str] = field(default_factory=Counter)
    canaries: Counter[str] = field(default_factory=Counter)
    seeds: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Processes killed."""
        return sum(n for how, n in self.cycles.items() if how.startswith("killed"))

    @property
    def landed(self) -> int:
        """Kills that landed inside a call or a commit."""
        return self.places["landed"]

    @property
    def clean(self) -> bool:
        """Whether nothing was violated and nothing hung."""
        return not sum(self.findings.values()) and not self.cycles["hung"]

    @property
    def next_seed(self) -> int:
        """The first seed that no run has used."""
        return max(map(int, self.seeds), default=-1) + 1

    def rarest(self, points: Iterable[str]) -> tuple[str, int]:
        """Return the point with the fewest kills, and their number."""
        return min(((point, self.points[point]) for point in points), key=itemgetter(1))

    def note(self, lines: list[str]) -> None:
        """Keep the first findings as examples."""
        room = _EXAMPLES_MAX - len(self.examples)
        self.examples.extend(lines[: max(room, 0)])

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        counters = {name: dict(getattr(self, name)) for name in _COUNTERS}
        return {**counters, "examples": self.examples}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Totals:
        """Read totals of an earlier run."""
        counters = {name: Counter(raw.get(name, {})) for name in _COUNTERS}
        return cls(**counters, examples=list(raw.get("examples", ())))


def load(path: Path | None) -> dict[str, Totals]:
    """Read the totals by service class; nothing is an empty start."""
    if path is None or not path.exists():
        return {}
    raw = json.loads(path.read_text(encoding="utf-8"))
    return {service: Totals.from_json(totals) for service, totals in raw.items()}


def save(path: Path | None, totals: dict[str, Totals]) -> None:
    """Write the totals, whole or not at all; those of other classes stay.

    Two runs may share the file as long as their classes differ.
    """
    if path is None:
        return
    both = load(path) | totals
    text = json.dumps({name: each.to_json() for name, each in both.items()}, indent=1)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def table(service: str, totals: Totals, points: tuple[str, ...]) -> list[str]:
    """Return the table of hits per named point, and the totals, as lines."""
    width = max(map(len, points), default=10)
    lines = [
        f"class {service}",
        f"  {'named point':<{width}} {'kills':>6} {'landed':>7} {'reached':>9}",
    ]
    lines += [
        f"  {name:<{width}} {totals.points[name]:>6} {totals.landed_at[name]:>7}"
        f" {totals.reached[name]:>9}"
        for name in points
    ]
    places = ", ".join(
        f"{place} {totals.places[place]}"
        for place in ("create", "get", "delete", "find", "commit", "critical", "idle")
    )
    cycles = ", ".join(f"{how} {n}" for how, n in sorted(totals.cycles.items()))
    jobs = ", ".join(f"{what} {n}" for what, n in sorted(totals.jobs.items()))
    kills = f"{totals.kills}, of these inside a call or a commit {totals.landed}"
    findings = ", ".join(f"{kind} {totals.findings[kind]}" for kind in KINDS_OF_FINDING)
    ambiguous = ", ".join(f"{what} {n}" for what, n in sorted(totals.ambiguous.items()))
    canaries = ", ".join(f"{what} {n}" for what, n in totals.canaries.items())
    seeds = ", ".join(sorted(totals.seeds, key=int))
    rarest, hits = totals.rarest(points)
    return [
        *lines,
        f"  fewest kills {hits}, at {rarest}",
        f"  seeds        {seeds}",
        f"  lives        {cycles}",
        f"  kills        {kills} ({places})",
        f"  at the end   {jobs}",
        f"  ambiguous    {ambiguous}",
        f"  canaries     {canaries}, found {totals.findings['leaked']}",
        f"  violations   {findings}",
        *(f"    {line}" for line in totals.examples),
    ]


def summary(title: str, totals: Totals, points: tuple[str, ...]) -> list[str]:
    """Return points, cycles and findings of a command with several workers."""
    width = max(map(len, points))
    return [
        title,
        *(f"  {name:<{width}} {totals.points[name]:>6}" for name in points),
        f"  seeds        {_counts(totals.seeds)}",
        f"  cycles       {_counts(totals.cycles)}",
        f"  at the end   {_counts(totals.jobs)}",
        f"  violations   {_counts({k: totals.findings[k] for k in KINDS_OF_FINDING})}",
        *(f"    {line}" for line in totals.examples),
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.items())
