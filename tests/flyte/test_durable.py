"""The durable mode: what a crash of the service costs, and how jobs are told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from flyteidl2.connector import connector_pb2, service_pb2_grpc
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Config, Orchestrator, Registry, TaskTemplate
from orchestrator._clock import SystemClock, to_datetime
from orchestrator._engine._text import info_json
from orchestrator._phase import Phase, RemotePhase
from orchestrator._records import Execution
from orchestrator._tasks import attempt_metadata
from orchestrator.errors import TransientError
from orchestrator.flyte import (
    ConnectorServer,
    RemoteConnector,
    RemoteMeta,
    ServerOptions,
)
from orchestrator.flyte._durable import _labels, phase_of_record, resource_of_record
from orchestrator.flyte._wire import identity_of
from orchestrator.models import NativeInterface
from tests.flyte.cases import create_request, metadata, template
from tests.flyte.real import QUICK
from tests.flyte.support import CALL_S, Running, child, service

if TYPE_CHECKING:
    from pathlib import Path

COUNTING = "tests.flyte.counting"
CATEGORY = connector_pb2.TaskCategory(name="counted")
NOW = to_datetime(0)
TERMINAL = {
    TaskExecution.SUCCEEDED,
    TaskExecution.FAILED,
    TaskExecution.ABORTED,
    TaskExecution.RETRYABLE_FAILED,
}


def request_for(
    run: str | None = "run-1", attempt: int = 0
) -> connector_pb2.CreateTaskRequest:
    """Return a create of a counted job, as a Flyte cluster sends it."""
    task = template("counted")
    task.ClearField("interface")
    task.task_type_version = 0
    task.metadata.retries.retries = 3
    told = metadata(run) if run else None
    if told is not None:
        told.task_execution_id.retry_attempt = attempt
    return connector_pb2.CreateTaskRequest(
        template=task, output_prefix="s3://b/out", task_execution_metadata=told
    )


async def refusals(
    jobs: Any, meta: bytes, category: connector_pb2.TaskCategory
) -> list[grpc.StatusCode]:
    """Return with what a job's metrics and its logs are refused."""
    asked: dict[str, Any] = {"resource_meta": meta, "task_category": category}
    metrics = connector_pb2.GetTaskMetricsRequest(**asked)
    with pytest.raises(grpc.aio.AioRpcError) as no_metrics:
        await jobs.GetTaskMetrics(metrics, timeout=CALL_S)
    logs = connector_pb2.GetTaskLogsRequest(**asked)
    with pytest.raises(grpc.aio.AioRpcError) as no_logs:
        _ = [page async for page in jobs.GetTaskLogs(logs, timeout=CALL_S)]
    return [no_metrics.value.code(), no_logs.value.code()]


async def until(
    jobs: Any, meta: bytes, wanted: set[TaskExecution.Phase]
) -> connector_pb2.Resource:
    """Return the resource of a job once it is in a wanted phase."""
    clock = SystemClock()
    request = connector_pb2.GetTaskRequest(resource_meta=meta, task_category=CATEGORY)
    async with clock.limit(CALL_S):
        while True:
            answer = await jobs.GetTask(request, timeout=CALL_S)
            if answer.resource.phase in wanted:
                found: connector_pb2.Resource = answer.resource
                return found
            await clock.sleep(0.05)


