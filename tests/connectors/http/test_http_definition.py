"""Definitions from files, what is wrong with them in words, and their schema."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._connector import implements
from orchestrator._extras import how_to_install
from orchestrator.connectors.http import HttpConnector, HttpDefinition, HttpTask
from orchestrator.errors import ConfigurationError
from tests.api.project import ROOT
from tests.connectors.http.api import batches, merged

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://batch.example"

YAML = """
task_type: tiny
base_url: https://batch.example/api
inputs: {rows: {type: int, default: 3}}
submit: {path: /jobs, json: {rows: "{{.inputs.rows}}"}, job_id: id}
status:
  path: /jobs/{{.job_id}}
  state: state
  phases: {ON: RUNNING, NO: FAILED, 12:30: QUEUED, true: SUCCEEDED, 0: QUEUED}
tls: {ca_file: ca.pem}
"""

TOML = """
task_type = "tiny"
base_url = "https://batch.example/api"
[submit]
path = "/jobs"
job_id = "id"
[submit.idempotency]
header = "Idempotency-Key"
remembered = "24h"
[status]
path = "/jobs/{{.job_id}}"
state = "state"
phases = { DONE = "SUCCEEDED" }
"""


def test_a_yaml_file_means_what_it_says(tmp_path: Path) -> None:
    """States called ON and NO are no booleans; the CA file is found beside it."""
    path = tmp_path / "tiny.yaml"
    path.write_text(YAML)
    task = HttpTask("tiny", path)
    assert task.definition.status.phases == {
        "ON": "RUNNING",
        "NO": "FAILED",
        "12:30": "QUEUED",
        "true": "SUCCEEDED",
        "0": "QUEUED",
    }
    assert task.definition.tls.ca_file == tmp_path / "ca.pem"
    assert task.interface.inputs == {"rows": (int, 3)}


def test_a_toml_file_does_as_well(tmp_path: Path) -> None:
    """The promise is that of the definition."""
    path = tmp_path / "tiny.toml"
    path.write_text(TOML)
    connector = HttpConnector.load(path)
    assert connector.task_type_name == "tiny"
    assert connector.create_is_idempotent == timedelta(hours=24)
    assert not implements(connector, "find")


def test_the_promise_is_what_the_definition_declares() -> None:
    """Nothing is claimed that no request can keep."""
    plain = merged(batches(URL), {"find": None, "submit": {"idempotency": None}})
    neither = HttpConnector(plain)
    assert (neither.create_is_idempotent, implements(neither, "find")) == (False, False)
    listed = HttpConnector(batches(URL, submit={"idempotency": None}))
    assert (listed.create_is_idempotent, implements(listed, "find")) == (False, True)
    forever = {"submit": {"idempotency": {"remembered": "forever"}}}
    assert HttpConnector(batches(URL, **forever)).create_is_idempotent is True


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"submit": None}, "submit: is missing"),
        ({"sbmit": {}}, "sbmit: there is no such field"),
        ({"status": {"phases": {"X": "DONE"}}}, "status.phases.X: Input should be"),
        ({"status": {"phases": {"OK": "FAILED"}}}, "status.phases: no state is SUCC"),
        ({"status": {"state": "a["}}, "status.state: 'a[' is no JMESPath expression"),
        ({"submit": {"path": "jobs"}}, "submit.path: must begin with one /"),
        ({"submit": {"path": "//evil/x"}}, "submit.path: must begin with one /"),
        ({"submit": {"path": "/a/../b"}}, "submit.path: holds the segment '..'"),
        ({"submit": {"path": "/a?b=c"}}, "submit.path: holds ? or #"),
        ({"submit": {"form": {"a": "{{.inputs.no}}"}}}, "submit: there is no input"),
        ({"submit": {"form": {"a": "{{.job_id}}"}}}, "submit.form: {{.job_id}} is unk"),
        ({"submit": {"form": {"a": "{{inputs}}"}}}, "submit.form: '{{inputs}}': two"),
        ({"submit": {"json": {"a": 1}}}, "submit: json and form exclude each other"),
        ({"submit": {"job_id": None}}, "submit.job_id: say where"),
        ({"submit": {"job_id": "header:a b"}}, "submit.job_id: 'a b' is no name of a"),
        ({"submit": {"headers": {"Authorization": "x"}}}, "is not for definitions"),
        ({"submit": {"headers": {"Host": "x"}}}, "is not for definitions"),
        ({"submit": {"idempotency": {"header": None}}}, "submit.idempotency: name the"),
        ({"submit": {"idempotency": {"remembered": "0s"}}}, "longer than nothing"),
        ({"submit": {"not_created": [200]}}, "submit.not_created.0: Input should be"),
        ({"submit": {"form": {"a": "{{.execution.x}}"}}}, "there is .execution.id"),
        ({"find": {"query": None}}, "find: the request must name the {{.token}}"),
        ({"find": {"job_id": None}}, "find.job_id: is missing"),
        ({"find": {"status_url": "a"}}, "find.status_url: find and submit must both"),
        ({"status": {"path": None}}, "status.path: is missing"),
        ({"cancel": {"path": None}}, "cancel.path: is missing"),
        ({"limits": {"connect": "10 parsecs"}}, "limits.connect: '10 parsecs' is no"),
        ({"inputs": {"a": "text"}}, "inputs.a.type: Input should be 'str'"),
        ({"inputs": {"a": "file"}}, "inputs.a: type 'file' is for outputs"),
        (
            {"inputs": {"a": {"type": "int", "default": "x"}}},
            "inputs.a: default is no int",
        ),
        ({"allowed_hosts": ["https://x"]}, "'https://x' must be host or host:port"),
        ({"auth": {"type": "magic"}}, "auth: Input tag 'magic'"),
        ({"log_links": [{"name": "x"}]}, "log_links.0: needs either url or path"),
        ({"log_links": [{"url": "https://x/{{.inputs.a}}"}]}, "log_links.0: url: "),
        ({"version": 2}, "version: Input should be 1"),
        (
            {"policy": {"poll_delay_min": "9s", "poll_delay_max": "1s"}},
            "policy.poll_delay_max: is below",
        ),
        ({"tls": {"ca_file": "/nowhere/ca.pem"}}, "tls.ca_file: /nowhere/ca.pem: No"),
    ],
)
def test_a_mistake_is_told_with_its_field(change: dict[str, Any], problem: str) -> None:
    """In the words of the file."""
    with pytest.raises(ConfigurationError) as caught:
        HttpConnector(merged(batches(URL), change))
    assert problem in str(caught.value)


def test_mistakes_between_fields_are_told_all_at_once() -> None:
    """Those of all rules, and several of one rule, each in a line with its field."""
    change = {
        "base_url": "http://batch.example",
        "submit": {"form": {"a": "{{.inputs.no}}", "b": "{{.execution.x}}"}},
        "find": {"job_id": None, "query": None},
        "policy": {"poll_delay_min": "9s", "poll_delay_max": "1s"},
    }
    with pytest.raises(ConfigurationError) as caught:
        HttpConnector(merged(batches(URL), change))
    lines = str(caught.value).split("\n")
    assert [line.split(": ")[:2] for line in lines] == [
        ["definition", field]
        for field in (
            *("base_url", "submit", "submit", "find", "find.job_id"),
            "policy.poll_delay_max",
        )
    ]
    two = {
        "submit": {"form": {"a": "{{.job_id}} {{.x}}"}},
        "allowed_hosts": ["/", "/a"],
    }
    with pytest.raises(ConfigurationError) as caught:
        HttpConnector(merged(batches(URL), two))
    assert str(caught.value).count("submit.form: {{.") == 2
    assert str(caught.value).count("allowed_hosts: '/") == 2


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.yaml", "a: [", "flow node"),
        ("a.yaml", "- a", "must be a mapping"),
        ("a.yaml", "a: 1\na: 2", "the key 'a' comes twice"),
        ("a.yaml", "a: !!python/object/apply:os.system ['true']", "constructor"),
        ("a.toml", "a = ", "Invalid value"),
        ("a.yaml", "\udcff", "decode"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    """One line each."""
    path = tmp_path / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match=problem) as caught:
        HttpConnector.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_schema_that_is_shipped_is_the_models() -> None:
    """``orchestrator connectors schema`` makes it again."""
    shipped = (ROOT / "docs/connectors/http.schema.json").read_text()
    assert json.loads(shipped) == HttpDefinition.model_json_schema()


def test_the_documented_definition_is_one_and_names_every_field(
    tmp_path: Path,
) -> None:
    """The annotated one in the document; fields are the model's."""
    text = (ROOT / "docs/connectors/http.md").read_text()
    block = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    path = tmp_path / "annotated.yaml"
    path.write_text(block)
    raw = HttpConnector.load(path).definition.model_dump(
        by_alias=True, exclude_unset=True
    )
    assert set(HttpDefinition.model_fields) == set(raw)
    for part in ("submit", "status", "results", "cancel", "find", "limits", "policy"):
        schema = HttpDefinition.model_json_schema()["$defs"]
        name = {"status": "Look", "policy": "Polling"}.get(part, part.capitalize())
        fields = set(schema[name]["properties"])
        assert all(re.search(rf"\b{field}\b", block) for field in fields), part


def test_importing_imports_no_client() -> None:
    """The extra is needed by whoever makes a connector, and by nobody else."""
    code = (
        "import sys, orchestrator.connectors.http;"
        "print(*{'httpx', 'jmespath', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("library", ["httpx", "jmespath"])
def test_a_missing_library_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """With the command that mends it."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=re.escape(how_to_install("http"))):
        HttpConnector(batches(URL))


def test_timeouts_of_the_engine_are_longer_than_the_clients() -> None:
    """So that it is the client that says what happened."""
    limits = {"connect": "30s", "answer": "2m", "submit_answer": "20m"}
    policy = HttpConnector(batches(URL, limits=limits)).policy
    assert policy is not None
    assert policy.get_timeout == timedelta(seconds=155)
    assert policy.create_timeout == timedelta(seconds=1235)
    assert policy.create_hard_timeout >= policy.create_timeout
