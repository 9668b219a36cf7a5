"""Without its mechanism each test of a promise is red; the documentation says so."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from tests.jobserver.launch import ROOT
from tests.unplugged.document import HEADING, section
from tests.unplugged.elsewhere import ALONE, HOMES
from tests.unplugged.mechanism import Promise
from tests.unplugged.mechanisms import MECHANISMS
from tests.unplugged.run import Outcome, main, outcomes, problems

QUICK = [name for name, mechanism in MECHANISMS.items() if not mechanism.heavy]


@pytest.mark.timeout(300)
def test_without_its_mechanism_each_test_is_red() -> None:
    """Green with it is what the other tests show in the same run."""
    found = outcomes(QUICK, only_red=True)
    assert list(problems(QUICK, found, only_red=True)) == []


def test_each_line_of_the_promise_table_has_a_mechanism() -> None:
    """The lines are README's own; what is promised elsewhere comes after them."""
    table = (ROOT / "README.md").read_text().partition("## The promise")[2]
    lines = [
        line.split(" | ")[0].removeprefix("| ")
        for line in table.partition("\nHow sure")[0].splitlines()
        if line.startswith("| ")
    ]
    assert lines[0] == "whatever happens"
    assert [str(promise) for promise in Promise][: len(lines) - 1] == lines[1:]
    assert {mechanism.promise for mechanism in MECHANISMS.values()} == set(Promise)


@pytest.mark.parametrize("table", HOMES)
def test_what_is_shown_elsewhere_is_there(table: str) -> None:
    """Every ablation there is listed here, with the test that goes through them."""
    module, _, name = table.rpartition(".")
    home = HOMES[table]
    assert set(home.serves) == set(getattr(import_module(module), name))
    assert f"def {home.test}(" in (ROOT / home.file).read_text()


def test_single_tests_that_are_named_are_there() -> None:
    for file, test, _ in ALONE.values():
        assert f"def {test}(" in (ROOT / file).read_text()


def test_the_documentation_has_the_table() -> None:
    """Else: ``python -m tests.unplugged --document``."""
    text = (ROOT / "docs/reliability.md").read_text()
    documented = text[text.index(HEADING) :]
    end = documented.find("\n## ")
    assert (documented if end < 0 else documented[:end]).strip() == section().strip()


def test_a_test_that_stays_green_or_was_not_run_is_told() -> None:
    name, mechanism = next(iter(MECHANISMS.items()))
    [test] = mechanism.tests
    on, off = Outcome("", test, "passed", ""), Outcome(name, test, "failed", "no")
    assert list(problems([name], [on, off])) == []
    [green] = problems([name], [on, off._replace(outcome="passed")])
    assert "is not red" in green
    [broken] = problems([name], [on, off._replace(outcome="broken", why="typo")])
    assert "broken typo" in broken
    assert len(list(problems([name], []))) == 2


def test_the_command_prints_what_it_has_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--only", "only debts are deleted"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 of 1 red     only debts are deleted: ")
    assert out.endswith("green with it, red without it\n")


def test_pytest_itself_runs_without_a_mechanism() -> None:
    """As for any test that somebody wants to see red."""
    name, [test] = (
        "the mark before the delete",
        MECHANISMS["the mark before the delete"].tests,
    )
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "tests.unplugged.plugin", "--unplug", name, test),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "1 failed" in ran.stdout
