"""Retries, timeouts, keys and outputs: what an execution may cost, and what it pays."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Backoff, Orchestrator, Policy, RetryStrategy, Timeout
from orchestrator.connectors import Resource
from orchestrator.errors import (
    ExecutionFailedError,
    ExecutionTimedOutError,
    IdempotencyConflictError,
)
from tests.engine.kit import (
    DONE,
    FAILED,
    KILLED,
    QUEUED,
    RETRYABLE,
    RUNNING,
    Clock,
    Script,
    a_task,
    causes,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

QUICK = Policy(jitter=0.0, poll_delay_min=timedelta(seconds=1), poll_factor=1.0)


def _creates(script: Script) -> list[float]:
    return [at for call, at in script.times if call == "create"]


async def test_retries_wait_by_the_tasks_backoff(engine: Start, clock: Clock) -> None:
    """RETRYABLE_FAILED spends a retry: 10, 20, 40 ... seconds, up to the cap."""
    script = Script(clock=clock, policy=QUICK, get=[RETRYABLE] * 4 + [DONE])
    orchestrator = await engine(script)
    backoff = Backoff(base=timedelta(seconds=10), factor=2, cap=timedelta(seconds=30))
    task = a_task(retries=RetryStrategy(count=4, backoff=backoff))
    handle = await orchestrator.submit(task)
    await clock.pass_(2, orchestrator)
    waiting = await handle.get()
    assert (waiting.phase, waiting.attempt) == ("QUEUED", 2)
    assert waiting.waiting_on == "RETRY_DELAY"
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.attempt) == ("SUCCEEDED", 5)
    # Each attempt polls once, a second after its create.
    assert _creates(script) == [0, 11, 32, 63, 94]
    tokens = [
        given["metadata"].labels["orchestrator-token"]
        for call, given in script.calls
        if call == "create"
    ]
    assert tokens == [f"o{handle.id}-{attempt}" for attempt in range(1, 6)]


async def test_retries_run_out(engine: Start, clock: Clock) -> None:
    orchestrator = await engine(Script(get=RETRYABLE))
    handle = await orchestrator.submit(a_task(retries=2))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.attempt) == ("FAILED", 3)
    assert (ended.error_code, ended.error_message) == ("RETRIES_EXHAUSTED", "unlucky")
    with pytest.raises(RuntimeError, match="unlucky"):
        await handle.result()


@pytest.mark.parametrize(
    ("answer", "phase", "code"),
    [(FAILED, "FAILED", "REMOTE_FAILED"), (KILLED, "ABORTED", "REMOTE_ABORTED")],
)
async def test_a_remote_end_is_not_retried(
    answer: Resource, phase: str, code: str, engine: Start, clock: Clock
) -> None:
    """FAILED and ABORTED are the service's last word."""
    script = Script(get=answer)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task(retries=3))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == (phase, code)
    assert script.number("create") == 1


async def test_a_policy_may_retry_what_failed(engine: Start, clock: Clock) -> None:
    policy = Policy(jitter=0.0, retry_on_failed=True)
    orchestrator = await engine(Script(policy=policy, get=[FAILED, DONE]))
    handle = await orchestrator.submit(a_task(retries=1))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.attempt) == ("SUCCEEDED", 2)


async def test_the_run_timeout_counts_from_the_remote_start(
    engine: Start, clock: Clock
) -> None:
    """Waiting at the service is free; each attempt has the whole time."""
    script = Script(
        clock=clock,
        policy=QUICK,
        get=[QUEUED] * 50 + [RUNNING],
        delete_is_final=True,
    )
    orchestrator = await engine(script)
    task = a_task(timeout=Timeout(max_runtime=timedelta(seconds=30)), retries=1)
    handle = await orchestrator.submit(task)
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("TIMED_OUT", "RUN_TIMEOUT")
    deletes = [at for call, at in script.times if call == "delete"]
    # 51 polls until it ran, 30 s; then at once, with 1 s until the first poll.
    assert deletes == [81, 112]
    assert "TIMEOUT_RETRY" in await causes(orchestrator, handle.id)
    with pytest.raises(ExecutionTimedOutError, match="ran longer than 30 s"):
        await handle.result()


async def test_the_queued_timeout_counts_waiting_here_and_there(
    engine: Start, clock: Clock
) -> None:
    script = Script(clock=clock, policy=QUICK, get=QUEUED, delete_is_final=True)
    orchestrator = await engine(script)
    task = a_task(timeout=Timeout(max_queued_time=timedelta(seconds=45)))
    handle = await orchestrator.submit(task)
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("TIMED_OUT", "QUEUED_TIMEOUT")
    assert [at for call, at in script.times if call == "delete"] == [45]


