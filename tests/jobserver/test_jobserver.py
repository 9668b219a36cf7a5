"""The job server keeps its own promises: the witness must be above suspicion."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.tasks_pb2 import TaskTemplate

from orchestrator.errors import (
    AuthError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from orchestrator.testing import Fault, JobSpec, Rule, ServiceClass, State
from tests.jobserver.client import CutError, JobClient
from tests.jobserver.connectors import CONNECTORS, TOKEN_LABEL, JobMeta, JobServerL
from tests.jobserver.launch import job_server
from tests.jobserver.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.jobserver.connectors import JobServerConnector
    from tests.jobserver.launch import RunningServer

_ids = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server process for the whole module; tokens keep the tests apart."""
    path = tmp_path_factory.mktemp("jobserver") / "ledger.db"
    with job_server(path, remember_s=0.05) as running:
        yield running


@pytest.fixture
def token() -> str:
    """A token like those of the engine, used by one test only."""
    return f"o{next(_ids):032x}-1"


def talk(
    server: RunningServer, conversation: Callable[[JobClient], Awaitable[Any]]
) -> Any:
    """Run a conversation with the server on an event loop of its own."""

    async def run() -> Any:
        client = JobClient(server.host, server.port)
        try:
            return await conversation(client)
        finally:
            await client.aclose()

    return asyncio.run(run())


async def create(
    connector: JobServerConnector, token: str, spec: JobSpec | None = None
) -> JobMeta:
    """Call create as the engine does."""
    return await connector.create(
        TaskTemplate(),
        "",
        {"spec": json.dumps((spec or JobSpec()).to_json())},
        TaskExecutionMetadata(labels={TOKEN_LABEL: token}),
    )


def twice(server: RunningServer, service: ServiceClass, token: str) -> set[str]:
    """Create twice with one token; return the ids of the jobs."""

    async def conversation(client: JobClient) -> set[str]:
        connector = CONNECTORS[service](client)
        first = await create(connector, token)
        return {first.job_id, (await create(connector, token)).job_id}

    ids: set[str] = talk(server, conversation)
    return ids


def test_class_i_returns_the_first_job(server: RunningServer, token: str) -> None:
    """A second create with a token makes no second job, and both are recorded."""
    assert len(twice(server, ServiceClass.IDEMPOTENT, token)) == 1
    witness = Witness(server.ledger)
    assert token not in witness.duplicates()
    assert witness.calls("create")[token] == 2


@pytest.mark.parametrize("service", [ServiceClass.LISTED, ServiceClass.NEITHER])
def test_other_classes_make_a_second_job(
    server: RunningServer, token: str, service: ServiceClass
) -> None:
    """A second create makes a second job, and the witness counts it."""
    assert len(twice(server, service, token)) == 2
    witness = Witness(server.ledger)
    assert len(witness.duplicates()[token]) == 2
    assert len(witness.live_duplicates()[token]) == 2


def test_class_t_forgets(server: RunningServer, token: str) -> None:
    """Past its time the token is new again."""

    async def conversation(client: JobClient) -> int:
        connector = CONNECTORS[ServiceClass.TIMED](client)
        ids = {(await create(connector, token)).job_id}
        while len(ids) == 1:  # the server remembers for 50 ms
            ids.add((await create(connector, token)).job_id)
        return len(ids)

    assert talk(server, conversation) == 2


def test_class_l_finds_by_token(server: RunningServer, token: str) -> None:
    """Find returns the job of a token, None for a token without one."""

    async def conversation(client: JobClient) -> None:
        connector = JobServerL(client)
        assert await connector.find(token) is None
        meta = await create(connector, token)
        assert await connector.find(token) == meta
        other = CONNECTORS[ServiceClass.NEITHER](client)
        with pytest.raises(PermanentError):
            await other._call("GET", f"jobs?token={token}", {})

    talk(server, conversation)


def test_a_job_ends_by_polls_and_per_attempt(server: RunningServer) -> None:
    """A job ends at its k-th poll, as its attempt is told to."""
    execution = f"o{next(_ids):032x}"
    spec = JobSpec(polls=2, ends=(State.RETRYABLE, State.SUCCEEDED))

    async def conversation(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.IDEMPOTENT](client)
        first = await create(connector, f"{execution}-1", spec)
        assert (await connector.get(first)).phase == TaskExecution.RUNNING
        assert (await connector.get(first)).phase == TaskExecution.RETRYABLE_FAILED
        second = await create(connector, f"{execution}-2", spec)
        await connector.get(second)
        resource = await connector.get(second)
        assert resource.phase == TaskExecution.SUCCEEDED
        outputs = {"job_id": second.job_id, "token": f"{execution}-2"}
        assert resource.outputs == outputs

    talk(server, conversation)
    witness = Witness(server.ledger)
    jobs = [job for job in witness.jobs() if job.token.startswith(execution)]
    assert [job.state for job in jobs] == [State.RETRYABLE, State.SUCCEEDED]
    assert [job.attempt for job in jobs] == [1, 2]
    assert not any(job.live for job in jobs)


