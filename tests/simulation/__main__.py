"""Many seeds: ``python -m tests.simulation --seeds 200 [--seed N] [--class I]``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.simulation.run import Result, memory_folder, migrated, simulate
from tests.simulation.world import Kind

COUNTED = ("calls", "crashes", "causes", "figures", "reached")


def say(line: str = "") -> None:
    """Write one line."""
    sys.stdout.write(f"{line}\n")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__
    )
    parser.add_argument(
        "--seeds", type=int, default=200, help="how many, from --seed on"
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="first seed; alone: only it"
    )
    parser.add_argument(
        "--class", dest="kind", choices=list(Kind), help="one class only"
    )
    parser.add_argument("--verbose", action="store_true", help="show the engine's log")
    return parser.parse_args(argv)


async def campaign(seeds: range, kinds: list[Kind]) -> int:
    """Play *seeds*, print the totals, return how many failed."""
    totals: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    failed = 0
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        empty = migrated(Path(folder))
        for seed in seeds:
            result = await simulate(seed, empty, kinds=kinds)
            for name in COUNTED:
                totals[name] += getattr(result, name)
            if result.problems:
                failed += 1
                tell(result, kinds)
    say(f"{len(seeds)} seeds, {failed} failed")
    for name in ("figures", "calls", "crashes", "causes"):
        say()
        say(f"{name}: {totals[name].total()}")
        for what, number in sorted(totals[name].items()):
            say(f"  {number:9} {what}")
    return failed


def tell(result: Result, kinds: list[Kind]) -> None:
    """Print what a seed broke, and how to see it again."""
    only = f" --class {kinds[0]}" if len(kinds) == 1 else ""
    say(f"seed {result.seed} failed; again: --seed {result.seed}{only}")
    for problem in result.problems[:10]:
        say(f"  {problem}")


def main() -> None:
    """Run the command."""
    given = arguments()
    logging.basicConfig(level=logging.DEBUG if given.verbose else logging.CRITICAL + 1)
    first = 0 if given.seed is None else given.seed
    alone = given.seed is not None and "--seeds" not in sys.argv
    seeds = range(first, first + (1 if alone else given.seeds))
    kinds = [Kind(given.kind)] if given.kind else list(Kind)
    sys.exit(1 if asyncio.run(campaign(seeds, kinds)) else 0)


if __name__ == "__main__":
    main()
