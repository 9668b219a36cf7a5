"""What the tests of the Databricks connector share: bodies, tasks and attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config

from orchestrator.connectors.databricks import (
    Databricks,
    DatabricksConnector,
    DatabricksTask,
)
from tests.connectors.attempts import Attempt, attempt_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.emulators import Running

PAT = "dapi-0123456789abcdef"
SECRETS: dict[str, Any] = {"databricks_token": PAT}
NAMED: dict[str, Any] = {"token_parameter": "token"}
"""The parameter of jobs that takes the token."""


def notebook(**parameters: str) -> dict[str, Any]:
    """Return the body of a notebook's run, which does what *parameters* say."""
    task = {"notebook_path": "/Shared/clean", "base_parameters": parameters}
    return {"existing_cluster_id": "0923-1-abc", "notebook_task": task}


def program(*parameters: str) -> dict[str, Any]:
    """Return the body of a Python program's run."""
    return {
        "run_name": "nightly",
        "new_cluster": {"num_workers": 2, "spark_conf": {"spark.speculation": "true"}},
        "spark_python_task": {
            "python_file": "dbfs:/main.py",
            "parameters": [*parameters],
        },
        "libraries": [{"pypi": {"package": "simplejson"}}],
    }


def task(
    body: Any = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    *,
    retries: int = 0,
    **config: Any,
) -> DatabricksTask:
    """Return a task with the body of a run."""
    conf = notebook() if body is None else body
    return DatabricksTask(
        "The Task", Databricks(conf, **config), inputs, outputs, retries=retries
    )


def attempt(
    body: Any = None,
    inputs: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    **config: Any,
) -> Attempt:
    """Return an attempt at a new task."""
    return attempt_at(task(body, inputs, outputs, **config), values)


def sdk(service: Running) -> WorkspaceClient:
    """Return the SDK's client, to look from outside."""
    config = Config(host=service.url, token=PAT, auth_type="pat")
    return WorkspaceClient(config=config)


def request_of(service: Running, run_id: int) -> dict[str, Any]:
    """Return the body with which a run was made."""
    found: dict[str, Any] = service.body(str(run_id))["request"]
    return found


async def made(connector: DatabricksConnector, one: Attempt) -> Any:
    """Create *one* and return its handle."""
    return await one.create(connector, **SECRETS)
