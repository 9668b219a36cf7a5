"""Runs: submitted once, looked at, repaired, cancelled, and what they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors.databricks import DatabricksConnector, DatabricksMeta
from orchestrator.connectors.databricks._states import phase_of
from orchestrator.errors import PermanentError, ResourceGoneError, TransientError
from tests.connectors.databricks.kit import (
    NAMED,
    SECRETS,
    attempt,
    made,
    notebook,
    program,
    request_of,
    sdk,
)
from tests.connectors.measures import measured
from tests.emulators import Running, State

if TYPE_CHECKING:
    from orchestrator._connector import Resource
    from tests.connectors.attempts import Attempt

SLOW = notebook(sleep="600")


async def told(connector: DatabricksConnector, one: Attempt) -> Resource:
    """Create *one*, which ends at once, and return what is told of it."""
    return await connector.get(await made(connector, one), **SECRETS)


def links(resource: Resource) -> dict[str, str]:
    """Return the links by name."""
    return {link.name: link.uri for link in resource.log_links or ()}


def key_in(service: Running, resource: Resource) -> int:
    """Return the run's number."""
    assert service.jobs()
    assert resource.custom_info is not None
    return int(resource.custom_info["run_id"])


async def test_a_run_is_made_once_however_often_it_is_created(
    service: Running, connector: DatabricksConnector
) -> None:
    """The token is the request's; ended or not, where the service remembers it."""
    for one in (attempt(SLOW), attempt()):
        first = await made(connector, one)
        assert await made(DatabricksConnector(host=service.url), one) == first
        assert service.count(one.token) == 1
        assert request_of(service, first.run_id)["idempotency_token"] == one.token
        assert connector.job_key(first) == f"{service.url}#{first.run_id}"


async def test_the_body_is_sent_as_it_is_and_inputs_are_filled_in(
    service: Running, connector: DatabricksConnector
) -> None:
    """Fields that no SDK knows included; the name has the token at its end."""
    body = {
        **program("{{.inputs.n}}", "--at={{ .inputs.at }}", "{{job.run_id}}"),
        "timeout_seconds": 60,
        "queue": {"enabled": True},
        "field_of_next_year": {"x": 1.5},
    }
    inputs = {"n": int, "at": str}
    one = attempt(body, inputs, {"n": 3, "at": "x {"})
    meta = await made(connector, one)
    task = {
        "task_key": "main",
        "new_cluster": body["new_cluster"],
        "libraries": body["libraries"],
        "spark_python_task": {
            "python_file": "dbfs:/main.py",
            "parameters": ["3", "--at=x {", "{{job.run_id}}"],
        },
    }
    assert request_of(service, meta.run_id) == {
        "run_name": f"nightly [{one.token}]",
        "timeout_seconds": 60,
        "queue": {"enabled": True},
        "field_of_next_year": {"x": 1.5},
        "tasks": [task],
        "idempotency_token": one.token,
    }


async def test_an_input_cannot_make_databricks_fill_in_its_own_values(
    service: Running, connector: DatabricksConnector
) -> None:
    """``{{secrets/scope/key}}`` in a value would be a secret in a parameter."""
    value = "{{secrets/prod/key}}"
    one = attempt(notebook(day="{{.inputs.day}}"), {"day": str}, {"day": value})
    with pytest.raises(PermanentError, match="input 'day' holds"):
        await made(connector, one)
    assert service.count(one.token) == 0


async def test_a_long_name_keeps_its_token(
    service: Running, connector: DatabricksConnector
) -> None:
    """It is cut at the end of what the user said; 4096 bytes are the limit."""
    one = attempt({**SLOW, "run_name": "ä" * 4000})
    meta = await made(connector, one)
    name = request_of(service, meta.run_id)["run_name"]
    assert name.endswith(f"[{one.token}]")
    assert 4090 < len(name.encode()) <= 4096


