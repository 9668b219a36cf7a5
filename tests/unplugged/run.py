"""Runs the tests of the table with their mechanisms on and off, and prints a table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.jobserver.launch import ROOT
from tests.unplugged.document import section
from tests.unplugged.mechanisms import MECHANISMS
from tests.unplugged.plugin import ON

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_TIMEOUT_S = 900


class Outcome(NamedTuple):
    """What became of one test with one mechanism off, or with all on."""

    name: str
    test: str
    outcome: str
    why: str


def outcomes(names: Collection[str], *, only_red: bool = False) -> list[Outcome]:
    """Run the tests of the mechanisms *names* in one process, and return all.

    Raises:
        RuntimeError: Pytest itself did not come to its end.
    """
    tests = dict.fromkeys(test for name in names for test in MECHANISMS[name].tests)
    with tempfile.TemporaryDirectory(prefix="unplugged-") as folder:
        file = Path(folder) / "outcomes.json"
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "tests.unplugged.plugin", "--unplugged", str(file)),
            *(["--only-red"] if only_red else []),
            *(f"--basetemp={folder}/base", "--timeout=0", "--tb=native"),
            # What a test without its mechanism leaves behind is not the next one's.
            *("-p", "no:unraisableexception", "-p", "no:threadexception", *tests),
        ]
        ran = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if not file.exists() or ran.returncode not in (
            0,
            5,
        ):  # none ran as pytest counts
            raise RuntimeError(f"{ran.stdout}\n{ran.stderr}")
        noted = [Outcome(*each) for each in json.loads(file.read_text())]
    return [each for each in noted if each.name == ON or each.name in names]


def problems(
    names: Collection[str], found: Sequence[Outcome], *, only_red: bool = False
) -> Iterator[str]:
    """Yield one line for each test that is not what it has to be."""
    by_run = {(each.name, each.test): each for each in found}
    for name in names:
        for test in MECHANISMS[name].tests:
            on, off = by_run.get((ON, test)), by_run.get((name, test))
            if not only_red and (on is None or on.outcome != "passed"):
                yield f"{test} is not green with everything on: {on and on.why}"
            if off is None or off.outcome != "failed":
                what = "was not run" if off is None else f"{off.outcome} {off.why}"
                yield f"without {name!r} {test} is not red: {what}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.unplugged")
    parser.add_argument("--only", action="append", choices=MECHANISMS, metavar="NAME")
    parser.add_argument("--document", action="store_true", help="print the section")
    parser.add_argument("--why", action="store_true", help="print what each test said")
    given = parser.parse_args(arguments)
    if given.document:
        sys.stdout.write(section())
        return 0
    names = given.only or list(MECHANISMS)
    found = outcomes(names)
    wrong = list(problems(names, found))
    for name in names:
        mechanism = MECHANISMS[name]
        red = [e for e in found if e.name == name and e.outcome == "failed"]
        verdict = f"{len(red)} of {len(mechanism.tests)} red"
        sys.stdout.write(f"{verdict:14} {name}: {mechanism.off}\n")
        if given.why:
            sys.stdout.writelines(f"{'':17}{e.test}\n{'':19}{e.why}\n" for e in red)
    sys.stdout.writelines(f"NOT SHOWN: {line}\n" for line in wrong)
    count = sum(len(MECHANISMS[name].tests) for name in names)
    what = f"{len(names)} mechanisms, {count} tests: green with it, red without it"
    sys.stdout.write(f"{len(wrong)} problems in {what}\n" if wrong else f"{what}\n")
    return 1 if wrong else 0
