"""The server around the services: who may call, what is refused, how it stops."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import urllib.request
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from flyteidl2.connector import connector_pb2, service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from orchestrator._registry import Registry
from orchestrator.cli import main
from orchestrator.connectors import ConnectorService
from orchestrator.errors import AuthError, ConfigurationError
from orchestrator.flyte import ConnectorServer, RemoteConnector, ServerOptions
from orchestrator.flyte._server import SERVICES
from tests.flyte.cases import API_KEY, create_request, get_request, job
from tests.flyte.support import CALL_S, STOP_S, Running, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Health = health_pb2.HealthCheckResponse
TOKEN = "token-of-the-service"  # noqa: S105 - of these tests


@pytest.fixture
async def channel(direct: Running) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the pass-through service."""
    async with grpc.aio.insecure_channel(direct.endpoint) as found:
        yield found


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return how a call ends that must not succeed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_an_error_is_internal_and_tells_no_secret(
    channel: grpc.aio.Channel,
) -> None:
    """Flyte's code and sentence; the key that the error quoted is hidden."""
    jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
    code, details = await refused(jobs.CreateTask(create_request("RAISE")))
    assert code is grpc.StatusCode.INTERNAL
    assert details == ("failed to create phase task with error:\n refused the key ***.")
    broken = get_request("RUNNING")
    broken.resource_meta = b"{}"
    code, details = await refused(jobs.GetTask(broken))
    assert code is grpc.StatusCode.INTERNAL
    assert "Traceback" not in details
    assert "PhaseMeta cannot be decoded: phase" in details


async def test_what_is_not_there_is_not_found_in_every_rpc(
    channel: grpc.aio.Channel,
) -> None:
    """Unknown task types and names; also in the RPCs for which Flyte says UNKNOWN."""
    jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
    about = service_pb2_grpc.ConnectorMetadataServiceStub(channel)
    missing = job("RUNNING", "none")
    code, _ = await refused(
        jobs.GetTaskMetrics(connector_pb2.GetTaskMetricsRequest(**missing))
    )
    assert code is grpc.StatusCode.NOT_FOUND
    logs = jobs.GetTaskLogs(connector_pb2.GetTaskLogsRequest(**missing))
    assert (await refused(logs.read()))[0] is grpc.StatusCode.NOT_FOUND
    code, details = await refused(
        about.GetConnector(connector_pb2.GetConnectorRequest(name="nobody"))
    )
    assert code is grpc.StatusCode.NOT_FOUND
    assert details == "Cannot find connector for name: nobody."
    reserved = create_request()
    reserved.connection.secrets["inputs"] = "x"
    code, details = await refused(jobs.CreateTask(reserved))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "connection.inputs" in details


async def test_health_and_reflection_tell_of_both_services(
    channel: grpc.aio.Channel,
) -> None:
    """Probes and tools find what they look for."""
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", *SERVICES):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == Health.SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = [a async for a in stub.ServerReflectionInfo(iter([request]))]
    found = {service.name for service in answer.list_services_response.service}
    assert set(SERVICES) <= found


async def test_prometheus_counts_under_flytes_names(
    channel: grpc.aio.Channel, direct: Running
) -> None:
    """Successes, failures by Flyte's HTTP code, latency, size of inputs.

    Red when each task type that somebody invented was a series of its own, for ever.
    """
    jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
    await jobs.CreateTask(create_request())
    for number in range(20):
        await refused(jobs.CreateTask(create_request(task_type=f"invented-{number}")))
        await refused(jobs.GetTask(get_request("RUNNING", f"invented-{number}")))
    url = f"http://127.0.0.1:{direct.told['prometheus_port']}/metrics"

    def read() -> str:
        with urllib.request.urlopen(url, timeout=CALL_S) as page:
            return str(page.read().decode())

    text = await asyncio.to_thread(read)
    kind = 'operation="create",task_type="phase"'
    assert f"flyte_connector_requests_success_total{{{kind}}}" in text
    assert "invented" not in text
    unknown = 'error_code="404",operation="create",task_type="(not registered)"'
    assert text.count(f"flyte_connector_requests_failure_total{{{unknown}}}") == 1
    assert "flyte_connector_request_latency_seconds_count" in text
    assert 'flyte_connector_input_literal_bytes_sum{task_type="phase"}' in text


async def test_a_stopping_server_says_so_and_ends_after_its_grace() -> None:
    """NOT_SERVING comes while a call is in flight; then the process ends with 0."""
    with service("--grace", "1") as running:
        async with grpc.aio.insecure_channel(running.endpoint) as channel:
            jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]))
            assert (await watch.read()).status == Health.SERVING
            hanging = jobs.GetTask(get_request("HANG"), timeout=CALL_S)
            await jobs.GetTask(get_request("RUNNING"))  # the server has both by now
            running.process.send_signal(signal.SIGTERM)
            assert (await watch.read()).status == Health.NOT_SERVING
            code, _ = await refused(hanging)
            assert code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
            watch.cancel()
        ended = await asyncio.to_thread(running.process.wait, STOP_S)
    assert ended == 0