async def test_an_existing_job_is_started(
    service: Running, connector: DatabricksConnector
) -> None:
    """With parameters, and the token in one of them if it is named."""
    job = sdk(service).api_client.do(
        "POST",
        "/api/2.2/jobs/create",
        body={
            "name": "defined",
            "parameters": [{"name": "day", "default": ""}, {"name": "token"}],
            "tasks": [{"task_key": "t", "notebook_task": {"notebook_path": "/n"}}],
        },
    )
    assert isinstance(job, dict)
    body = {"job_id": job["job_id"], "job_parameters": {"day": "{{.inputs.day}}"}}
    one = attempt(body, {"day": str}, {"day": "mon"}, **NAMED)
    meta = await made(connector, one)
    assert await made(connector, one) == meta
    assert meta.job_id == job["job_id"]
    assert request_of(service, meta.run_id) == {
        "job_id": job["job_id"],
        "job_parameters": {"day": "mon", "token": one.token},
        "idempotency_token": one.token,
    }
    found = await connector.find(one.token, one.template, **SECRETS)
    assert found == meta
    resource = await connector.get(meta, **SECRETS)
    assert resource.phase == TaskExecution.SUCCEEDED


@pytest.mark.parametrize(
    ("words", "phase", "text"),
    [
        ({"queue": "600"}, TaskExecution.QUEUED, "QUEUED"),
        ({"sleep": "600"}, TaskExecution.RUNNING, "RUNNING"),
        (
            {"sleep": "600", "waits": "BLOCKED"},
            TaskExecution.QUEUED,
            "BLOCKED; as scripted",
        ),
        (
            {"sleep": "600", "waits": "WAITING_FOR_RETRY"},
            TaskExecution.RUNNING,
            "WAITING_FOR_RETRY",
        ),
        (
            {"sleep": "600", "waits": "NEW_STATE"},
            TaskExecution.UNDEFINED,
            "unknown state 'NEW_STATE', polled on",
        ),
        ({}, TaskExecution.SUCCEEDED, "TERMINATED SUCCESS; as scripted"),
        (
            {"result": "SUCCESS_WITH_FAILURES"},
            TaskExecution.SUCCEEDED,
            "SUCCESS_WITH_FAILURES",
        ),
        ({"result": "FAILED"}, TaskExecution.FAILED, "main: ValueError: as scripted"),
        (
            {"result": "FAILED", "code": "CLOUD_FAILURE"},
            TaskExecution.RETRYABLE_FAILED,
            "TERMINATED FAILED",
        ),
        ({"result": "TIMEDOUT"}, TaskExecution.FAILED, "TIMEDOUT"),
        (
            {"result": "MAXIMUM_CONCURRENT_RUNS_REACHED"},
            TaskExecution.RETRYABLE_FAILED,
            "MAXIMUM_CONCURRENT",
        ),
        ({"result": "UPSTREAM_CANCELED"}, TaskExecution.ABORTED, "UPSTREAM_CANCELED"),
        ({"result": "SKIPPED"}, TaskExecution.RETRYABLE_FAILED, "SKIPPED"),
        (
            {"result": "INTERNAL_ERROR"},
            TaskExecution.RETRYABLE_FAILED,
            "INTERNAL_ERROR",
        ),
        ({"result": "NEW_RESULT"}, TaskExecution.FAILED, "NEW_RESULT"),
    ],
)
async def test_a_run_tells_its_state(
    connector: DatabricksConnector, words: dict[str, str], phase: int, text: str
) -> None:
    """In Flyte's phases, and in Databricks' words."""
    resource = await told(connector, attempt(notebook(**words)))
    assert resource.phase == phase
    assert text in (resource.message or "")


def test_a_run_that_tells_no_result_is_polled_on() -> None:
    """TERMINATED alone says nothing of how."""
    run = {"state": {"life_cycle_state": "TERMINATED"}}
    assert phase_of(run) == TaskExecution.UNDEFINED
    assert phase_of({}) == TaskExecution.UNDEFINED


