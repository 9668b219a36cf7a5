"""Pass-through calls as the engine does: where, for how long, and what is shown."""

from __future__ import annotations

import asyncio
import base64
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from flyteidl2.connector import connector_pb2, service_pb2_grpc
from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
    GetTaskMetricsResponse,
)
from flyteidl2.core import security_pb2
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl2.logs.dataplane.payload_pb2 import LogLine

from orchestrator import Policy, Registry
from orchestrator._clock import SystemClock
from orchestrator.connectors import AsyncConnector, Resource, ResourceMeta
from orchestrator.flyte import ConnectorServer, ServerOptions
from tests.flyte.cases import metadata, template
from tests.flyte.support import CALL_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# Registering reads the files of the connector's classes once.
pytestmark = pytest.mark.may_block

SECRET = "correct-horse/battery+staple"  # noqa: S105 - of these tests
SPELT = base64.b64encode(f"user:{SECRET}".encode()).decode()
SHORT = timedelta(milliseconds=200)


@dataclass
class Meta(ResourceMeta):
    """No more than a name."""

    job: str


class Scene(AsyncConnector[Meta]):
    """A connector of one task type; what it does stands in the tests."""

    metadata_type = Meta
    policy: Policy | None = Policy(
        create_timeout=SHORT / 100,
        create_hard_timeout=SHORT,
        get_timeout=SHORT,
        delete_timeout=SHORT,
    )

    def __init__(self, task_type: str) -> None:
        self.task_type_name = self.name = task_type
        self.cancelled: list[str] = []
        self.left = asyncio.Event()

    async def hang(self, what: str) -> Any:
        """Wait for ever, or until it is cancelled."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(what)
            self.left.set()
            raise

    async def create(self, *_: Any, **__: Any) -> Meta:
        """Hang."""
        await self.hang("create")
        return Meta("never")

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Resource:
        """Hang."""
        await self.hang("get")
        return Resource(TaskExecution.RUNNING)

    async def delete(self, resource_meta: Meta, **kwargs: Any) -> None:
        """Hang."""
        await self.hang("delete")

    async def get_metrics(
        self, resource_meta: Meta, **kwargs: Any
    ) -> GetTaskMetricsResponse:
        """Hang."""
        await self.hang("metrics")
        return GetTaskMetricsResponse()

    async def get_logs(
        self, resource_meta: Meta, **kwargs: Any
    ) -> AsyncIterator[GetTaskLogsResponse]:
        """Give one page, then hang."""
        yield GetTaskLogsResponse(body=GetTaskLogsResponseBody(results=["one"]))
        await self.hang("logs")


class Quick(Scene):
    """One that answers at once."""

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Resource:
        """Be at work."""
        return Resource(TaskExecution.RUNNING, message="at work")


class Late(Scene):
    """One whose create takes longer than the engine would wait for it."""

    async def create(self, *_: Any, **__: Any) -> Meta:
        """Take ten times as long."""
        await SystemClock().sleep(SHORT.total_seconds() / 10)
        return Meta("late")


class Blocks(Scene):
    """One with a client that blocks."""

    runs_in = "thread"
    policy = None

    def __init__(self, task_type: str) -> None:
        super().__init__(task_type)
        self.began, self.release = threading.Event(), threading.Event()

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Resource:
        """Block until the test says otherwise."""
        self.began.set()
        assert self.release.wait(CALL_S)
        return Resource(TaskExecution.RUNNING, message="blocked")


class Quotes(Scene):
    """One whose service quotes the key that it was given last."""

    key = ""

    async def get(self, resource_meta: Meta, api_key: str = "", **_: Any) -> Resource:
        """Quote it in every text."""
        self.key = api_key
        spelt = base64.b64encode(f"user:{api_key}".encode()).decode()
        return Resource(
            TaskExecution.RUNNING,
            message=f"called with {api_key}\x1b[31m",
            log_links=[
                TaskLog(
                    name=f"log of {spelt}",
                    uri=f"https://example.com/{api_key}?region=here",
                    message_format=TaskLog.JSON,
                )
            ],
            custom_info={"asked": [api_key], "of": {spelt: "small"}},
        )

    async def get_metrics(
        self, resource_meta: Meta, **kwargs: Any
    ) -> GetTaskMetricsResponse:
        """Quote it."""
        said = GetTaskMetricsResponse()
        said.results.add(metric=f"of {self.key}").data.update({"key": self.key})
        return said

    async def get_logs(
        self, resource_meta: Meta, **kwargs: Any
    ) -> AsyncIterator[GetTaskLogsResponse]:
        """Quote it, in both forms that a line may have."""
        lines = [LogLine(message=f"a {self.key}")]
        body = GetTaskLogsResponseBody(results=[f"b {self.key}"], lines=lines)
        yield GetTaskLogsResponse(body=body)


@asynccontextmanager
async def serving(*connectors: Scene) -> AsyncIterator[Any]:
    """Yield a stub of a pass-through service that has *connectors*."""
    registry = Registry()
    for connector in connectors:
        registry.register(connector)
    async with ConnectorServer(ServerOptions(port=0), registry=registry) as server:
        endpoint = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(endpoint) as channel:
            yield service_pb2_grpc.AsyncConnectorServiceStub(channel)


def job_of(connector: Scene) -> dict[str, Any]:
    """Return what names a job."""
    category = connector_pb2.TaskCategory(name=connector.task_type_name)
    return {"resource_meta": Meta("1").encode(), "task_category": category}


def look_at(connector: Scene) -> connector_pb2.GetTaskRequest:
    """Return a look at a job, with a secret."""
    connection = security_pb2.Connection(
        secrets={"api_key": SECRET}, configs={"region": "here", "size": "small"}
    )
    return connector_pb2.GetTaskRequest(**job_of(connector), connection=connection)


async def test_a_connector_that_blocks_its_thread_delays_no_other() -> None:
    """Red when it is called on the service's loop."""
    blocks, quick = Blocks("blocks"), Quick("quick")
    async with serving(blocks, quick) as stub:
        slow = asyncio.ensure_future(stub.GetTask(look_at(blocks), timeout=CALL_S))
        assert await asyncio.to_thread(blocks.began.wait, CALL_S)
        answer = await stub.GetTask(look_at(quick), timeout=CALL_S)
        assert answer.resource.message == "at work"
        assert not slow.done()
        blocks.release.set()
        assert (await slow).resource.message == "blocked"


