"""``doctor --audit``: every invariant asked of the whole database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from orchestrator._registry import DEFAULT_REGISTRY
from tests.api.project import ROOT

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

# A command's event loop is its own: nobody else waits for it.
pytestmark = pytest.mark.may_block

BUSY = """
import asyncio, sys
from orchestrator import Orchestrator
from tests.cli.quick import task

async def main():
    async with Orchestrator('orchestrator.db') as orch:
        stop = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        while not stop.done():
            inputs = [(task, {'mode': mode}) for mode in ('x', 'fail', 'y')]
            for handle in await orch.submit_many(inputs):
                await handle.wait()
            print('ended', flush=True)

asyncio.run(main())
"""
"""A process that writes all the time, until its standard input is closed."""


def _tamper(cli: Cli, statement: str, *bound: str) -> None:
    with closing(sqlite3.connect(cli.database)) as db, db:
        db.execute("DROP TRIGGER IF EXISTS history_no_update")
        assert db.execute(statement, bound).rowcount == 1


def test_a_database_in_order_has_every_invariant_checked(cli: Cli) -> None:
    """Exit code 0; equal handles of two executions are one job, and no finding."""
    for _ in range(2):
        assert cli.run("x").code == 0
    cli.run("fail")
    DEFAULT_REGISTRY._registry.clear()  # no connector is needed
    said = cli("doctor", "--audit")
    assert said.code == 0, said.out
    assert "invariants: 18 checked, 0 broken" in said.out
    report = cli("doctor", "--audit", "--json").json
    assert report["ok"] is True
    names = [each["name"] for each in report["audit"]]
    assert names[:13] == [f"Q{n}" for n in range(1, 14)]
    assert all(each["says"] for each in report["audit"])
    assert {each["broken"] for each in report["audit"]} == {0}
    assert "ask the services" in next(e["elsewhere"] for e in report["audit"][5:])


def test_without_the_option_nothing_is_audited(cli: Cli) -> None:
    """It reads the whole database: only who asks pays for that."""
    cli.run("x")
    _tamper(cli, "UPDATE history SET cause = 'ADOPTED' WHERE version = 2")
    said = cli("doctor", "--json")
    assert (said.code, said.json["audit"]) == (0, None)
    assert "invariants" not in cli("doctor").out


def test_what_is_broken_is_named_with_its_rows(cli: Cli) -> None:
    """Exit code 1, one problem for each invariant, its rows as they are in JSON."""
    cli.run("x")
    hostile = "evil\x1b[31m\x1b]0;title\x07"
    _tamper(cli, "UPDATE history SET cause = ? WHERE version = 2", hostile)
    _tamper(cli, "UPDATE history SET epoch = 9 WHERE version = 3")
    said = cli("doctor", "--audit", "--json")
    assert said.code == 1
    (execution,) = cli("ls", "--json").json
    broken = [p for p in said.json["problems"] if p["kind"] == "broken"]
    assert [p["text"].partition(":")[0] for p in broken] == ["Q4", "Q5", "Q6"]
    assert {p["execution_id"] for p in broken} == {execution["id"]}
    found = {e["name"]: e for e in said.json["audit"] if e["broken"]}
    assert set(found) == {"Q4", "Q5", "Q6"}
    assert found["Q4"]["rows"] == [
        {
            "execution_id": execution["id"],
            "version": 2,
            "from_phase": "QUEUED",
            "cause": hostile,
            "to_phase": "CREATING",
        }
    ]
    said = cli("doctor", "--audit")
    assert said.code == 1
    assert "invariants: 18 checked, 3 broken" in said.out
    assert "broken Q5: 1 row\n" in said.out
    assert "before=9" in said.out
    assert "\x1b" not in said.out


def test_rows_that_are_left_out_are_counted(cli: Cli) -> None:
    """A broken database does not fill the screen."""
    cli.accepted("x")
    rows = ", ".join(f"('ghost-{n}', 'QUEUED', 1)" for n in range(25))
    with closing(sqlite3.connect(cli.database)) as db, db:
        db.execute(f"INSERT INTO counter VALUES {rows}")  # noqa: S608 - made above
    said = cli("doctor", "--audit")
    assert "broken counter: 25 rows, 5 of them not shown" in said.out
    report = cli("doctor", "--audit", "--json").json
    [found] = [e for e in report["audit"] if e["broken"]]
    assert (found["broken"], len(found["rows"])) == (25, 20)
    [problem] = [p for p in report["problems"] if p["kind"] == "broken"]
    assert problem["execution_id"] is None


def test_a_database_that_others_write_is_audited_as_of_one_moment(cli: Cli) -> None:
    """A real process commits before, during and after; no half of a step is seen."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY],
        cwd=cli.folder,
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        executions = 0
        for _ in range(5):
            assert process.stdout.readline() == "ended\n"
            report = cli("doctor", "--audit", "--json").json
            assert [e for e in report["audit"] if e["broken"]] == []
            executions = sum(report["executions"].values())
        process.communicate("")
    assert process.returncode == 0
    assert executions >= 5 * 3, "it did write meanwhile"
