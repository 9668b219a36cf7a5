"""``doctor --connectors`` by the code that is to be deployed, on yesterday's rows."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.project import ROOT
from tests.crash.audit import Audit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli

# A command's event loop is its own: nobody else waits for it.
pytestmark = pytest.mark.may_block

SOURCE = (ROOT / "tests/cli/quick.py").read_text()
FIELD = "    mode: str\n"
NEWER = "    schema_version = 2\n    mode: str\n    place: str\n"
UPCAST = f"""{NEWER}
    @classmethod
    def upcast(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        return data | {{"place": "eu"}} if from_version == 1 else data
"""


@pytest.fixture
def rows(cli: Cli) -> dict[str, str]:
    """Yesterday's code has left these: two that run, one that waits, one that ended."""
    assert cli.run("ended").code == 0
    found = {name: cli.going_on("never", task) for name, task in TASKS.items()}
    found["waits"] = cli.accepted("waits")
    found["ended"] = cli("ls", "--phase", "SUCCEEDED", "--json").json[0]["id"]
    return found


TASKS = {"quick": "task", "deleting": "deleting"}


def asked(cli: Cli, source: str) -> list[dict[str, Any]]:
    """Let new code ask, in a process of its own; it changes nothing of the rows."""
    module = cli.folder / "new_code.py"
    module.write_text(source)
    before, held = Audit(cli.database).snapshot(), timers(cli.database)
    command = ["doctor", "--connectors", str(module), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *command],
        cwd=cli.folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # nobody is at work
    assert Audit(cli.database).snapshot() == before
    assert timers(cli.database) == held
    problems: list[dict[str, Any]] = json.loads(done.stdout)["problems"]
    return [p for p in problems if p["kind"] in ("unreadable", "no connector")]


def timers(path: Path) -> list[Any]:
    """Return when each row is looked at next, and by whom."""
    return Audit(path)._rows("SELECT * FROM timer ORDER BY 1")


def test_the_code_of_yesterday_has_nothing_to_say(
    cli: Cli, rows: dict[str, str]
) -> None:
    assert len(rows) == 4
    assert asked(cli, SOURCE) == []


def test_an_older_layout_is_named_row_by_row_unless_it_is_upcast(
    cli: Cli, rows: dict[str, str]
) -> None:
    """What has no meta yet, or has ended, needs none."""
    found = asked(cli, SOURCE.replace(FIELD, NEWER))
    assert {p["execution_id"] for p in found} == {rows["quick"], rows["deleting"]}
    assert all(p["kind"] == "unreadable" for p in found)
    assert all("place" in p["text"] and "upcast" in p["advice"] for p in found)
    assert asked(cli, SOURCE.replace(FIELD, UPCAST)) == []


def test_a_layout_of_a_newer_version_is_named_before_a_step_back(
    cli: Cli, rows: dict[str, str]
) -> None:
    """A rollback is a deploy as well."""
    with_version = "    schema_version = 2\n    mode: str\n"
    path = cli.folder / "newer.py"
    path.write_text(SOURCE.replace(FIELD, with_version))
    code = f"from orchestrator.cli import main; main(['run', '{path}:task', "
    code += (
        "'--input', 'mode=never', '--timeout', '2', '--database', 'orchestrator.db'])"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=cli.folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    [newest] = cli("ls", "--limit", "1", "--json").json
    assert newest["id"] not in rows.values()
    [found] = asked(cli, SOURCE)
    assert (found["kind"], found["execution_id"]) == ("unreadable", newest["id"])
    assert "run the newer code" in found["text"]


def test_what_the_new_code_cannot_decode_is_named_with_the_reason(
    cli: Cli, rows: dict[str, str]
) -> None:
    found = asked(cli, SOURCE.replace(FIELD, "    mode: int\n"))
    assert {p["execution_id"] for p in found} == {rows["quick"], rows["deleting"]}
    assert all("mode" in p["text"] for p in found)


def test_connectors_that_are_not_loaded_are_named_with_all_their_live_rows(
    cli: Cli, rows: dict[str, str]
) -> None:
    """Also those that wait and have no meta yet."""
    without = SOURCE.replace("ConnectorRegistry.register(QuickConnector())\n", "")
    [quick] = asked(cli, without)
    assert quick["kind"] == "no connector"
    assert set(quick["executions"]) == {rows["quick"], rows["waits"]}
    assert all(one in quick["text"] for one in quick["executions"])
    both = asked(cli, "")
    named = {one for problem in both for one in problem["executions"]}
    assert named == {rows["quick"], rows["waits"], rows["deleting"]}