def test_the_witness_sees_an_attempt_that_began_too_early(
    server: RunningServer,
) -> None:
    """Attempt 2 beside a live attempt 1 is an overlap and two orphans."""
    execution = f"o{next(_ids):032x}"

    async def conversation(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.IDEMPOTENT](client)
        await create(connector, f"{execution}-1")
        await create(connector, f"{execution}-2")

    talk(server, conversation)
    witness = Witness(server.ledger)
    overlaps = [pair for pair in witness.overlaps() if execution in pair[0].token]
    assert [(a.attempt, b.attempt) for a, b in overlaps] == [(1, 2)]
    orphans = [job for job in witness.orphans() if execution in job.token]
    assert len(orphans) == 2
    wanted = frozenset(job.id for job in orphans)
    assert not [job for job in witness.orphans(wanted) if execution in job.token]


def test_a_delete_takes_its_time_and_is_counted(
    server: RunningServer, token: str
) -> None:
    """A slow delete leaves the job live until a get sees its end."""
    spec = JobSpec(until_told=True, delete_s=0.02)

    async def conversation(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.IDEMPOTENT](client)
        meta = await create(connector, token, spec)
        await connector.delete(meta)
        await connector.delete(meta)
        assert (await connector.get(meta)).phase == TaskExecution.RUNNING
        while (await connector.get(meta)).phase != TaskExecution.ABORTED:
            pass
        with pytest.raises(ResourceGoneError):
            await connector.get(JobMeta("job-unknown"))

    talk(server, conversation)
    (job,) = Witness(server.ledger).by_token()[token]
    assert (job.deletes, job.state, job.live) == (2, State.ABORTED, False)


def test_a_told_job_ends_as_told(server: RunningServer, token: str) -> None:
    """A job that waits for a word ends with it."""

    async def conversation(client: JobClient) -> int:
        connector = CONNECTORS[ServiceClass.NEITHER](client)
        meta = await create(connector, token, JobSpec(until_told=True))
        assert (await connector.get(meta)).phase == TaskExecution.RUNNING
        body = {"state": "FAILED"}
        await client.request("POST", f"/N/jobs/{meta.job_id}/end", body)
        phase: int = (await connector.get(meta)).phase
        return phase

    assert talk(server, conversation) == TaskExecution.FAILED


@pytest.mark.parametrize(
    ("rule", "error", "made"),
    [
        (Rule(do=Fault.LOSE, times=1), CutError, 1),
        (Rule(do=Fault.CUT, times=1), CutError, 0),
        (Rule(do=Fault.REFUSE, status=429, times=1), ThrottledError, 0),
        (Rule(do=Fault.REFUSE, status=503, times=1), TransientError, 0),
        (Rule(do=Fault.REFUSE, status=401, times=1), AuthError, 0),
        (Rule(do=Fault.REFUSE, status=422, times=1), PermanentError, 0),
        (Rule(do=Fault.REFUSE, status=500, times=1), RuntimeError, 0),
        (Rule(do=Fault.HANG, times=1), TimeoutError, 0),
        (Rule(do=Fault.HANG_AFTER, times=1), TimeoutError, 1),
        (Rule(do=Fault.LATE, delay_s=60, times=1), TimeoutError, 1),
        (Rule(do=Fault.STALL, delay_s=60, times=1), TimeoutError, 0),
    ],
)
def test_faults_tell_the_caller_only_what_is_true(
    server: RunningServer, token: str, rule: Rule, error: type[Exception], made: int
) -> None:
    """Each fault raises its error, and the ledger knows whether the job was made."""

    async def conversation(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.NEITHER](client)
        spec = JobSpec(faults=(rule,))
        with pytest.raises((error, ConnectionResetError)) as caught:
            await asyncio.wait_for(create(connector, token, spec), 0.1)
        if error is not CutError:
            assert caught.type is error

    talk(server, conversation)
    assert len(Witness(server.ledger).by_token().get(token, [])) == made


def test_a_withheld_answer_comes_when_it_is_released(
    server: RunningServer, token: str
) -> None:
    """The job is made at once; its creator learns of it when the test says so."""
    spec = JobSpec(faults=(Rule(do=Fault.WITHHOLD, verb="create"),))

    async def conversation(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.NEITHER](client)
        waiting = asyncio.create_task(create(connector, token, spec))
        released = False
        while not released:
            answer = await client.request("PUT", "/release", {"token": token})
            released = answer.body["released"]
        meta = await waiting
        made = await asyncio.to_thread(Witness(server.ledger).by_token)
        assert [job.id for job in made[token]] == [meta.job_id]

    talk(server, conversation)


