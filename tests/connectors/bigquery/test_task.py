"""BigQueryTask: what is stored of it, and what is refused when it is declared."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import bigquery
from google.protobuf import json_format

from orchestrator._extras import how_to_install
from orchestrator._tasks import to_template
from orchestrator.connectors.bigquery import (
    BigQueryConfig,
    BigQueryConnector,
    BigQueryTask,
)
from orchestrator.errors import ConfigurationError
from orchestrator.io import DataFrame
from tests.connectors.bigquery.kit import LOCATION, PROJECT, task


def test_the_template_holds_all_that_a_replay_needs() -> None:
    """Project, location, configuration and types; of the secret only its name."""
    config = bigquery.QueryJobConfig(labels={"a": "b"}, priority="BATCH")
    made = task(
        "SELECT  @n -- a comment\n",
        {"n": int},
        job=config,
        google_application_credentials="BIGQUERY_KEY",
    )
    template = to_template(made)
    assert template.type == "bigquery_query_job_task"
    assert template.sql.statement == "SELECT  @n -- a comment\n"
    assert json_format.MessageToDict(template.custom) == {
        "ProjectID": PROJECT,
        "Location": LOCATION,
        "JobConfig": {"labels": {"a": "b"}},
        "QueryParameterTypes": {"n": "INT64"},
        "priority": "BATCH",
        "secrets": {"google_application_credentials": "BIGQUERY_KEY"},
    }
    assert [e.key for e in template.interface.outputs.variables] == ["results"]


def test_flytes_own_config_does_as_well() -> None:
    """It has the same fields."""
    config: Any = SimpleNamespace(ProjectID="p", Location="US", QueryJobConfig=None)
    made = BigQueryTask("t", "SELECT 1", config)
    assert made.job_config.location == "US"
    assert made.interface.outputs == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"location": None}, "Location must be named"),
        ({"location": ""}, "Location must be named"),
        ({"query": "  "}, "query_template is empty"),
        ({"query": "SELECT {{ .inputs.n }}"}, "write @name"),
        ({"job": {"dryRun": True, "query": {}}}, "dryRun"),
        ({"job": {"query": "SELECT 1"}}, "task's to say it"),
        ({"job": {"query": {"query": "SELECT 1"}}}, "task's to say it"),
        ({"job": {"ProjectID": "x"}}, "task's to say it"),
        ({"job": {"load": {"a": 1}, "query": {}}}, "not that of a query"),
        ({"job": 5}, "must be a QueryJobConfig"),
        ({"job": {"labels": {"Big": "x"}, "query": {}}}, "label 'Big'"),
        ({"job": {"labels": {"a": 5}, "query": {}}}, "label 'a': 5"),
        ({"job": {"labels": {"orchestrator-token": "x"}, "query": {}}}, "label"),
        ({"inputs": {"n": int}, "job": {"useLegacySql": True}}, "legacy SQL"),
        ({"inputs": {"n": int}, "job": {"parameterMode": "POSITIONAL"}}, "POSITIONAL"),
        ({"inputs": {"n": int}, "job": {"queryParameters": [{"name": "N"}]}}, "twice"),
        ({"inputs": {"n": int, "N": int}}, "twice"),
        ({"parameter_types": {"x": "INT64"}}, "no inputs"),
        ({"inputs": {"n": int}, "parameter_types": {"n": "NUMBER"}}, "is none of"),
        ({"output_dataframe_type": dict}, "orchestrator.io.DataFrame"),
    ],
)
def test_what_could_not_be_run_is_refused_when_it_is_declared(
    changes: dict[str, Any], problem: str
) -> None:
    """Each with its reason."""
    with pytest.raises(ConfigurationError, match=problem):
        task(**changes)


def test_project_is_required() -> None:
    """It is never taken from the environment of whoever runs the job."""
    with pytest.raises(ConfigurationError, match="ProjectID must be named"):
        BigQueryTask("t", "SELECT 1", BigQueryConfig("", "US"))


def test_without_googles_client_it_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the command that installs it; not in the middle of a job."""
    advice = how_to_install("bigquery")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for make in (task, BigQueryConnector):
        with pytest.raises(ConfigurationError, match=re.escape(advice)):
            make()


def test_importing_and_declaring_loads_none_of_googles_client() -> None:
    """It is loaded by the first call, in a thread."""
    program = """
import sys
from orchestrator.connectors.bigquery import *
from orchestrator.io import DataFrame
config = BigQueryConfig("p", "US")
BigQueryTask("t", "SELECT 1", config, output_dataframe_type=DataFrame)
BigQueryConnector(endpoint="http://127.0.0.1:1")
assert "google.cloud.bigquery" not in sys.modules
assert "google.auth" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_reference_type_is_the_librarys() -> None:
    """The output is declared as a DataFrame."""
    assert task().interface.outputs == {"results": DataFrame}
