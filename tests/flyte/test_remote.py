"""RemoteConnector: what errors mean, where calls go, and what is never stored."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from flyteidl2.connector import service_pb2_grpc
from flyteidl2.connector.connector_pb2 import (
    Connector,
    CreateTaskResponse,
    ListConnectorsResponse,
)

from orchestrator import Config, Orchestrator, Registry
from orchestrator.errors import (
    AuthError,
    ConfigurationError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from orchestrator.flyte import RemoteConnector, RemoteMeta, RemoteService
from orchestrator.flyte._codes import (
    FAILURE_KEY,
    REMEMBERED_KEY,
    RETRY_KEY,
    RemoteCallError,
    error_of,
    status_of,
)
from orchestrator.flyte._remote import TOKEN_KEYWORD
from tests.flyte.cases import API_KEY, job, metadata, template
from tests.flyte.real import QUICK, task

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flyte.support import Running

Code = grpc.StatusCode
SOON = timedelta(seconds=2)


@pytest.mark.parametrize(
    ("operation", "code", "details", "meaning"),
    [
        ("create", Code.UNAVAILABLE, "", RemoteCallError),
        ("create", Code.DEADLINE_EXCEEDED, "", RemoteCallError),
        ("create", Code.INTERNAL, "", RemoteCallError),
        ("create", Code.UNKNOWN, "", RemoteCallError),
        ("create", Code.CANCELLED, "", RemoteCallError),
        ("create", Code.RESOURCE_EXHAUSTED, "message larger than max", RemoteCallError),
        ("create", Code.RESOURCE_EXHAUSTED, "metadata size exceeds", RemoteCallError),
        ("create", Code.RESOURCE_EXHAUSTED, "quota", ThrottledError),
        ("create", Code.PERMISSION_DENIED, "Received RST_STREAM", RemoteCallError),
        ("get", Code.RESOURCE_EXHAUSTED, "metadata size exceeds", ThrottledError),
        ("create", Code.INVALID_ARGUMENT, "", PermanentError),
        ("create", Code.UNIMPLEMENTED, "", PermanentError),
        ("create", Code.NOT_FOUND, "Cannot find connector", PermanentError),
        ("create", Code.UNAUTHENTICATED, "", AuthError),
        ("get", Code.PERMISSION_DENIED, "", AuthError),
        ("get", Code.NOT_FOUND, "no such job", ResourceGoneError),
        ("get", Code.NOT_FOUND, "Cannot find connector for", TransientError),
        ("get", Code.INTERNAL, "", TransientError),
        ("get", Code.UNAVAILABLE, "", TransientError),
        ("delete", Code.NOT_FOUND, "", ResourceGoneError),
        ("logs", Code.UNIMPLEMENTED, "", NotImplementedError),
    ],
)
def test_a_code_asserts_what_it_proves(
    operation: str, code: grpc.StatusCode, details: str, meaning: type[Exception]
) -> None:
    """Only a refusal says that no job exists; the rest of create is unknown."""
    assert type(error_of(operation, code, details, {})) is meaning


@pytest.mark.parametrize(
    "error",
    [
        ThrottledError("slow", retry_after=2.5),
        TransientError("later"),
        AuthError("no"),
        ResourceGoneError("gone"),
        PermanentError("never"),
    ],
)
def test_our_errors_cross_the_wire_as_themselves(error: Exception) -> None:
    """INTERNAL for everybody else, as from Flyte; for us what it asserts."""
    status = status_of(error, "create", "t", str)
    assert status.code is Code.INTERNAL
    trailing = dict(status.trailing)
    again = error_of("create", status.code, status.details, trailing)
    assert type(again) is type(error)
    assert getattr(again, "retry_after", None) == getattr(error, "retry_after", None)
    assert FAILURE_KEY in trailing
    assert (RETRY_KEY in trailing) == isinstance(error, ThrottledError)


@pytest.mark.parametrize("nonsense", ["5", "soon", float("inf"), float("nan"), -1])
def test_a_nonsensical_time_to_wait_is_left_out(nonsense: Any) -> None:
    """A connector may hand on a header's text; the error crosses the wire all the same.

    Red when it broke the answer, and gRPC logged the error with the caller's secret.
    """
    error = ThrottledError("slow", retry_after=nonsense)
    status = status_of(error, "get", "t", str)
    assert dict(status.trailing) == {FAILURE_KEY: "throttled"}


def test_a_foreign_error_asserts_nothing() -> None:
    """Not even that nothing was created."""
    status = status_of(RuntimeError("boom"), "create", "t", str)
    assert (status.code, status.trailing) == (Code.INTERNAL, ())


def closed_port() -> str:
    """Return an endpoint at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def meta(phase: str = "RUNNING") -> RemoteMeta:
    """Return the handle of a job of the test's connector."""
    return RemoteMeta(job(phase)["resource_meta"], "phase", 1)


