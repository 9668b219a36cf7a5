"""Flyte's own plugins: their tasks, metas, states and tokens, without a network."""

from __future__ import annotations

import importlib
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.tasks_pb2 import TaskTemplate
from google.protobuf import json_format

from orchestrator._tasks import to_template
from orchestrator.errors import ConfigurationError, TransientError
from orchestrator.flyte._adapter import FlyteConnector
from orchestrator.flyte._plugins import TOKENS_KEPT, plugin_of
from orchestrator.io import DataFrame
from tests.flyte.install import stand_ins

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import flyte
    import pandas as pd
    from flyte.connectors import Resource
    from flyte.connectors.utils import convert_to_flyte_phase
    from flyteplugins.bigquery import BigQueryConfig, BigQueryConnector, BigQueryTask
    from flyteplugins.bigquery.connector import BigQueryMetadata
    from flyteplugins.snowflake import Snowflake, SnowflakeConfig, SnowflakeConnector
    from flyteplugins.snowflake.connector import (
        SnowflakeJobMetadata,
        _get_snowflake_connection,
    )
    from google.cloud.bigquery import QueryJobConfig
    from snowflake.connector.constants import QueryStatus

if TYPE_CHECKING:
    from types import ModuleType

    from orchestrator.flyte._installation import Installation

TOKEN = f"o{'0' * 31}1-1"
OWN = "a user's own token"
SNOWFLAKE = SnowflakeJobMetadata(
    account="org-acc",
    user="u",
    database="d",
    schema="s",
    warehouse="w",
    query_id="01b2",
    has_output=True,
    connection_kwargs={"role": "r"},
)
BIGQUERY = BigQueryMetadata("j1", "p", "EU", "Flyte/2 (GPN:Union;)")