def test_throttling_carries_retry_after(server: RunningServer, token: str) -> None:
    """A 429 brings its Retry-After, and the next create passes."""
    rule = Rule(do=Fault.REFUSE, status=429, retry_after=2.5, times=1)

    async def conversation(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.IDEMPOTENT](client)
        with pytest.raises(ThrottledError) as caught:
            await create(connector, token, JobSpec(faults=(rule,)))
        assert caught.value.retry_after == 2.5
        await create(connector, token)

    talk(server, conversation)
    assert Witness(server.ledger).calls("create")[token] == 1


def test_an_unreachable_server_is_transient(unused_tcp_port: int, token: str) -> None:
    """What was never sent is said to be not created."""

    async def conversation() -> None:
        client = JobClient("127.0.0.1", unused_tcp_port)
        with pytest.raises(TransientError):
            await create(CONNECTORS[ServiceClass.NEITHER](client), token)

    asyncio.run(conversation())


def test_many_requests_hang_while_others_are_answered(server: RunningServer) -> None:
    """A hundred open connections do not keep the next request waiting."""
    tokens = [f"o{next(_ids):032x}-1" for _ in range(100)]
    hang = JobSpec(faults=(Rule(do=Fault.HANG_AFTER),))

    async def conversation(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.IDEMPOTENT](client)
        hanging = [
            asyncio.create_task(create(connector, token, hang)) for token in tokens
        ]
        try:
            found = 0
            while found < len(tokens):
                answer = await client.request("GET", "/statistics")
                assert answer.status == 200
                made = await asyncio.to_thread(Witness(server.ledger).by_token)
                found = sum(token in made for token in tokens)
        finally:
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    talk(server, conversation)


def test_a_restarted_server_knows_its_jobs_and_the_ledger_is_append_only(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory, token: str
) -> None:
    """Jobs, tokens and polls outlive the server; its rows cannot be changed."""
    path = tmp_path_factory.mktemp("restart") / "ledger.db"
    spec = JobSpec(polls=2)

    async def before(client: JobClient) -> JobMeta:
        connector = CONNECTORS[ServiceClass.IDEMPOTENT](client)
        meta = await create(connector, token, spec)
        await connector.get(meta)
        return meta

    async def after(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.IDEMPOTENT](client)
        assert await create(connector, token, spec) == meta
        assert (await connector.get(meta)).phase == TaskExecution.SUCCEEDED

    with job_server(path) as first:
        meta = talk(first, before)
    with job_server(path) as second:
        talk(second, after)
    assert Witness(path).totals()["live"] == 0
    with closing(sqlite3.connect(path)) as db:
        for table in ("job", "job_state", "call"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - names above


def test_server_rules_are_replaced_by_request(
    server: RunningServer, token: str
) -> None:
    """Rules sent to the server hit every job they match until they are replaced."""
    rule = Rule(do=Fault.REFUSE, verb="create", token=token, status=429)

    async def conversation(client: JobClient) -> None:
        connector = CONNECTORS[ServiceClass.IDEMPOTENT](client)
        await client.request("PUT", "/rules", [rule.to_json()])
        with pytest.raises(ThrottledError):
            await create(connector, token)
        await client.request("PUT", "/rules", [])
        await create(connector, token)
        assert (await client.request("PUT", "/rules", [{"no": 1}])).status == 400

    talk(server, conversation)


@pytest.mark.parametrize(
    ("rule", "hits"),
    [
        (Rule(do=Fault.CUT), [True, True, True]),
        (Rule(do=Fault.CUT, times=1), [True, False, False]),
        (Rule(do=Fault.CUT, skip=1, times=1), [False, True, False]),
        (Rule(do=Fault.CUT, chance=0.0), [False, False, False]),
    ],
)
def test_a_rule_counts(rule: Rule, hits: list[bool]) -> None:
    """Skip, times and chance decide which requests a rule hits."""
    assert [rule.hits(nth, "seed") for nth in (1, 2, 3)] == hits


def test_specs_come_back_as_they_went() -> None:
    """A spec survives JSON, and a misspelt field is refused."""
    faults = (Rule(do=Fault.LATE, delay_s=0.5),)
    spec = JobSpec(run_s=0.5, polls=3, ends=(State.FAILED,), faults=faults)
    assert JobSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(ValueError, match="poles"):
        JobSpec.from_json({"poles": 3})