def create(stub: Any, scene: Scene, timeout_s: float = CALL_S) -> Any:
    """Ask for a job."""
    task = template(scene.task_type_name)
    task.task_type_version = 0
    task.interface.Clear()
    request = connector_pb2.CreateTaskRequest(
        template=task, task_execution_metadata=metadata()
    )
    return stub.CreateTask(request, timeout=timeout_s)


def read_logs(stub: Any, scene: Scene) -> Any:
    """Read all pages."""
    request = connector_pb2.GetTaskLogsRequest(**job_of(scene))
    call = stub.GetTaskLogs(request, timeout=CALL_S)

    async def read() -> list[Any]:
        return [page async for page in call]

    return read()


CALLS: dict[str, Callable[[Any, Scene], Any]] = {
    "create": create,
    "get": lambda stub, scene: stub.GetTask(look_at(scene), timeout=CALL_S),
    "delete": lambda stub, scene: stub.DeleteTask(
        connector_pb2.DeleteTaskRequest(**job_of(scene)), timeout=CALL_S
    ),
    "metrics": lambda stub, scene: stub.GetTaskMetrics(
        connector_pb2.GetTaskMetricsRequest(**job_of(scene)), timeout=CALL_S
    ),
    "logs": read_logs,
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_that_hangs_ends_with_its_policys_time(call: str) -> None:
    """The caller is told so, asserting nothing of a create; the call is cancelled."""
    scene = Scene("hangs")
    async with serving(scene) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await CALLS[call](stub, scene)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "did not answer within 0.2 s" in (caught.value.details() or "")
    assert "orchestrator-failure" not in str(caught.value.trailing_metadata())
    assert scene.cancelled == [call]


async def test_a_late_create_is_waited_for() -> None:
    """Its answer is the only trace of the job: no ledger would take it later.

    Red when it was cut off after ``create_timeout``.
    """
    late = Late("late")
    async with serving(late) as stub:
        answer = await create(stub, late)
    assert Meta.decode(answer.resource_meta) == Meta("late")


async def test_a_create_ends_with_its_callers_deadline() -> None:
    """Nobody is there to take an answer."""
    scene = Scene("left")
    scene.policy = None
    async with serving(scene) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(stub, scene, SHORT.total_seconds())
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with SystemClock().limit(CALL_S):
            await scene.left.wait()
    assert scene.cancelled == ["create"]


async def test_what_quotes_a_callers_secret_is_redacted_in_every_answer() -> None:
    """Also in logs and metrics, which Flyte asks for without the Connection."""
    quotes = Quotes("quotes")
    async with serving(quotes) as stub:
        resource = (await stub.GetTask(look_at(quotes), timeout=CALL_S)).resource
        metrics = await CALLS["metrics"](stub, quotes)
        logs = await read_logs(stub, quotes)
    assert quotes.key == SECRET
    for said in (resource, metrics, *logs):
        assert SECRET not in str(said)
        assert SPELT[8:-4] not in str(said)
    assert resource.message == "called with ***"
    [link] = resource.log_links
    assert link.uri == "https://example.com/***?region=here", "a config is no secret"
    assert link.message_format == TaskLog.JSON
    assert resource.custom_info["asked"][0] == "***"
    assert list(resource.custom_info["of"].values()) == ["small"]
    assert metrics.results[0].metric == "of ***"
    assert metrics.results[0].data["key"] == "***"
    [page] = logs
    assert (page.body.lines[0].message, page.body.results[0]) == ("a ***", "b ***")
