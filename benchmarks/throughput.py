"""Compare the engine with its floor: ``python -m benchmarks.throughput``.

Every measurement runs in a process of its own, and the subjects take turns, so that
a slow minute of the machine hits them all. The figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.meter import Measurement

SUBJECTS = {
    "F": ("benchmarks.floor", "raw sqlite3, 6 + k narrow rows, batches of 1,000"),
    "S": ("benchmarks.own", "raw sqlite3, the engine's own row writes, likewise"),
    "A": ("benchmarks.bare", "bare asyncio, nothing durable"),
    "W": ("benchmarks.engine", "the engine, everything durable"),
}
TIMEOUT_S = 580


def main() -> int:
    """Measure, print, and return the exit status."""
    options = _options()
    if options.only:
        print(_measure_here(options.only, options).to_json())
        return 0
    if options.profile:
        _measure_here("W", options)
        return 0
    print(f"{options.n:,} executions, {options.k} polls each, {options.rounds} rounds")
    rounds: dict[str, list[Measurement]] = {subject: [] for subject in SUBJECTS}
    for _ in range(options.rounds):
        for subject, measurements in rounds.items():
            measurements.append(_measure_in_child(subject, options))
    for subject, measurements in rounds.items():
        _print_subject(subject, measurements)
    narrow, own = _ratio(rounds, "F"), _ratio(rounds, "S")
    print(f"W takes {narrow:.2f} x the time of F and A together (1/F + 1/A)")
    print(f"W takes {own:.2f} x the time of S and A together (1/S + 1/A)")
    ratio = own if options.floor == "S" else narrow
    if options.max_ratio and ratio > options.max_ratio:
        print(f"That is more than {options.max_ratio:g}.", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.throughput", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="executions")
    parser.add_argument("--k", type=int, default=3, help="polls of each execution")
    parser.add_argument("--rounds", type=int, default=3, help="odd, for a median")
    parser.add_argument(
        "--max-ratio", type=float, help="exit 1 if W takes more than this x both floors"
    )
    parser.add_argument(
        "--folder", type=Path, help="where the databases go, default: temporary files"
    )
    parser.add_argument(
        "--profile", action="store_true", help="a table of W, no rounds"
    )
    parser.add_argument(
        "--floor", choices=("F", "S"), default="S", help="what --max-ratio is about"
    )
    parser.add_argument("--only", choices=SUBJECTS, help="one measurement, as JSON")
    options = parser.parse_args()
    if min(options.n, options.k, options.rounds) < 1:
        parser.error("--n, --k and --rounds must be at least 1")
    return options


def _measure_here(subject: str, options: argparse.Namespace) -> Measurement:
    module = importlib.import_module(SUBJECTS[subject][0])
    measure = module.profile if options.profile else module.measure
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measurement = measure(options.n, options.k, Path(folder))
    assert isinstance(measurement, Measurement)
    return measurement


def _measure_in_child(subject: str, options: argparse.Namespace) -> Measurement:
    command = [sys.executable, "-m", "benchmarks.throughput", "--only", subject]
    command += ["--n", str(options.n), "--k", str(options.k)]
    if options.folder:
        command += ["--folder", str(options.folder)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S
    )
    return Measurement.from_json(done.stdout)


def _ratio(rounds: dict[str, list[Measurement]], floor: str) -> float:
    """Return the median over the rounds of W's time by that of *floor* and A."""
    return statistics.median(
        w.wall_s / (f.wall_s + a.wall_s)
        for f, a, w in zip(rounds[floor], rounds["A"], rounds["W"], strict=True)
    )


def _print_subject(subject: str, measurements: list[Measurement]) -> None:
    rates = [measurement.rate for measurement in measurements]
    wall_us = statistics.median(m.wall_us_each for m in measurements)
    cpu_us = statistics.median(m.cpu_us_each for m in measurements)
    peak_mb = max(measurement.peak_mb for measurement in measurements)
    print(
        f"{subject} {statistics.median(rates):9,.0f}/s"
        f" ({min(rates):,.0f} to {max(rates):,.0f})"
        f" {wall_us:8.1f} us each, {cpu_us:8.1f} us cpu, {peak_mb:6.0f} MB"
        f"  {SUBJECTS[subject][1]}"
    )


if __name__ == "__main__":
    sys.exit(main())
