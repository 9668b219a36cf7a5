"""RemoteConnector: what errors mean, where calls go, and what is never stored."""

from __future__ import annotations

import base64
import json
import socket
import sqlite3
from contextlib import asynccontextmanager, closing
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
    ConnectorAlreadyRegisteredError,
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
    from collections.abc import AsyncIterator, Sequence
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
    """A service that says for how long it knows a create, and what it has."""

    def __init__(
        self, told: str, kinds: Sequence[str] = ("phase",), name: str = "boastful"
    ) -> None:
        self.told, self.kinds, self.name = told, kinds, name

    async def ListConnectors(  # noqa: N802 - the RPC's name
        self, _request: Any, context: Any
    ) -> ListConnectorsResponse:
        """Say it, and name one connector."""
        await context.send_initial_metadata(((REMEMBERED_KEY, self.told),))
        found = Connector(name=self.name)
        for kind in self.kinds:
            found.supported_task_categories.add(name=kind)
        return ListConnectorsResponse(connectors=[found])


@asynccontextmanager
async def telling(boastful: Boastful) -> AsyncIterator[str]:
    """Serve it until the block ends, and tell where."""
    server = grpc.aio.server()
    service_pb2_grpc.add_ConnectorMetadataServiceServicer_to_server(boastful, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


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
    async with telling(Boastful(told)) as endpoint:
        [found] = await RemoteConnector.discover(endpoint, register=False)
    assert found.create_is_idempotent == believed
    await found.aclose()


async def test_discover_registers_all_or_nothing() -> None:
    """Red when what came before a taken task type stayed registered."""
    registry = Registry()
    registry.register(RemoteConnector("127.0.0.1:1", "taken"))
    before = list(registry)
    # A type that is told twice is one: Flyte's list has that after an override.
    async with telling(Boastful("0", ["first", "taken", "last", "last"])) as endpoint:
        with pytest.raises(ConnectorAlreadyRegisteredError, match="taken"):
            await RemoteConnector.discover(endpoint, registry=registry)
        assert list(registry) == before
        assert len(registry.list_connectors()) == 1
        found = await RemoteConnector.discover(
            endpoint, registry=registry, override=True
        )
    assert [connector.task_type_name for connector in found] == [
        *("first", "taken", "last"),
    ]
    assert set(registry) == set(found)
    for connector in found:
        await connector.aclose()


async def test_names_that_a_service_tells_steer_no_terminal() -> None:
    """A connector's name is cleaned; a task type, which is an address, is refused."""
    hostile = "\x1b[2Jred\x1b[31m\r\nname\u202e"
    async with telling(Boastful("0", ["phase"], hostile)) as endpoint:
        [found] = await RemoteConnector.discover(endpoint, register=False)
        await found.aclose()
    assert found.name == "red\ufffd name\ufffd"
    registry = Registry()
    async with telling(Boastful("0", ["fine", "phase\x1b[2J"])) as endpoint:
        with pytest.raises(ConfigurationError, match="'phase' has control") as caught:
            await RemoteConnector.discover(endpoint, registry=registry)
    assert str(caught.value).isprintable()
    assert not len(registry)


async def made_at(service: RemoteService) -> tuple[RemoteConnector, RemoteMeta]:
    """Return a connector to *service*, and the meta of a job there, as stored."""
    connector = RemoteConnector(service, "phase", 1)
    told = await connector.create(
        template(), "out", {"phase": "RUNNING"}, task_execution_metadata=metadata()
    )
    return connector, RemoteMeta.decode(told.encode())


@pytest.mark.parametrize(
    ("name", "other"), [(None, None), ("a", "b"), (None, "b"), ("a", None)]
)
async def test_a_job_is_not_looked_for_at_another_service(
    name: str | None, other: str | None, direct: Running
) -> None:
    """Its "not found" would end the job, and a retry would make a second one.

    Red when all services without a name had the same one.
    """
    here = RemoteService(endpoints=direct.endpoint, name=name)
    connector, job_there = await made_at(here)
    elsewhere = RemoteService(endpoints=closed_port(), name=other)
    with pytest.raises(TransientError, match=f"{here.identity}.*{elsewhere.identity}"):
        await RemoteConnector(elsewhere, "phase", 1).get(job_there)
    with pytest.raises(TransientError, match="at the service"):
        await RemoteConnector(elsewhere, "phase", 1).delete(job_there)
    assert (await connector.get(job_there)).message == "it is RUNNING"
    await connector.aclose()


async def test_a_service_that_has_moved_keeps_its_jobs_by_its_name(
    direct: Running,
) -> None:
    """Under another address, or more of them; without a name the order is free."""
    there, more = closed_port(), closed_port()
    job_of = RemoteMeta(meta().resource_meta, "phase", 1, service="moves")
    moved = RemoteService(endpoints=[direct.endpoint, more], name="moves")
    connector = RemoteConnector(moved, "phase", 1)
    assert (await connector.get(job_of)).message == "it is RUNNING"
    await connector.aclose()
    one = RemoteService(endpoints=[there, more])
    assert one.identity == RemoteService(endpoints=[more, there, more]).identity


@pytest.mark.parametrize("name", [None, "flyte", "elsewhere"])
async def test_a_job_of_the_time_before_is_at_a_service_without_a_name(
    name: str | None, direct: Running
) -> None:
    """Then that was "flyte"; such metas are polled on where they were."""
    job_there = meta()
    old = json.dumps(
        {
            "resource_meta": base64.urlsafe_b64encode(job_there.resource_meta).decode(),
            "task_type": "phase",
            "task_version": 1,
            "service": "flyte",
            "output_prefix": "",
        }
    )
    found = RemoteMeta.decode(old.encode())
    assert found == job_there
    service = RemoteService(endpoints=direct.endpoint, name=name)
    connector = RemoteConnector(service, "phase", 1)
    if name == "elsewhere":
        with pytest.raises(TransientError, match=r"'flyte'.*'elsewhere'"):
            await connector.get(found)
    else:
        assert (await connector.get(found)).message == "it is RUNNING"
    await connector.aclose()


def test_a_service_called_flyte_is_no_other() -> None:
    """A meta of now says that its service was given that name."""
    now = RemoteMeta(b"job", "phase", 1, service="flyte")
    assert RemoteMeta.decode(now.encode()) == now


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