@pytest.mark.parametrize("run", ["run-1", None])
async def test_a_service_killed_before_it_answered_pays_once(
    run: str | None, tmp_path: Path
) -> None:
    """The same create again is the same job; without an identity it is another one."""
    ledger, database = tmp_path / "ledger", str(tmp_path / "jobs.db")
    ledger.with_suffix(".done").touch()
    request, where = request_for(run), ("--database", database)
    dying = ("-m", COUNTING, *where, "--die-at", "submit.after_commit")
    with child(*dying, LEDGER=str(ledger)) as running:
        async with grpc.aio.insecure_channel(running.endpoint) as channel:
            jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await jobs.CreateTask(request, timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    serving = ("--connectors", COUNTING, "--durable", *where)
    with service(*serving, LEDGER=str(ledger)) as running:
        async with grpc.aio.insecure_channel(running.endpoint) as channel:
            jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
            meta = (await jobs.CreateTask(request, timeout=CALL_S)).resource_meta
            resource = await until(jobs, meta, TERMINAL)
            async with Orchestrator(database, config=Config(), start=False) as orch:
                for execution in await orch.list():
                    await orch.wait(execution.id, timeout=CALL_S)
    assert resource.phase == TaskExecution.SUCCEEDED
    assert ledger.read_text().splitlines() == ["create"] * (1 if run else 2)


async def test_a_flyte_retry_is_a_new_job_and_retries_are_flytes(
    tmp_path: Path,
) -> None:
    """Another attempt has another identity; what Flyte said reaches the connector."""
    ledger = tmp_path / "ledger"
    ledger.touch()
    database = str(tmp_path / "jobs.db")
    where = ("--durable", "--database", database)
    with service("--connectors", COUNTING, *where, LEDGER=str(ledger)) as running:
        async with grpc.aio.insecure_channel(running.endpoint) as channel:
            jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
            metas = [
                (await jobs.CreateTask(request_for("r", n), timeout=5)).resource_meta
                for n in (0, 1, 1)
            ]
            assert len(set(metas)) == 2
            running_now = await until(jobs, metas[0], {TaskExecution.RUNNING})
            while not running_now.HasField("custom_info"):
                running_now = await until(jobs, metas[0], {TaskExecution.RUNNING})
            deletion = connector_pb2.DeleteTaskRequest(
                resource_meta=metas[0], task_category=CATEGORY
            )
            await jobs.DeleteTask(deletion, timeout=CALL_S)
            ended = await until(jobs, metas[0], TERMINAL)
            await jobs.DeleteTask(deletion, timeout=CALL_S)
    async with Orchestrator(database, config=Config(), start=False) as orch:
        attempts = {e.max_attempts for e in await orch.list()}
    assert attempts == {1}
    assert dict(running_now.custom_info) == {"run": "r", "prefix": "s3://b/out"}
    assert ended.phase == TaskExecution.ABORTED
    assert "deleted by DeleteTask" in ended.message


async def test_a_remote_connector_outlives_its_killed_service(tmp_path: Path) -> None:
    """The job is polled at the new process; its create was believed idempotent."""
    ledger = tmp_path / "ledger"
    ledger.touch()
    where = (
        "--connectors",
        COUNTING,
        "--durable",
        "--database",
        str(tmp_path / "s.db"),
    )
    registry = Registry()
    task = TaskTemplate(
        name="t", interface=NativeInterface({}, {}), task_type="counted"
    )
    with service(*where, LEDGER=str(ledger)) as first:
        [connector] = await RemoteConnector.discover(
            first.endpoint, registry=registry, policy=QUICK
        )
        assert connector.create_is_idempotent
        orch = Orchestrator(tmp_path / "caller.db", config=Config(), registry=registry)
        await orch.open()
        handle = await orch.submit(task, {})
        async with SystemClock().limit(CALL_S):
            while (await handle.get()).polls < 2:
                await SystemClock().sleep(0.05)
        first.process.kill()
    port = str(first.told["port"])
    with service(*where, "--port", port, LEDGER=str(ledger)):
        ledger.with_suffix(".done").touch()
        execution = await handle.wait(CALL_S)
        await orch.close()
        await connector.aclose()
    assert execution.phase is Phase.SUCCEEDED
    assert ledger.read_text().splitlines() == ["create"]


async def test_values_of_a_connection_are_refused_and_references_are_used(
    durable: Running,
) -> None:
    """Also of a secret that the task names by reference, and of a config.

    Red when the caller's value was dropped, and the job ran with the service's.
    """
    request = create_request("SUCCEEDED", run="secrets")
    named = create_request("SUCCEEDED", run="secrets")
    named.template.custom.update({"secrets": {"api_key": "API_KEY"}})
    config = connector_pb2.CreateTaskRequest()
    config.CopyFrom(named)
    config.connection.configs["api_key"] = config.connection.secrets.pop("api_key")
    async with grpc.aio.insecure_channel(durable.endpoint) as channel:
        jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
        for refused in (request, named, config):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await jobs.CreateTask(refused, timeout=CALL_S)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "(api_key)" in str(caught.value.details())
        named.ClearField("connection")
        meta = (await jobs.CreateTask(named, timeout=CALL_S)).resource_meta
        category = connector_pb2.TaskCategory(name="phase", version=1)
        look = connector_pb2.GetTaskRequest(resource_meta=meta, task_category=category)
        async with SystemClock().limit(CALL_S):
            while True:
                told = (await jobs.GetTask(look, timeout=CALL_S)).resource
                if told.phase in TERMINAL:
                    break
                await SystemClock().sleep(0.05)
    assert told.message == "key of 21 characters"
    assert [item.name for item in told.outputs.literals] == [
        *("text", "whole", "real", "yes"),
    ]


async def test_a_job_that_is_not_there_is_not_found(durable: Running) -> None:
    """Also one of another task type; the text tells nothing but that."""
    async with grpc.aio.insecure_channel(durable.endpoint) as channel:
        jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
        for meta in (b"", b"\xff\x00", b"0" * 32):
            look = connector_pb2.GetTaskRequest(resource_meta=meta)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await jobs.GetTask(look, timeout=CALL_S)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def record(phase: Phase, remote: RemotePhase | None = None, **more: Any) -> Execution:
    """Return an execution in *phase*."""
    return Execution(
        id="0" * 32,
        name="t",
        task_type="counted",
        task_version=0,
        phase=phase,
        attempt=1,
        version=1,
        submitted_at=NOW,
        updated_at=NOW,
        remote_phase=remote,
        **more,
    )


@pytest.mark.parametrize(
    ("phase", "remote", "shown"),
    [
        (Phase.QUEUED, None, "QUEUED"),
        (Phase.CREATING, None, "INITIALIZING"),
        (Phase.CREATE_UNKNOWN, None, "INITIALIZING"),
        (Phase.RUNNING, None, "RUNNING"),
        (Phase.RUNNING, RemotePhase.QUEUED, "QUEUED"),
        (Phase.RUNNING, RemotePhase.INITIALIZING, "INITIALIZING"),
        (Phase.RUNNING, RemotePhase.WAITING_FOR_RESOURCES, "WAITING_FOR_RESOURCES"),
        (Phase.RUNNING, RemotePhase.UNDEFINED, "RUNNING"),
        (Phase.ABORTING, RemotePhase.RUNNING, "RUNNING"),
        (Phase.SUCCEEDED, RemotePhase.SUCCEEDED, "SUCCEEDED"),
        (Phase.FAILED, RemotePhase.FAILED, "FAILED"),
        (Phase.FAILED, RemotePhase.RETRYABLE_FAILED, "RETRYABLE_FAILED"),
        (Phase.ABORTED, RemotePhase.RUNNING, "ABORTED"),
        (Phase.TIMED_OUT, RemotePhase.RUNNING, "FAILED"),
    ],
)
def test_every_phase_has_flytes_name(
    phase: Phase, remote: RemotePhase | None, shown: str
) -> None:
    """Flyte has no name for a timeout, and a retry is its own to make."""
    assert phase_of_record(record(phase, remote)) == TaskExecution.Phase.Value(shown)


def test_the_message_says_what_a_person_should_know() -> None:
    """The engine's code, the connector's words, or what the execution waits for."""
    failed = record(
        Phase.FAILED, error_code="CREATE_OUTCOME_UNKNOWN", error_message="who knows"
    )
    assert resource_of_record(failed).message == "[CREATE_OUTCOME_UNKNOWN] who knows"
    own = record(Phase.FAILED, error_code="REMOTE_FAILED", error_message="no luck")
    assert resource_of_record(own).message == "no luck"
    held = record(Phase.RUNNING, hold="UNAUTHORIZED", last_error="AuthError: 401")
    assert resource_of_record(held).message == "on hold: UNAUTHORIZED; AuthError: 401"


def _nested(levels: int) -> dict[str, Any]:
    info: dict[str, Any] = {"x": 1}
    for _ in range(levels - 1):
        info = {"d": info}
    return info


@pytest.mark.parametrize(
    "info",
    [_nested(60), {"n": 10**400}, [1, 2]],
    ids=["60 levels", "a huge number", "a list"],
)
def test_the_end_of_a_job_is_told_whatever_its_details_are(info: Any) -> None:
    """The engine keeps them; GetTask must not fail for them for ever."""
    stored = json.loads(info_json(info, lambda text: text))
    ended = record(Phase.SUCCEEDED, RemotePhase.SUCCEEDED, custom_info=stored)
    answer = connector_pb2.GetTaskResponse(resource=resource_of_record(ended))
    told = connector_pb2.GetTaskResponse.FromString(answer.SerializeToString())
    assert told.resource.phase == answer.resource.phase


def test_a_retried_execution_is_another_job_for_the_next_service() -> None:
    """Flyte, durable service, durable service: ``retry`` in the middle one.

    Both executions carry Flyte's run; their tokens tell them apart.
    """
    labels = _labels(request_for("run-1"))
    common = connector_pb2.TaskExecutionMetadata()
    first, again = (
        identity_of(
            attempt_metadata(
                common,
                execution_id=run * 32,
                attempt=1,
                token=f"o{run * 32}-1",
                labels=labels,
            )
        )
        for run in "ab"
    )
    assert first != again


async def test_what_a_connector_does_not_have_is_unimplemented(tmp_path: Path) -> None:
    """As in pass-through: nobody gave a wrong argument."""
    ledger, database = tmp_path / "ledger", str(tmp_path / "jobs.db")
    ledger.with_suffix(".done").touch()
    words = ("--connectors", COUNTING, "--durable", "--database", database)
    with service(*words, LEDGER=str(ledger)) as running:
        async with grpc.aio.insecure_channel(running.endpoint) as channel:
            jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
            made = await jobs.CreateTask(request_for(), timeout=CALL_S)
            await until(jobs, made.resource_meta, TERMINAL)
            for code in await refusals(jobs, made.resource_meta, CATEGORY):
                assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_an_id_that_comes_again_with_another_task_is_told_as_it_came(
    durable: Running,
) -> None:
    """The run and the attempt are named, and no key of the engine's."""
    first = create_request("SUCCEEDED", run="twice")
    first.ClearField("connection")
    other = create_request("FAILED", run="twice")
    other.ClearField("connection")
    async with grpc.aio.insecure_channel(durable.endpoint) as channel:
        jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
        await jobs.CreateTask(first, timeout=CALL_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await jobs.CreateTask(other, timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    details = str(caught.value.details())
    assert "attempt 1 of node 'a0' in run 'twice' has a job already" in details
    assert "flyte-" not in details


async def test_logs_of_a_job_that_is_not_there_yet_may_be_asked_again(
    tmp_path: Path,
) -> None:
    """Nobody gave a wrong argument; our own client takes it for "later"."""
    registry = Registry()
    registry.register(RemoteConnector("127.0.0.1:1", "phase", 1))
    orch = Orchestrator(
        tmp_path / "jobs.db", config=Config(), registry=registry, start=False
    )
    server = ConnectorServer(ServerOptions(port=0), orchestrator=orch)
    async with orch, server:
        endpoint = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(endpoint) as channel:
            jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
            request = create_request("SUCCEEDED")
            request.ClearField("connection")
            made = await jobs.CreateTask(request, timeout=CALL_S)
            category = connector_pb2.TaskCategory(name="phase", version=1)
            for code in await refusals(jobs, made.resource_meta, category):
                assert code is grpc.StatusCode.FAILED_PRECONDITION
            remote = RemoteConnector(endpoint, "phase", 1)
            with pytest.raises(TransientError, match="no job yet: ask again later"):
                await remote.get_metrics(RemoteMeta(made.resource_meta, "phase", 1))
            await remote.aclose()
            await orch.abort(made.resource_meta.decode())
            await orch.scheduler.tick()
            metrics = connector_pb2.GetTaskMetricsRequest(
                resource_meta=made.resource_meta, task_category=category
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await jobs.GetTaskMetrics(metrics, timeout=CALL_S)
            assert "ended without a job" in str(refused.value.details())
