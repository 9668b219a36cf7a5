"""DatabricksTask: what is stored of it, and what is refused when it is declared."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flyteidl2.core.tasks_pb2 import TaskTemplate
from google.protobuf import json_format

from orchestrator._extras import how_to_install
from orchestrator._ids import create_token
from orchestrator._tasks import to_template
from orchestrator.connectors.databricks import DatabricksConnector, DatabricksTask
from orchestrator.connectors.databricks._body import Plan, RunConfig
from orchestrator.errors import ConfigurationError
from tests.connectors.databricks.kit import notebook, program, task

TOKEN = create_token("1" * 32, 1)
KEY: dict[str, Any] = {"databricks_token": "DATABRICKS_KEY"}
TASKS = [{"task_key": "a", "notebook_task": {"notebook_path": "/n"}}]


def test_the_template_holds_all_that_a_replay_needs() -> None:
    """Body and workspace; of the secrets only their names."""
    made = task(
        {**program("{{.inputs.n}}"), "timeout_seconds": 5},
        {"n": int},
        {"result": str},
        databricks_instance="myorg.example",
        **KEY,
    )
    template = to_template(made)
    assert template.type == "databricks"
    custom = json_format.MessageToDict(template.custom)
    assert custom["databricksInstance"] == "https://myorg.example"
    assert custom["secrets"] == {"databricks_token": "DATABRICKS_KEY"}
    assert custom["databricksConf"]["timeout_seconds"] == 5
    config = RunConfig.from_template(template)
    assert config.body == made.run_config.body
    assert isinstance(config.body["tasks"][0]["new_cluster"]["num_workers"], int)
    assert config.outputs == ("result",)


def test_flytes_own_config_does_as_well() -> None:
    """It has the same first fields."""
    config: Any = SimpleNamespace(
        databricks_conf=notebook(), databricks_instance=None, databricks_token=None
    )
    assert DatabricksTask("t", config).run_config.host == ""


def test_a_template_of_flytes_own_task_runs_its_container() -> None:
    """As Flyte's connector does: its program unpacks the arguments."""
    template = TaskTemplate(type="databricks")
    template.id.name = "flytes"
    template.container.image = "image:1"
    template.container.args.extend(["pyflyte-execute", "--inputs", "x"])
    template.container.env.add(key="A", value="B")
    cluster: Any = {"num_workers": 1, "spark_env_vars": {"C": "D"}}
    custom: Any = template.custom
    custom.update(
        {
            "databricksConf": {"new_cluster": cluster},
            "databricksInstance": "myorg.example",
            "sparkConf": {"spark.x": "y"},
        }
    )
    body = Plan.of(template, {}, None, TOKEN).body
    (main,) = body["tasks"]
    assert main["spark_python_task"]["parameters"] == [
        "pyflyte-execute",
        "--inputs",
        "x",
    ]
    assert main["new_cluster"] == {
        "docker_image": {"url": "image:1"},
        "spark_conf": {"spark.x": "y"},
        "num_workers": 1,
        "spark_env_vars": {"A": "B", "C": "D"},
    }
    assert body["git_source"]["git_provider"] == "gitHub"
    assert body["run_name"] == f"flytes [{TOKEN}]"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"body": []}, "must be a mapping"),
        ({"body": {}}, "neither a task"),
        ({"body": {"tasks": []}}, "neither a task"),
        ({"body": {"tasks": [{"notebook_task": {}}]}}, "task_key each"),
        ({"body": {"tasks": TASKS * 2}}, "task_key each"),
        ({"body": {"tasks": ["a"]}}, "task_key each"),
        ({"body": {**notebook(), "idempotency_token": "x"}}, "idempotency_token"),
        ({"body": {**notebook(), "job_id": 5}}, "both a job_id and a task"),
        ({"body": {"job_id": "{{.inputs.x}}"}}, "no number of a job"),
        ({"body": {"job_id": True}}, "no number of a job"),
        ({"body": {**notebook(), "x": {"y": [2**60]}}}, r"\['y'\]\[0\].*write a str"),
        ({"inputs": {"n": int}}, "'n' stands nowhere"),
        ({"body": notebook(x="{{.inputs.x}}")}, r"mentions \['x'\]"),
        ({"outputs": {"at": date}}, "cannot be date"),
        ({"outputs": {"for_s": timedelta}}, "cannot be timedelta"),
        ({"databricks_instance": "http://myorg.example"}, "plain http"),
        ({"token_parameter": "t"}, "existing job"),
        (
            {"body": {"job_id": 5, "jar_params": ["x"]}, "token_parameter": "t"},
            "along with jar_params",
        ),
        ({"body": {"tasks": TASKS}, "output_task": "b"}, "none of"),
    ],
)
def test_what_could_not_be_run_is_refused_when_it_is_declared(
    changes: dict[str, Any], problem: str
) -> None:
    """Each with its reason."""
    with pytest.raises(ConfigurationError, match=problem):
        task(**changes)


def test_a_job_with_a_large_number_is_named_exactly() -> None:
    """A template's numbers are floats: such a one is written as a text."""
    made = task({"job_id": "9223372036854775807"})
    assert Plan.of(to_template(made), {}, None, TOKEN).body["job_id"] == 2**63 - 1


def test_environment_variables_belong_to_a_cluster() -> None:
    """They would be lost without a word."""
    with pytest.raises(ConfigurationError, match="spark_env_vars"):
        DatabricksTask("t", task().plugin_config, env_vars={"A": "B"})


@pytest.mark.parametrize("name", ["timeout", "remembers"])
def test_times_are_positive(name: str) -> None:
    """A connector says so when it is made."""
    with pytest.raises(ConfigurationError, match=name):
        DatabricksConnector(host="a.example", **{name: timedelta(0)})  # type: ignore[arg-type]


def test_without_the_sdk_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it; not in the middle of a job."""
    advice = how_to_install("databricks")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for make in (task, DatabricksConnector):
        with pytest.raises(ConfigurationError, match=re.escape(advice)):
            make()


def test_importing_and_declaring_loads_none_of_the_sdk() -> None:
    """It is loaded by the first call, in a thread."""
    program_text = """
import sys
from orchestrator.connectors.databricks import *
DatabricksTask("t", Databricks({"job_id": 5}))
DatabricksConnector(host="http://127.0.0.1:1")
assert "databricks.sdk" not in sys.modules
assert "requests" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program_text], check=True)