@pytest.fixture(scope="module")
def databricks() -> ModuleType:
    """Return the plugin, which imports pyspark for the name of a class."""
    with stand_ins.pyspark(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("flyteplugins.databricks.connector")


def test_a_bigquery_task_is_a_template_without_a_container(
    installation: Installation,
) -> None:
    """Query, limits, secrets and types are there, outside any Flyte run."""
    task = BigQueryTask(
        "count_events",
        "SELECT COUNT(*)\n FROM t WHERE day = @day",
        BigQueryConfig("p", "EU", QueryJobConfig(labels={"team": "growth"})),
        inputs={"day": str},
        output_dataframe_type=flyte.io.DataFrame,
        google_application_credentials="GAC",
        retries=flyte.RetryStrategy(2, flyte.Backoff(timedelta(seconds=3))),
        timeout=flyte.Timeout(max_runtime=60, deadline=timedelta(hours=1)),
    )
    template = to_template(task)
    assert template.type == "bigquery_query_job_task"
    assert template.sql.statement == "SELECT COUNT(*) FROM t WHERE day = @day"
    assert not template.HasField("container")
    assert template.metadata.retries.retries == 2
    assert template.metadata.retries.backoff.base.seconds == 3
    assert template.metadata.timeout.seconds == 60
    assert template.metadata.timeouts.deadline.seconds == 3600
    custom = json_format.MessageToDict(template.custom)
    assert custom["ProjectID"] == "p"
    assert "labels" not in custom  # the plugin drops all but the config's "query"
    assert custom["secrets"] == {"google_application_credentials": "GAC"}
    (output,) = template.interface.outputs.variables
    assert output.value.type.HasField("structured_dataset_type")


def test_a_snowflake_task_is_a_template(installation: Installation) -> None:
    """With pandas' own class as its output, which is a reference here."""
    task = Snowflake(
        "users",
        "SELECT 1",
        SnowflakeConfig("a", "d", "s", "w", "u"),
        output_dataframe_type=pd.DataFrame,
        secret_group="snow",  # noqa: S106 - a name
        snowflake_private_key="key",
    )
    template = to_template(task)
    custom = json_format.MessageToDict(template.custom)
    assert custom["secrets"] == {"snowflake_private_key": "SNOW_KEY"}
    (output,) = template.interface.outputs.variables
    assert output.value.type.HasField("structured_dataset_type")


def test_a_python_function_is_refused_with_the_reason(
    installation: Installation, databricks: ModuleType
) -> None:
    """A Databricks task is one: its code must be bundled by Flyte."""
    plugin = importlib.import_module("flyteplugins.databricks")
    config = plugin.Databricks(databricks_conf={"existing_cluster_id": "c"})
    env = flyte.TaskEnvironment("dbx", plugin_config=config)

    @env.task  # type: ignore[untyped-decorator]
    async def train(x: int) -> int:
        return x

    with pytest.raises(ConfigurationError, match="only Flyte can bundle its code"):
        to_template(train)


@pytest.mark.parametrize("meta", [BIGQUERY, SNOWFLAKE])
def test_metas_come_back(meta: Any) -> None:
    """Encoded as Flyte does it, in full."""
    assert type(meta).decode(meta.encode()) == meta


def test_jobs_have_the_services_own_names(databricks: ModuleType) -> None:
    """So that one job is never taken for two."""
    run = databricks.DatabricksJobMetadata("host", "7")
    assert type(run).decode(run.encode()) == run
    assert FlyteConnector(BigQueryConnector()).job_key(BIGQUERY) == "p:EU.j1"
    assert FlyteConnector(SnowflakeConnector()).job_key(SNOWFLAKE) == "org-acc/01b2"
    adapter = FlyteConnector(databricks.DatabricksConnector())
    assert adapter.job_key(run) == "host/7"


def _databricks_template(**body: Any) -> TaskTemplate:
    template = TaskTemplate(type="databricks")
    conf = {"existing_cluster_id": "c", **body}
    json_format.ParseDict({"databricksConf": conf}, template.custom)
    return template


async def test_databricks_gets_the_token_in_the_body_of_its_request(
    databricks: ModuleType,
) -> None:
    """Where the service reads it; the stored template stays as it is."""
    theirs, bodies = databricks.DatabricksConnector(), []

    async def create(task_template: TaskTemplate, **kwargs: Any) -> str:
        bodies.append(databricks._get_databricks_job_spec(task_template))
        return "meta"

    theirs.create = create
    adapter = FlyteConnector(theirs)
    assert adapter.create_is_idempotent == TOKENS_KEPT
    template = _databricks_template()
    await adapter.create(template, "x", idempotency_token=TOKEN)
    assert bodies[0]["idempotency_token"] == TOKEN
    assert template == _databricks_template()
    mine = _databricks_template(idempotency_token=OWN)
    await adapter.create(mine, "x", idempotency_token=TOKEN)
    assert bodies[1]["idempotency_token"] == OWN


def test_bigquery_and_snowflake_let_no_token_through() -> None:
    """Which makes them class N: nothing of the template but the SQL gets there."""
    for connector in (BigQueryConnector(), SnowflakeConnector()):
        assert FlyteConnector(connector).create_is_idempotent is False
        assert plugin_of(connector).sign is None


DATABRICKS_STATES = {
    "QUEUED": TaskExecution.QUEUED,
    "BLOCKED": TaskExecution.QUEUED,
    "WAITING_FOR_RETRY": TaskExecution.RUNNING,
    "SUCCESS_WITH_FAILURES": TaskExecution.SUCCEEDED,
    "MAXIMUM_CONCURRENT_RUNS_REACHED": TaskExecution.FAILED,
    "UPSTREAM_FAILED": TaskExecution.FAILED,
    "UPSTREAM_CANCELED": TaskExecution.FAILED,
    "EXCLUDED": TaskExecution.FAILED,
    "DISABLED": TaskExecution.FAILED,
}


def test_every_state_of_databricks_has_a_phase(databricks: ModuleType) -> None:
    """Those that Flyte's mapping raises for, by the adapter."""
    known = plugin_of(databricks.DatabricksConnector()).states
    for state, phase in DATABRICKS_STATES.items():
        with pytest.raises(ValueError, match="Unrecognized state"):
            convert_to_flyte_phase(state)
        assert known[state.lower()] == phase


@pytest.mark.parametrize("status", list(QueryStatus))
def test_every_state_of_snowflake_has_a_phase(status: QueryStatus) -> None:
    """As the real client names them; Flyte's mapping raises for most."""
    known = plugin_of(SnowflakeConnector()).states
    try:
        convert_to_flyte_phase(status.name)
    except ValueError:
        assert status.name.lower() in known


async def test_snowflakes_delete_has_a_connection_of_its_own() -> None:
    """Its ``delete`` closes the connection that it was given, and keeps it cached."""
    theirs, metas = SnowflakeConnector(), []

    async def delete(resource_meta: SnowflakeJobMetadata, **kwargs: Any) -> None:
        metas.append(resource_meta)

    theirs.delete = delete
    adapter = FlyteConnector(theirs)
    for _ in range(2):
        await adapter.delete(SNOWFLAKE)
    arguments = [SNOWFLAKE, *metas]
    assert len({meta.connection_kwargs.get("application") for meta in arguments}) == 3
    assert all(meta.connection_kwargs["role"] == "r" for meta in arguments)
    assert {meta.query_id for meta in arguments} == {"01b2"}
    # The plugin's cache tells connections apart by these very arguments.
    assert hasattr(_get_snowflake_connection, "cache_info")


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("250001 (08001): Failed to connect to DB", True),
        ("250002 (08003): 250002: Connection is closed", True),
        ("001003 (42000): SQL compilation error", False),
    ],
)
async def test_snowflakes_lost_connection_is_no_failed_query(
    message: str,
    lost: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The plugin calls every exception of the client FAILED."""
    theirs = SnowflakeConnector()

    async def get(**kwargs: Any) -> Resource:
        return Resource(phase=TaskExecution.FAILED, message=message)

    theirs.get = get
    adapter = FlyteConnector(theirs)
    if lost:
        with pytest.raises(TransientError):
            await adapter.get(SNOWFLAKE)
    else:
        assert (await adapter.get(SNOWFLAKE)).phase == TaskExecution.FAILED


async def test_snowflakes_lost_connection_is_replaced() -> None:
    """The plugin would give the closed one to every later call."""
    theirs = SnowflakeConnector()
    names: list[str | None] = []

    async def get(resource_meta: SnowflakeJobMetadata) -> Resource:
        names.append((resource_meta.connection_kwargs or {}).get("application"))
        lost = len(names) == 1
        message = "250002 (08003): Connection is closed" if lost else "fine"
        phase = TaskExecution.FAILED if lost else TaskExecution.RUNNING
        return Resource(phase=phase, message=message)

    async def create(task_template: TaskTemplate) -> None:
        custom = json_format.MessageToDict(task_template.custom)
        names.append(custom.get("connection_kwargs", {}).get("application"))
        raise RuntimeError("250002 (08003): Connection is closed")

    theirs.get, theirs.create = get, create
    adapter = FlyteConnector(theirs)
    with pytest.raises(TransientError):
        await adapter.get(SNOWFLAKE)
    await adapter.get(SNOWFLAKE)
    await adapter.get(SNOWFLAKE)
    for _ in range(2):  # nothing was sent, and the next one has another
        with pytest.raises(TransientError):
            await adapter.create(TaskTemplate(type="snowflake"), "x")
    assert names[0] is None
    assert names[1] == names[2] == names[3]
    assert len(set(names)) == 3


async def test_results_are_references_of_ours() -> None:
    """Whatever class the connector used."""
    theirs = BigQueryConnector()

    async def get(**kwargs: Any) -> Resource:
        outputs = {"results": flyte.io.DataFrame(uri="bq://p:d.t")}
        return Resource(phase=TaskExecution.SUCCEEDED, outputs=outputs)

    theirs.get = get
    found = await FlyteConnector(theirs).get(BIGQUERY)
    assert found.outputs == {"results": DataFrame("bq://p:d.t")}
