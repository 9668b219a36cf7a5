"""What the protocol keeps and what each ablation breaks: ``python -m tests.model``.

``--full`` lets more faults happen in one run: some minutes and gigabytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from tests.model.variants import VARIANTS

if TYPE_CHECKING:
    from tests.model.check import Report
    from tests.model.variants import Variant


def say(line: str = "") -> None:
    """Write one line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="more faults at a time; takes minutes"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="the variants whose name has TEXT"
    )
    return parser.parse_args(argv)


def words(variant: Variant, report: Report, problem: str | None) -> str:
    """Return what broke, in words."""
    found = "; ".join(sorted(report.findings)) or "nothing"
    if not variant.ablation and report.findings and problem is None:
        found = f"nothing for good; for a moment {found}"
    if report.listed and not variant.ablation:
        found += "; possible orphans are listed"
    return found


def main(argv: list[str] | None = None) -> int:
    """Explore each variant, print the table and the traces; return the exit code."""
    given = arguments(argv)
    problems, traces = [], []
    say("| variant | states | breaks | seconds |")
    say("|---|---|---|---|")
    for name, variant in VARIANTS.items():
        if given.only not in name:
            continue
        began = time.perf_counter()
        report = variant.explore(full=given.full)
        took = time.perf_counter() - began
        problem = variant.problem(report, full=given.full)
        # An ablation is explored until it is caught.
        states = f"{report.states:,}{' (until caught)' if variant.ablation else ''}"
        say(f"| {name} | {states} | {words(variant, report, problem)} | {took:.1f} |")
        if problem is not None:
            problems.append(f"{name}: {problem}")
        if variant.ablation or problem is not None:
            traces.append((name, report))
    for name, report in traces:
        for finding, trace in report.traces.items():
            say(f"\n{name}: {finding}")
            for number, text in enumerate(trace, start=1):
                say(f"  {number:2} {text}")
    say()
    for problem in problems:
        say(f"NOT AS EXPECTED: {problem}")
    say("all as expected" if not problems else f"{len(problems)} not as expected")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
