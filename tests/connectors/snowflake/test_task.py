"""SnowflakeTask: what is stored of it, and what is refused when it is declared."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import json_format

from orchestrator._extras import how_to_install
from orchestrator._tasks import to_template
from orchestrator.connectors.snowflake import SnowflakeConnector, SnowflakeTask
from orchestrator.errors import ConfigurationError, PermanentError
from tests.connectors.snowflake.kit import attempt, config, task


def test_the_template_is_flytes_and_holds_of_secrets_only_their_names() -> None:
    """The text is stored as it is, unlike in Flyte's plugin."""
    made = task(
        "SELECT  %(n)s -- a comment\n, %(day)s",
        {"n": int, "day": date},
        place={"connection_kwargs": {"role": "R", "session_parameters": {"A": 1}}},
        secret_group="team",  # noqa: S106 - names
        snowflake_private_key="my-key",
        snowflake_private_key_passphrase="my-phrase",  # noqa: S106 - as above
    )
    template = to_template(made)
    assert template.type == "snowflake"
    assert template.sql.statement == "SELECT  %(n)s -- a comment\n, %(day)s"
    assert json_format.MessageToDict(template.custom) == {
        "account": "shop-main",
        "user": "RUNNER",
        "database": "SHOP",
        "schema": "PUBLIC",
        "warehouse": "SMALL",
        "connection_kwargs": {"role": "R", "session_parameters": {"A": 1.0}},
        "dates": ["day"],
        "secrets": {
            "snowflake_private_key": "TEAM_MY_KEY",
            "snowflake_private_key_passphrase": "TEAM_MY_PHRASE",
        },
    }


def test_flytes_own_config_does_as_well() -> None:
    """It has the same fields."""
    flytes: Any = SimpleNamespace(**vars(config()))
    made = SnowflakeTask("t", "SELECT 1", flytes)
    assert made.place.account == "shop-main"
    assert made.interface.outputs == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"place": {"account": ""}}, "account must be named"),
        ({"place": {"warehouse": None}}, "warehouse must be named"),
        ({"place": {"account": "evil.example/"}}, "no account identifier"),
        ({"place": {"account": "a@evil.example"}}, "no account identifier"),
        ({"place": {"connection_kwargs": {"password": "x"}}}, "would be stored"),
        ({"place": {"connection_kwargs": {"private_key": "x"}}}, "would be stored"),
        ({"place": {"connection_kwargs": {"host": "evil.example"}}}, "not a task's"),
        ({"place": {"connection_kwargs": {"proxy_host": "x"}}}, "not a task's"),
        ({"place": {"connection_kwargs": {"authenticator": "http://x"}}}, "none of"),
        (
            {"place": {"connection_kwargs": {"session_parameters": {"query_tag": ""}}}},
            "which are the connector's",
        ),
        ({"place": {"connection_kwargs": 5}}, "connection_kwargs is int"),
        ({"query": "  "}, "query_template is empty"),
        ({"query": "SELECT {{ .inputs.n }}"}, "write %"),
        ({"inputs": {"n": int}}, "the inputs are"),
        ({"query": "SELECT %(n)s LIKE '5%'", "inputs": {"n": int}}, "written %%"),
        ({"query": "SELECT %(n)s", "inputs": {"n": timedelta}}, "no parameter"),
        ({"query": "SELECT %(n)s", "inputs": {"n": dict}}, "no parameter"),
        ({"query": "SELECT %(n)s", "inputs": {"n": int}, "batch": True}, "one VALUES"),
        (
            {"query": "VALUES (%(n)s)", "inputs": {"n": int}, "batch": True},
            "no parameter",
        ),
        ({"output_dataframe_type": dict}, "orchestrator.io.DataFrame"),
    ],
)
def test_what_could_not_be_run_is_refused_when_it_is_declared(
    changes: dict[str, Any], problem: str
) -> None:
    """Each with its reason."""
    with pytest.raises(ConfigurationError, match=problem):
        task(**changes)


@pytest.mark.parametrize(
    ("query", "inputs", "values", "problem"),
    [
        ("SELECT %(x)s", {"x": float}, {"x": float("nan")}, "nan is no parameter"),
        ("SELECT 1 IN (%(x)s)", {"x": list[int]}, {"x": []}, "empty list"),
    ],
)
async def test_a_value_that_cannot_be_sent_ends_the_attempt(
    connector: SnowflakeConnector,
    query: str,
    inputs: dict[str, Any],
    values: dict[str, Any],
    problem: str,
) -> None:
    """Before anything is sent."""
    with pytest.raises(PermanentError, match=problem):
        await attempt(query, inputs, values).create(connector)


@pytest.mark.parametrize("lists", [{"a": [1], "b": [1, 2]}, {"a": [], "b": []}])
async def test_a_batch_has_rows_of_one_length(
    connector: SnowflakeConnector, lists: dict[str, list[int]]
) -> None:
    """And one at least."""
    inputs = {"a": list[int], "b": list[int]}
    one = attempt("SELECT * FROM (VALUES (%(a)s, %(b)s))", inputs, lists, batch=True)
    with pytest.raises(PermanentError, match="lists of one length"):
        await one.create(connector)


def test_without_snowflakes_client_it_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the command that installs it; not in the middle of a job."""
    advice = how_to_install("snowflake")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for make in (task, SnowflakeConnector):
        with pytest.raises(ConfigurationError, match=re.escape(advice)):
            make()


def test_importing_and_declaring_loads_none_of_snowflakes_client() -> None:
    """It is loaded by the first call, in a thread."""
    program = """
import sys
from orchestrator.connectors.snowflake import *
from orchestrator.io import DataFrame
config = SnowflakeConfig("a", "d", "s", "w", "u")
SnowflakeTask("t", "SELECT 1", config, output_dataframe_type=DataFrame)
SnowflakeConnector(endpoint="http://127.0.0.1:1")
assert "snowflake.connector" not in sys.modules, "loaded"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"endpoint": "localhost:80"}, "http"),
        ({"timeout": timedelta(milliseconds=500)}, "1 s at least"),
        ({"connection": {"account": "a"}}, "each task's to say"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(
    settings: dict[str, Any], problem: str
) -> None:
    """When the connector is made."""
    with pytest.raises(ConfigurationError, match=problem):
        SnowflakeConnector(**settings)