def connector_at(*endpoints: str, **settings: Any) -> RemoteConnector:
    """Return a connector that gives up soon."""
    settings = {"connect_timeout": SOON, "timeout": SOON, **settings}
    return RemoteConnector(endpoints, "phase", 1, **settings)


async def test_without_a_connection_nothing_was_sent() -> None:
    """So create is transient: it may be made again without a doubt."""
    connector = connector_at(closed_port(), closed_port())
    with pytest.raises(TransientError, match="nothing was sent"):
        await connector.create(template(), "", {})
    with pytest.raises(TransientError, match="UNAVAILABLE"):
        await connector.get(meta())
    await connector.aclose()


async def test_calls_go_on_at_another_endpoint(direct: Running) -> None:
    """Reads fail over, a create looks for one that is connected."""
    connector = connector_at(closed_port(), direct.endpoint)
    for _ in range(2):  # whoever's turn it is
        assert (await connector.get(meta())).message == "it is RUNNING"
        made = await connector.create(
            template(), "out", {"phase": "QUEUED"}, task_execution_metadata=metadata()
        )
        assert json.loads(made.resource_meta)["phase"] == "QUEUED"
    await connector.aclose()


async def test_a_call_without_an_answer_ends_by_its_deadline(direct: Running) -> None:
    """It is asked again later; the channel goes on."""
    connector = connector_at(direct.endpoint, timeout=timedelta(milliseconds=200))
    with pytest.raises(TransientError, match="DEADLINE_EXCEEDED"):
        await connector.get(meta("HANG"))
    assert (await connector.get(meta())).message == "it is RUNNING"
    await connector.aclose()
    assert (await connector.get(meta())).message == "it is RUNNING"
    await connector.aclose()


@pytest.mark.parametrize("token", ["line-break\n", "not-äscii", "control\x01s"])
async def test_a_token_that_no_header_takes_is_a_secret_to_mend(
    token: str, direct: Running
) -> None:
    """The job is held: red when gRPC's error made a create's outcome unknown."""
    connector = connector_at(direct.endpoint)
    given: dict[str, Any] = {TOKEN_KEYWORD: token}
    with pytest.raises(AuthError, match="unusable secret") as caught:
        await connector.create(template(), "", {}, **given)
    assert token.strip() not in str(caught.value)
    with pytest.raises(AuthError, match="unusable secret"):
        await connector.get(meta(), **given)
    await connector.aclose()


class Verbose(service_pb2_grpc.AsyncConnectorServiceServicer):  # type: ignore[misc, unused-ignore]
    """A service that makes jobs, and says more about it than gRPC takes."""

    def __init__(self, where: str) -> None:
        self.where, self.made = where, 0

    async def CreateTask(  # noqa: N802 - the RPC's name
        self, _request: Any, context: Any
    ) -> CreateTaskResponse:
        """Make a job."""
        self.made += 1
        much = (("trace", "x" * 30_000),)
        if self.where == "details":
            await context.abort(Code.INTERNAL, "x" * 30_000)
        elif self.where == "initial":
            await context.send_initial_metadata(much)
        else:
            context.set_trailing_metadata(much)
        return CreateTaskResponse(resource_meta=b"job")


