"""Many seeds: ``python -m tests.simulation --seeds 200 [--workers W] [--seed N]``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from tests.simulation.campaign import Totals, campaign
from tests.simulation.world import Kind


def say(line: str = "") -> None:
    """Write one line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__
    )
    parser.add_argument("--seeds", type=int, help="how many, from --seed on")
    parser.add_argument("--seed", type=int, help="first seed; alone: only it")
    parser.add_argument("--workers", type=int, default=1, help="processes to use")
    parser.add_argument(
        "--class", dest="kind", choices=list(Kind), help="one class only"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        help="JSON file of running totals: the next --seeds after those in it",
    )
    parser.add_argument("--verbose", action="store_true", help="show the engine's log")
    return parser.parse_args(argv)


def main() -> None:
    """Run the command."""
    given = arguments()
    logging.basicConfig(level=logging.DEBUG if given.verbose else logging.CRITICAL + 1)
    totals = Totals.load(given.resume) if given.resume else Totals()
    number = given.seeds or (200 if given.seed is None else 1)
    first = given.seed or 0
    began = time.monotonic()

    def after(totals: Totals) -> None:
        if given.resume:
            totals.save(given.resume)
        if totals.seeds % 100 == 0:
            spent = time.monotonic() - began
            say(f"{totals.seeds} seeds, {len(totals.problems)} failed, {spent:.0f} s")

    totals = campaign(
        range(first, first + totals.seeds + number),
        kinds=[Kind(given.kind)] if given.kind else list(Kind),
        workers=given.workers,
        totals=totals,
        after=after,
    )
    for line in totals.report(f" --class {given.kind}" if given.kind else ""):
        say(line)
    sys.exit(1 if totals.problems else 0)


if __name__ == "__main__":
    main()