def openssl(folder: Path, *arguments: str) -> None:
    """Run the command that makes certificates."""
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates of a server and a client."""
    folder = tmp_path_factory.mktemp("tls")
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        folder, *new, "-x509", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem"
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        csr = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, *new, *csr)
        openssl(
            folder,
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem"),
            *("-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"),
            *("-out", f"{name}.pem"),
        )
    return folder


async def listed(endpoint: str, **settings: Any) -> list[str]:
    """Return the task types that a service tells our client."""
    settings = {"connect_timeout": timedelta(seconds=2), **settings}
    found = await RemoteConnector.discover(endpoint, register=False, **settings)
    await found[0].aclose()
    return [connector.task_type_name for connector in found]


async def test_tls_mtls_and_a_token_keep_strangers_out(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wall by itself; health needs no token, reflection does."""
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.setenv("WRONG", "another")
    pem = {name: str(certificates / name) for name in ("ca.pem", "server.pem")}
    walls = (
        *("--cert", pem["server.pem"], "--key", str(certificates / "server.key")),
        *("--client-ca", pem["ca.pem"], "--token-env", "TOKEN"),
    )
    mine = {
        "cert_file": certificates / "client.pem",
        "key_file": certificates / "client.key",
        "ca_file": pem["ca.pem"],
    }
    named = {"token": "TOKEN"}
    with service(*walls) as running:
        assert await listed(running.endpoint, **mine, **named) == ["phase"]
        quick = {"timeout": timedelta(seconds=2)}
        for missing in (
            {"secure": False},  # plain text
            {"secure": True},  # an authority that nobody knows
            {"ca_file": pem["ca.pem"]},  # no certificate of the client
        ):
            with pytest.raises(Exception, match=r"UNAVAILABLE|DEADLINE"):
                await listed(running.endpoint, **named, **missing, **quick)
        for token in (None, "WRONG"):
            with pytest.raises(AuthError, match="wants a token"):
                await listed(running.endpoint, **mine, token=token)
        files = ("ca.pem", "client.key", "client.pem")
        parts = [(certificates / name).read_bytes() for name in files]
        credentials = grpc.ssl_channel_credentials(*parts)
        async with grpc.aio.secure_channel(running.endpoint, credentials) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == Health.SERVING
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            # Nothing is sent: a message that meets the refusal is told as INTERNAL.
            stream = stub.ServerReflectionInfo(iter(()))
            assert (await refused(stream.read()))[0] is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"host": "0.0.0.0"}, "insecure"),  # noqa: S104 - that is what is refused
        ({"host": "::"}, "insecure"),
        ({"host": "example.com"}, "insecure"),
        ({"cert_file": "a.pem"}, "key_file"),
        ({"client_ca_file": "a.pem"}, "mTLS"),
        ({"port": 70000}, "port"),
        ({"message_bytes_max": 0}, "message_bytes_max"),
    ],
)
def test_what_would_be_unsafe_is_refused_before_it_listens(
    settings: dict[str, Any], problem: str
) -> None:
    """The setting is named; so does the command, with exit code 2."""
    with pytest.raises(ConfigurationError, match=problem):
        ServerOptions(**settings)


def test_beyond_loopback_it_takes_a_word_or_a_certificate() -> None:
    """Then it is the operator's decision."""
    assert ServerOptions(host="0.0.0.0", insecure=True)  # noqa: S104
    assert ServerOptions(host="0.0.0.0", cert_file="c", key_file="k")  # noqa: S104
    assert main(["connectors", "serve", "--host", "0.0.0.0"]) == 2  # noqa: S104


async def test_a_port_that_is_taken_is_said() -> None:
    """Not shared: half of the calls would go to the other server."""
    async with ConnectorServer(ServerOptions(port=0), registry=Registry()) as first:
        second = ConnectorServer(ServerOptions(port=first.port), registry=Registry())
        with pytest.raises(ConfigurationError, match=f"listen on .*{first.port}"):
            await second.start()


async def test_connector_service_has_flytes_shape() -> None:
    """``ConnectorService.run`` and ``run.aio``, with Flyte's arguments."""
    await ConnectorService.run.aio(0, None, 10, 0.2, None)


def test_the_key_of_these_tests_is_long_enough_to_be_hidden() -> None:
    """A short value is not redacted, and the test above would prove nothing."""
    assert len(API_KEY) > 8
