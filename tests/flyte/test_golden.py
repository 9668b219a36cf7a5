"""Wire compatibility: what Flyte's own service answered is what ours answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest

from orchestrator._connector import Resource
from orchestrator.flyte import RemoteConnector, RemoteMeta
from orchestrator.flyte._wire import native_inputs, resource_proto
from tests.flyte.cases import API_KEY, PHASES, Case, requests, stored
from tests.flyte.support import Running, answered, child

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CASES = {case.name: case for case in stored()}


def test_every_rpc_and_every_phase_is_stored() -> None:
    """The stored requests are those that the cases ask for, and all were answered."""
    wanted = {case.name: case.request for case in requests()}
    assert {name: case.request for name, case in CASES.items()} == wanted
    assert all(case.responses or case.status for case in CASES.values())


@pytest.mark.parametrize("name", CASES)
async def test_our_service_answers_what_flytes_service_answered(
    name: str, direct: Running
) -> None:
    """The same message or the same status, for every stored request."""
    case = CASES[name]
    async with grpc.aio.insecure_channel(direct.endpoint) as channel:
        told = await answered(channel, case)
    assert told.status == case.status
    if name == "create":  # the meta is nobody's business but its connector's
        [ours], [theirs] = told.responses, case.responses
        assert json.loads(ours.resource_meta) == json.loads(theirs.resource_meta)  # type: ignore[attr-defined]
        return
    assert told.responses == case.responses
    assert [r.SerializeToString(deterministic=True) for r in told.responses] == [
        r.SerializeToString(deterministic=True) for r in case.responses
    ]


@pytest.fixture(scope="module")
def replay() -> Iterator[Running]:
    """A service that answers only requests that are byte for byte as stored."""
    with child("-m", "tests.flyte.replay") as running:
        yield running


@pytest.fixture
async def remote(replay: Running) -> AsyncIterator[RemoteConnector]:
    """Our client, talking to it."""
    connector = RemoteConnector(replay.endpoint, "phase", 1)
    yield connector
    await connector.aclose()


def meta_of(case: Case) -> RemoteMeta:
    """Return our meta of the job that a stored request names."""
    prefix = getattr(case.request, "output_prefix", "")
    return RemoteMeta(
        case.request.resource_meta,  # type: ignore[attr-defined]
        "phase",
        1,
        output_prefix=prefix,
    )


async def test_our_client_sends_the_stored_create(remote: RemoteConnector) -> None:
    """Inputs, template, metadata, secrets: nothing is lost and nothing is added."""
    case = CASES["create"]
    request: object = case.request
    meta = await remote.create(
        task_template=request.template,  # type: ignore[attr-defined]
        output_prefix=request.output_prefix,  # type: ignore[attr-defined]
        inputs=native_inputs(request.template, request.inputs),  # type: ignore[attr-defined]
        task_execution_metadata=request.task_execution_metadata,  # type: ignore[attr-defined]
        api_key=API_KEY,
    )
    assert meta.resource_meta == case.responses[0].resource_meta  # type: ignore[attr-defined]
    assert RemoteMeta.decode(meta.encode()) == meta


@pytest.mark.parametrize("phase", PHASES)
async def test_our_client_reads_every_phase(
    remote: RemoteConnector, phase: str
) -> None:
    """What it makes of an answer is that answer again when it is written."""
    case = CASES[f"get-{phase.lower().replace('_', '-')}"]
    resource = await remote.get(meta_of(case), api_key=API_KEY)
    assert isinstance(resource, Resource)
    told = case.responses[0].resource  # type: ignore[attr-defined]
    again = resource_proto(resource)
    if told.HasField("outputs"):  # a map keeps no order, the names tell it
        order = [item.name for item in told.outputs.literals]
        again.outputs.literals.sort(key=lambda item: order.index(item.name))
    assert again == told


async def test_our_client_sends_the_other_stored_requests(
    remote: RemoteConnector,
) -> None:
    """Delete, metrics, both pages of logs, and the list of connectors."""
    await remote.delete(meta_of(CASES["delete"]), api_key=API_KEY)
    metrics = await remote.get_metrics(meta_of(CASES["metrics"]))
    assert metrics == CASES["metrics"].responses[0]
    for token in ("", "1"):
        case = CASES[f"logs-{token or 0}"]
        pages = [page async for page in remote.get_logs(meta_of(case), token=token)]
        assert tuple(pages) == case.responses
    endpoint = remote._service.targets[0]
    [found] = await RemoteConnector.discover(endpoint, register=False)
    assert (found.name, found.task_type_name) == ("Phase Connector", "phase")
    await found.aclose()


async def test_a_request_that_differs_is_noticed(remote: RemoteConnector) -> None:
    """The service of these tests is strict: another secret is another request."""
    with pytest.raises(Exception, match="no stored request"):
        await remote.get(meta_of(CASES["get-running"]), api_key="another")
