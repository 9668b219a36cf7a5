"""``connectors check`` and ``schema``, and definitions as tasks and connectors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.cli._parser import command_names
from orchestrator.testing import JobServer, JobSpec
from tests.connectors.http.api import batches, job_server, merged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli

URL = "https://batch.example"

pytestmark = pytest.mark.may_block  # a command has its loop for itself


def written(folder: Path, definition: dict[str, Any], name: str = "a.yaml") -> str:
    """Write a definition; JSON is YAML."""
    path = folder / name
    path.write_text(json.dumps(definition))
    return str(path)


def test_check_says_what_a_definition_promises(cli: Cli, tmp_path: Path) -> None:
    """Without asking the service."""
    said = cli("connectors", "check", written(tmp_path, batches(URL)))
    assert said.code == 0
    assert said.out.endswith(
        "a.yaml: fine: task type batches, class I for 1 day, 5 states, at"
        " batch.example\n"
    )


@pytest.mark.parametrize(
    ("then", "cost"),
    [
        ("fail", "a crash in create ends as CREATE_OUTCOME_UNKNOWN"),
        ("hold", "a crash in create is held until somebody resolves it"),
        ("create", "a crash in create may make a second job"),
    ],
)
def test_check_says_what_class_n_costs(
    cli: Cli, tmp_path: Path, then: str, cost: str
) -> None:
    """Of a service that neither remembers a token nor searches for one."""
    neither = {"submit": {"idempotency": None}, "find": None, "on_unknown_create": then}
    file = written(tmp_path, merged(batches(URL), neither))
    assert f"class N ({cost}), 5 states" in cli("connectors", "check", file).out


def test_check_tells_every_problem_with_its_field(cli: Cli, tmp_path: Path) -> None:
    """One line each; exit code 2."""
    broken = merged(batches(URL), {"sbmit": 1, "status": {"state": "a["}})
    said = cli("connectors", "check", written(tmp_path, broken))
    assert (said.code, said.out) == (2, "")
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert "a.yaml: status.state: " in lines[0]
    assert "a.yaml: sbmit: there is no such field" in lines[1]


def test_check_speaks_json(cli: Cli, tmp_path: Path) -> None:
    """Of several files."""
    good, bad = written(tmp_path, batches(URL)), written(tmp_path, {}, "b.yaml")
    said = cli("connectors", "check", good, bad, "nowhere.toml", "--json")
    assert said.code == 2
    fine, broken, missing = said.json
    assert (fine["file"], fine["problems"]) == (good, [])
    assert f"{bad}: task_type: is missing" in broken["problems"]
    assert "nowhere.toml: No such file" in missing["problems"][0]


def test_schema_is_json_schema(cli: Cli) -> None:
    """For editors."""
    said = cli("connectors", "schema")
    assert said.code == 0
    assert said.json["properties"]["submit"]


def test_a_definition_is_run_without_code(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a task, also if it is named as a connector beside that."""
    monkeypatch.setenv("JOBS_TOKEN", "a-secret-token")
    with JobServer(JobSpec()) as server:
        file = written(tmp_path, job_server(server.url, "I"), "nightly.yaml")
        said = cli("run", file, "-i", "forever=false", "--connectors", file)
        assert said.code == 0, said.err
        assert said.json["token"] in {job.token for job in server.jobs()}
    (execution,) = cli("ls", "--json").json
    assert execution["name"] == "nightly"


def test_two_definitions_of_one_task_type_are_refused(cli: Cli, tmp_path: Path) -> None:
    """Which of them is meant is not ours to guess."""
    one = written(tmp_path, batches(URL))
    two = written(tmp_path, batches("https://other.example"), "b.yaml")
    said = cli("run", one, "-i", "query=x", "--connectors", two)
    assert (said.code, "Duplicate connector" in said.err) == (2, True)
    said = cli("run", "broken.yaml")
    assert (said.code, "task: broken.yaml: " in said.err) == (2, True)


def test_each_command_is_there_once() -> None:
    """Two branches that add one, merged: it was there twice, then not at all."""
    names = list(command_names())
    assert len(names) == len(set(names))
    assert {"connectors check", "connectors schema", "connectors serve"} < set(names)
