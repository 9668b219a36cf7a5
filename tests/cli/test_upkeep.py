"""``doctor``, ``db`` and ``phases``."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from orchestrator._machine import chart
from orchestrator._storage import HEAD
from tests.api.project import ROOT
from tests.cli.conftest import QUICK, TRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Cli

# A command's event loop is its own: nobody else waits for it.
pytestmark = pytest.mark.may_block


def kinds(report: dict[str, list[dict[str, str]]]) -> set[str]:
    """Return the kinds of problems of a report."""
    return {problem["kind"] for problem in report["problems"]}


def test_a_healthy_database_needs_nobody(cli: Cli) -> None:
    """Exit code 0."""
    cli.run("x")
    said = cli("doctor")
    assert said.code == 0
    assert "problems: 0" in said.out
    report = cli("doctor", "--json").json
    assert report["ok"] is True
    assert report["schema"] == HEAD
    assert report["executions"] == {"SUCCEEDED": 1}
    assert report["files"]["orchestrator.db"] > 0


def test_what_waits_for_a_person_is_named_with_what_to_do(cli: Cli) -> None:
    """A held row, and that nobody is at work."""
    execution_id = cli.going_on("unknown")
    said = cli("doctor", "--json")
    assert said.code == 1
    assert kinds(said.json) == {"held", "unattended"}
    (held,) = [p for p in said.json["problems"] if p["kind"] == "held"]
    assert held["execution_id"] == execution_id
    assert "OUTCOME_UNKNOWN" in held["text"]
    assert "orchestrator resolve" in held["advice"]
    shown = cli("doctor").out
    assert "problems: 2" in shown
    assert "\x1b" not in shown


def test_a_create_that_nobody_knows_of_counts_as_an_orphan_for_a_time(
    cli: Cli,
) -> None:
    """The service may have the job; ``--days`` says for how long it matters."""
    execution_id = cli.going_on("unknown")
    cli("resolve", execution_id, "--give-up")
    cli.until_phase(execution_id, "FAILED")
    said = cli("doctor", "--json")
    assert said.code == 1
    assert "orphan" in kinds(said.json)
    assert "orphan" not in kinds(cli("doctor", "--days", "0", "--json").json)
    assert cli("doctor", "--days", "-1").code == 2


def test_rows_that_are_late_are_named(cli: Cli) -> None:
    """Due for more than a minute, and nobody came."""
    execution_id = cli.accepted("x")
    with closing(sqlite3.connect(cli.database)) as connection, connection:
        connection.execute("UPDATE timer SET due_at = due_at - 120000000")
    problems = cli("doctor", "--json").json["problems"]
    (late,) = [p for p in problems if p["kind"] == "overdue"]
    assert late["execution_id"] == execution_id
    assert "s overdue" in late["text"]


def test_before_a_deploy_doctor_names_what_the_new_code_cannot_do(cli: Cli) -> None:
    """Connectors that are missing, and metas that they cannot read."""
    cli.going_on("never")
    module = cli.folder / "renamed.py"
    source = (ROOT / "tests/cli/quick.py").read_text()
    module.write_text(source.replace("    mode: str\n", "    mode: int\n"))
    assert "unreadable" not in kinds(cli("doctor", "--json").json)
    # In a process of its own: here the old code is loaded.
    for text, kind in (
        (source.replace("    mode: str\n", "    mode: int\n"), "unreadable"),
        ("", "no connector"),
    ):
        module.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", "doctor", "--connectors", module],
            cwd=cli.folder,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert kind in done.stdout
    assert cli("doctor", "--connectors", QUICK, "--json").code == 1


def test_a_node_that_died_is_seen_and_its_lock_stays(cli: Cli) -> None:
    """Looking must not take the lock file away from the next node's proof."""
    code = (
        "import asyncio, os, signal\n"
        "from orchestrator import Orchestrator\n"
        "async def main():\n"
        "    async with Orchestrator('orchestrator.db'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=cli.folder,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
    )
    for _ in range(2):
        (node,) = cli("doctor", "--json").json["nodes"]
        assert node["state"] == "dead"
    assert len(list(cli.folder.glob("*.lock"))) == 1
    assert "dead" in cli("doctor").out
    cli.run("x")
    assert cli("doctor", "--json").json["nodes"] == []


@contextmanager
def at_work(cli: Cli, **environ: str) -> Iterator[int]:
    """Let a process without any connector be at work, and yield its pid."""
    code = (
        "import asyncio, sys\n"
        "from orchestrator import Orchestrator\n"
        "async def main():\n"
        "    async with Orchestrator('orchestrator.db'):\n"
        "        print('open', flush=True)\n"
        "        await asyncio.to_thread(sys.stdin.read)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cli.folder,
        env={"PYTHONPATH": str(ROOT), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process.pid
        process.communicate("")
    assert process.returncode == 0


def test_a_node_at_work_is_seen_alive(cli: Cli) -> None:
    """Asking for its lock does not disturb it; wishes are said to be for it."""
    execution_id = cli.accepted("x")
    with at_work(cli) as pid:
        (node,) = cli("doctor", "--json").json["nodes"]
        assert (node["state"], node["pid"]) == ("alive", pid)
        assert node["lease_until"].endswith("Z")
        said = cli("abort", execution_id)
        assert said.out.endswith("will be aborted by the process that runs it\n")


def test_a_wish_for_what_no_node_has_a_connector_of_says_so(cli: Cli) -> None:
    """Somebody is at work, but not for this task type."""
    execution_id, said = cli.going_on("never"), None
    with at_work(cli, ORCHESTRATOR_MISSING_CONNECTOR_GRACE="0"):
        for _ in range(TRIES):
            said = cli("abort", execution_id)
            if "none at work has it" in said.out:
                return
    raise AssertionError(said)


def test_db_current_and_upgrade(cli: Cli) -> None:
    """Upgrading makes a database; asking never does."""
    assert cli("db", "current").code == 3
    cli.database.touch()
    said = cli("db", "current", "--json")
    assert said.code == 3
    assert (said.json["revision"], said.json["current"]) == (None, False)
    assert "db upgrade" in cli("db", "current").out
    assert cli("db", "upgrade").code == 0
    said = cli("db", "current", "--json")
    assert said.code == 0
    assert said.json == {
        "database": "orchestrator.db",
        "revision": HEAD,
        "expected": HEAD,
        "current": True,
    }
    assert cli("db", "upgrade", "--json").json["current"] is True


def test_a_newer_database_is_told_apart(cli: Cli) -> None:
    """Nobody but the newer version may touch it."""
    cli("db", "upgrade")
    with closing(sqlite3.connect(cli.database)) as connection, connection:
        connection.execute("UPDATE orchestrator_version SET version_num = '9999'")
    assert "install the newer version" in cli("db", "current").out
    for command in (["ls"], ["db", "upgrade"], ["doctor"]):
        said = cli(*command)
        assert said.code == 3
        assert "was written by a newer version" in said.err


def test_phases_prints_the_chart(cli: Cli) -> None:
    """The one that the engine obeys; no database is needed."""
    assert cli("phases").out == chart() + "\n"
    table = cli("phases", "--json").json
    assert {"from": "QUEUED", "cause": "CREATE_INTENT", "to": "CREATING"} in table[
        "transitions"
    ]
    assert {"from": None, "cause": "SUBMITTED", "to": "QUEUED"} in table["transitions"]
    assert "SUCCEEDED" in table["terminal"]
    assert list(cli.folder.iterdir()) == []