async def test_the_deadline_is_over_all_attempts(engine: Start, clock: Clock) -> None:
    """A retry that would begin after it is not begun."""
    script = Script(clock=clock, policy=QUICK, get=RETRYABLE)
    orchestrator = await engine(script)
    backoff = Backoff(base=timedelta(seconds=40))
    task = a_task(
        timeout=Timeout(deadline=timedelta(seconds=100)),
        retries=RetryStrategy(count=50, backoff=backoff),
    )
    handle = await orchestrator.submit(task)
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("FAILED", "RETRIES_EXHAUSTED")
    assert _creates(script) == [0, 41, 82]
    assert clock.monotonic() == 83


async def test_the_deadline_deletes_a_running_job(engine: Start, clock: Clock) -> None:
    script = Script(clock=clock, get=RUNNING, delete_is_final=True)
    orchestrator = await engine(script)
    task = a_task(timeout=Timeout(deadline=timedelta(minutes=10)), retries=5)
    handle = await orchestrator.submit(task)
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("TIMED_OUT", "DEADLINE_EXCEEDED")
    assert [at for call, at in script.times if call == "delete"] == [600]
    assert script.number("create") == 1


async def test_a_job_that_finished_first_is_paid_for(
    engine: Start, clock: Clock
) -> None:
    """It succeeded before the delete took effect: the outputs are the user's."""
    script = Script(get=[RUNNING, DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(1, orchestrator)
    await handle.abort()
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "SUCCEEDED"
    assert await handle.result() == "good"
    assert (await causes(orchestrator, handle.id))[-1] == "FINISHED_FIRST"


async def test_the_same_key_pays_once(engine: Start, clock: Clock) -> None:
    """A script that was killed and is run again gets the same execution."""
    script = Script()
    first = await engine(script)
    handle = await first.submit(a_task(), idempotency_key="nightly")
    await first.crash()
    second = await engine(script)
    again = await second.submit(a_task(), idempotency_key="nightly")
    assert (again.id, again.existing) == (handle.id, True)
    await clock.until_ended(second, again.id)
    third = await second.submit(a_task(), idempotency_key="nightly")
    assert (third.id, await third.result()) == (handle.id, "good")
    assert script.number("create") == 1


async def test_a_key_of_another_request_is_refused_and_stores_nothing(
    engine: Start, clock: Clock
) -> None:
    orchestrator = await engine(Script(), start=False)
    await orchestrator.submit(a_task("one"), idempotency_key="key")
    with pytest.raises(IdempotencyConflictError):
        await orchestrator.submit_many(
            [
                (a_task("fresh"), {}),
                (a_task("two"), {}, {"idempotency_key": "key"}),
            ]
        )
    assert [e.name for e in await orchestrator.list()] == ["one"]


async def test_a_failed_holder_of_a_key_may_be_replaced(
    engine: Start, clock: Clock
) -> None:
    script = Script(get=[FAILED, DONE])
    orchestrator = await engine(script)
    options: dict[str, Any] = {"idempotency_key": "key"}
    bad = await orchestrator.submit(a_task(), **options)
    await clock.until_ended(orchestrator, bad.id)
    assert (await orchestrator.submit(a_task(), **options)).id == bad.id
    good = await orchestrator.submit(
        a_task(), **options, on_existing="retry_if_not_succeeded"
    )
    assert good.id != bad.id
    assert (await clock.until_ended(orchestrator, good.id)).phase == "SUCCEEDED"
    assert (await good.get()).retry_of == bad.id


MISFITS = [
    ({"result": 5}, "result"),
    ({}, "result"),
    ({"result": "x", "more": "y"}, "more"),
    ({"result": "\ud800"}, "result"),
    ({"result": "x" * 2_000_000}, "bytes"),
]


@pytest.mark.parametrize(("outputs", "named"), MISFITS, ids=range(len(MISFITS)))
async def test_outputs_that_do_not_fit_end_without_a_retry(
    outputs: dict[str, Any], named: str, engine: Start, clock: Clock
) -> None:
    """The field is named; the job was paid for once, and is not paid for twice."""
    answer = Resource(phase=TaskExecution.SUCCEEDED, outputs=outputs)
    policy = Policy(jitter=0.0, output_bytes_max=1_000_000)
    script = Script(get=answer, policy=policy)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task(retries=3))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("FAILED", "OUTPUTS_REJECTED")
    assert named in (ended.error_message or "")
    assert script.number("create") == 1
    with pytest.raises(ExecutionFailedError):
        await handle.result()


async def test_waiting_longer_than_allowed_ends_the_wait_alone(
    engine: Start, clock: Clock
) -> None:
    orchestrator = await engine(Script(get=RUNNING))
    handle = await orchestrator.submit(a_task())
    waiting = asyncio.create_task(handle.wait(timeout=90))
    await clock.pass_(89, orchestrator)
    assert not waiting.done()
    await clock.pass_(1, orchestrator)
    with pytest.raises(TimeoutError, match="not terminal after 90 s"):
        await waiting
    assert (await handle.get()).phase == "RUNNING"