async def test_a_run_tells_cluster_times_tasks_and_where_to_look(
    service: Running, connector: DatabricksConnector
) -> None:
    """What it cost, and the pages of run, cluster and driver."""
    meta = await made(connector, attempt(program("logs=x")))
    resource = await connector.get(meta, **SECRETS)
    info = resource.custom_info
    assert info is not None
    number = key_in(service, resource)
    cluster = f"job-{number}-cluster"
    assert info["cluster_ids"] == [cluster]
    assert (info["state"], info["result"]) == ("TERMINATED", "SUCCESS")
    assert info["termination_code"] == "SUCCESS"
    assert info["setup_ms"] == 1000
    metrics = await measured(connector, meta, **SECRETS)
    assert (metrics["setup_ms"], metrics["tasks.main.setup_ms"]) == (1000, 1000)
    assert not [name for name in metrics if name.endswith("run_id")]
    assert info["start_time_ms"] <= info["end_time_ms"]
    assert info["tasks"]["main"]["run_id"] == number + 1
    assert info["tasks"]["main"]["attempt_number"] == 0
    pages = links(resource)
    assert pages["Databricks run"].startswith(f"{service.url}/?o=4711#job/")
    assert pages[f"Cluster {cluster}"].endswith(f"/clusters/{cluster}/configuration")
    assert pages[f"Spark UI of {cluster}"].endswith(f"/sparkui/{cluster}/{number}")
    assert pages[f"Driver logs of {cluster}"].endswith("/driver-logs")


async def test_all_tasks_of_a_large_run_are_read(
    connector: DatabricksConnector,
) -> None:
    """An answer has a hundred of them at most."""
    tasks = [
        {"task_key": f"t{n}", "spark_jar_task": {"parameters": []}} for n in range(250)
    ]
    resource = await told(connector, attempt({"tasks": tasks}))
    assert resource.custom_info
    assert resource.custom_info["tasks_total"] == 250
    assert len(resource.custom_info["tasks"]) == 100


async def test_a_repaired_run_does_as_its_repair(
    service: Running, connector: DatabricksConnector
) -> None:
    """The latest attempt of each task counts; each repair has a link."""
    one = attempt(notebook(result="FAILED", output="good"), None, None, {"result": str})
    meta = await made(connector, one)
    assert (await connector.get(meta, **SECRETS)).phase == TaskExecution.FAILED
    sdk(service).jobs.repair_run(meta.run_id, rerun_all_failed_tasks=True)
    resource = await connector.get(meta, **SECRETS)
    assert resource.phase == TaskExecution.SUCCEEDED
    assert resource.outputs == {"result": "good"}
    info = resource.custom_info
    assert info is not None
    assert info["tasks"]["main"]["attempt_number"] == 1
    assert [repair["result"] for repair in info["repairs"]] == ["SUCCESS"]
    page = f"{service.url}/#job/{meta.run_id}/run/{meta.run_id + 100_001}"
    assert links(resource)["Repair 1"] == page


async def test_a_deleted_run_is_aborted_once_it_says_so(
    service: Running, connector: DatabricksConnector
) -> None:
    """While it is being cancelled it runs; a delete may be repeated, an end stays."""
    meta = await made(connector, attempt(SLOW))
    await connector.delete(meta, **SECRETS)
    await connector.delete(meta, **SECRETS)
    resource = await connector.get(meta, **SECRETS)
    assert resource.phase == TaskExecution.ABORTED
    assert resource.custom_info
    assert resource.custom_info["termination_code"] == "USER_CANCELED"
    slow = attempt(notebook(sleep="600", cancel="600"))
    meta = await made(connector, slow)
    await connector.delete(meta, **SECRETS)
    resource = await connector.get(meta, **SECRETS)
    assert (resource.phase, resource.message) == (
        TaskExecution.RUNNING,
        "TERMINATING; as scripted",
    )
    service.end(slow.token, State.ABORTED)
    done = await made(connector, attempt())
    await connector.delete(done, **SECRETS)
    assert (await connector.get(done, **SECRETS)).phase == TaskExecution.SUCCEEDED


async def test_a_run_is_gone_only_where_it_was(
    service: Running, connector: DatabricksConnector
) -> None:
    """An unknown number, or a deleted run; another workspace says nothing."""
    meta = await made(connector, attempt())
    sdk(service).jobs.delete_run(meta.run_id)
    elsewhere: Any = DatabricksMeta(meta.run_id, "https://other.example")
    for call in (connector.get, connector.delete):
        with pytest.raises(ResourceGoneError):
            await call(meta, **SECRETS)
        with pytest.raises(TransientError, match="talks to"):
            await call(elsewhere, **SECRETS)
