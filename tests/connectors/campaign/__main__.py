"""Kill, restart, finish, judge, with a built-in connector.

``python -m tests.connectors.campaign --connector bigquery --kills 200``. The options
are those of ``python -m tests.crash.campaign``, whose loop and judge this is.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.testing import ServiceClass
from tests.connectors.campaign.entry import ENTRIES, entry_of
from tests.crash.campaign import Campaign, Options
from tests.crash.figures import Totals, load, save, table
from tests.crash.subject import POINTS, reachable

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = dict.fromkeys(ENTRIES, ServiceClass.IDEMPOTENT)
CLASSES |= dict.fromkeys(
    ("databricks", "snowflake", "http-listed"), ServiceClass.LISTED
)
"""What each connector promises, with the service that it is run against."""


def run(
    name: str,
    options: Options,
    folder: Path,
    totals: Totals,
    judged: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Run the campaign of one connector; return the points that it can come by."""
    folder.mkdir(parents=True, exist_ok=True)
    service = CLASSES[name]
    with entry_of(name).opened(service, folder, str(options.seed)) as subject:
        Campaign(subject, options, folder, totals, judged=judged).run()
        return reachable(service, options.points or subject.points)


def report(name: str, totals: Totals, points: tuple[str, ...]) -> list[str]:
    """Return the table of a connector as lines."""
    title = f"connector {name}, promise {CLASSES[name].value}"
    return [title, *table(name, totals, points)[1:]]


def main() -> int:
    """Run the campaign; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.connectors.campaign")
    parser.add_argument("--connector", choices=(*ENTRIES, "all"), default="all")
    parser.add_argument("--kills", type=int, default=200, help="per connector")
    parser.add_argument("--jobs", type=int, default=6, help="submissions per kill")
    parser.add_argument("--seed", type=int, help="default: the first unused one")
    parser.add_argument("--round", type=int, default=5, help="kills per judgement")
    parser.add_argument("--resume", type=Path, help="JSON file of running totals")
    parser.add_argument("--report", type=Path, help="print such a file, run nothing")
    parser.add_argument("--keep", type=Path, help="folder for databases and ledgers")
    arguments = parser.parse_args()
    if arguments.report is not None:
        for name, totals in load(arguments.report).items():
            points = tuple(totals.reached) or POINTS
            sys.stdout.write("\n".join(report(name, totals, points)) + "\n")
        return 0
    names = ENTRIES if arguments.connector == "all" else [arguments.connector]
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="connectors-"))
    clean = True
    for name in names:
        clean &= _one(name, arguments, folder / name)
    if not clean:
        sys.stdout.write(f"violations: databases and ledgers are kept in {folder}\n")
    elif arguments.keep is None:
        shutil.rmtree(folder)
    return 0 if clean else 1


def _one(name: str, arguments: argparse.Namespace, folder: Path) -> bool:
    """Run one connector, keep its totals, print them; return whether all is clean."""
    mine = load(arguments.resume).get(name, Totals())
    options = Options(
        cycles=arguments.kills,
        jobs=arguments.jobs,
        seed=mine.next_seed if arguments.seed is None else arguments.seed,
        round_size=arguments.round,
    )

    def keep() -> None:
        save(arguments.resume, {name: mine})

    mine.seeds[str(options.seed)] += 0
    keep()  # a seed is used once, also by a run that does not come to its end
    points = run(name, options, folder, mine, keep)
    sys.stdout.write("\n".join(report(name, mine, points)) + "\n")
    sys.stdout.flush()
    return mine.clean


if __name__ == "__main__":
    sys.exit(main())