@pytest.mark.parametrize("where", ["details", "initial", "trailing"])
async def test_an_answer_that_cannot_be_read_makes_no_second_job(where: str) -> None:
    """RESOURCE_EXHAUSTED is gRPC's own word here, and refuses nothing: it is unknown.

    Red when it was taken for a throttle: each repetition made one more job.
    """
    verbose = Verbose(where)
    server = grpc.aio.server()
    service_pb2_grpc.add_AsyncConnectorServiceServicer_to_server(verbose, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connector = connector_at(f"127.0.0.1:{port}")
    with pytest.raises(RemoteCallError, match="RESOURCE_EXHAUSTED"):
        await connector.create(template(), "", {})
    assert verbose.made == 1
    await connector.aclose()
    await server.stop(None)


class Boastful(service_pb2_grpc.ConnectorMetadataServiceServicer):  # type: ignore[misc, unused-ignore]
    """A service that says for how long it knows a create."""

    def __init__(self, told: str) -> None:
        self.told = told

    async def ListConnectors(  # noqa: N802 - the RPC's name
        self, _request: Any, context: Any
    ) -> ListConnectorsResponse:
        """Say it, and name one connector."""
        await context.send_initial_metadata(((REMEMBERED_KEY, self.told),))
        found = Connector(name="boastful")
        found.supported_task_categories.add(name="phase")
        return ListConnectorsResponse(connectors=[found])


@pytest.mark.parametrize(
    ("told", "believed"),
    [
        ("0", False),
        ("soon", False),
        ("60", timedelta(minutes=1)),
        ("9" * 15, timedelta(days=36500)),
        ("9" * 5000, False),
    ],
)
async def test_a_promise_beyond_measure_is_believed_within_reason(
    told: str, *, believed: bool | timedelta
) -> None:
    """Red when a number that no timedelta takes broke `discover`."""
    server = grpc.aio.server()
    service_pb2_grpc.add_ConnectorMetadataServiceServicer_to_server(
        Boastful(told), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    [found] = await RemoteConnector.discover(f"127.0.0.1:{port}", register=False)
    assert found.create_is_idempotent == believed
    await found.aclose()
    await server.stop(None)


async def test_a_job_is_not_looked_for_at_another_service(direct: Running) -> None:
    """The meta knows the name of its service."""
    other = RemoteConnector(
        RemoteService(endpoints=direct.endpoint, name="elsewhere"), "phase", 1
    )
    with pytest.raises(TransientError, match=r"'flyte'.*'elsewhere'"):
        await other.get(meta())


async def test_a_whole_execution_stores_no_secret(
    direct: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value reaches the service, and stands in no file of the database."""
    monkeypatch.setenv("API_KEY", API_KEY)
    registry = Registry()
    [connector] = await RemoteConnector.discover(
        direct.endpoint,
        registry=registry,
        secrets={"api_key": "API_KEY"},
        policy=QUICK,
    )
    assert connector.create_is_idempotent is False
    database = tmp_path / "jobs.db"
    async with Orchestrator(database, config=Config(), registry=registry) as orch:
        handle = await orch.submit(task(), {})
        assert await handle.result(20) == ("é", 7, 0.5, True)
        execution = await handle.get()
        lines = [line async for line in orch.logs(handle.id)]
        measured = (await orch.metrics(handle.id)).results[0].metric
        raising = await orch.submit(task("RAISE"), {})
        lost = await raising.wait(20)
    await connector.aclose()
    assert execution.message == f"key of {len(API_KEY)} characters"
    assert execution.custom_info == {
        "cost": {"bytes": 1024, "cached": False},
        "tags": ["a", "b"],
    }
    assert execution.log_links == [
        {"name": "console", "uri": "https://example.com/job"}
    ]
    assert lines == ["SUCCEEDED page 0", "SUCCEEDED page 1"]
    assert measured == "cpu of SUCCEEDED"
    assert lost.error_code == "CREATE_OUTCOME_UNKNOWN"
    assert "refused the key ***" in str(lost.last_error or lost.error_message)
    with closing(sqlite3.connect(database)) as connection:
        dump = "\n".join(connection.iterdump())
    assert API_KEY not in dump
    assert API_KEY.encode().hex() not in dump.lower()


@pytest.mark.parametrize(
    ("endpoints", "settings", "problem"),
    [
        ((), {}, "endpoints"),
        ("example.com:80", {"secure": False}, "plain text"),
        ("127.0.0.1:80", {"secure": False, "ca_file": "x"}, "secure=True"),
        ("127.0.0.1:80", {"key_file": "x"}, "cert_file"),
        ("127.0.0.1:80", {"metadata": {"X": "y"}}, "lower case"),
        ("127.0.0.1:80", {"metadata": {"x": "y\n"}}, "printable"),
        ("127.0.0.1:80", {"timeout": timedelta(0)}, "timeout"),
        ("127.0.0.1:80", {"patience": timedelta(1)}, "no setting"),
    ],
)
def test_a_service_that_cannot_be_meant_is_refused(
    endpoints: Any, settings: dict[str, Any], problem: str
) -> None:
    """The setting is named."""
    with pytest.raises(ConfigurationError, match=problem):
        RemoteConnector(endpoints, "phase", **settings)


@pytest.mark.parametrize(
    ("endpoint", "encrypted"),
    [
        ("127.0.0.1:8000", False),
        ("[::1]:8000", False),
        ("localhost:8000", False),
        ("unix:/tmp/socket", False),
        ("dns:///localhost:1", False),
        ("example.com:443", True),
        ("dns:///example.com:443", True),
        ("ipv4:10.0.0.1:443", True),
        ("localhost.example.com:443", True),
    ],
)
def test_tls_is_the_default_for_what_leaves_the_machine(
    endpoint: str,
    *,
    encrypted: bool,
) -> None:
    """Loopback and local sockets need none."""
    assert RemoteService(endpoints=endpoint).encrypted is encrypted
