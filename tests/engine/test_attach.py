"""Jobs that were created elsewhere: taken over, then treated like any other."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator import Registry
from orchestrator._config import Policy
from orchestrator.errors import (
    ConnectorNotFoundError,
    InvalidInputError,
    ResourceGoneError,
)
from tests.engine.kit import DONE, KILLED, RETRYABLE, RUNNING, Meta, Script, a_task
from tests.engine.kit import causes as causes_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator
    from tests.engine.kit import Clock

    Start = Callable[..., Awaitable[Orchestrator]]


async def test_an_attached_job_is_polled_to_its_end_and_never_created(
    engine: Start, clock: Clock
) -> None:
    script = Script(get=[RUNNING, DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.attach(a_task(), Meta("theirs"), labels={"team": "a"})
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.job_key) == ("SUCCEEDED", "theirs")
    assert ended.labels == {"team": "a"}
    assert script.number("create") == 0
    assert (await causes_of(orchestrator, handle.id))[0] == "ATTACHED"
    assert await handle.result() == "good"


async def test_a_job_is_attached_once_also_after_a_restart(
    engine: Start, clock: Clock
) -> None:
    """Its key says which job it is: whoever attaches it again gets the same one."""
    first = await engine(Script(get=RUNNING))
    handles = await asyncio.gather(
        *(first.attach(a_task(), Meta("theirs")) for _ in range(5))
    )
    assert len({handle.id for handle in handles}) == 1
    assert sorted(handle.existing for handle in handles) == [False, *[True] * 4]
    await clock.settle(first)
    await first.crash()
    second = await engine(Script(get=DONE))
    again = await second.attach(a_task(), Meta("theirs"))
    assert (again.id, again.existing) == (handles[0].id, True)
    assert (await clock.until_ended(second, again.id)).phase == "SUCCEEDED"


async def test_the_abort_of_an_attached_job_deletes_it(
    engine: Start, clock: Clock
) -> None:
    script = Script(get=[RUNNING, KILLED])
    orchestrator = await engine(script)
    handle = await orchestrator.attach(a_task(), Meta("theirs"))
    await script.called("get")
    await orchestrator.abort(handle.id)
    assert (await clock.until_ended(orchestrator, handle.id)).phase == "ABORTED"
    [deleted] = [given["meta"] for call, given in script.calls if call == "delete"]
    assert deleted == Meta("theirs")


async def test_the_next_attempt_of_an_attached_job_is_created(
    engine: Start, clock: Clock
) -> None:
    script = Script(create=Meta("ours"), get=[RETRYABLE, DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.attach(a_task(retries=1), Meta("theirs"))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.attempt, ended.job_key) == ("SUCCEEDED", 2, "ours")


async def test_a_job_that_the_service_does_not_know_is_not_replaced(
    engine: Start, clock: Clock
) -> None:
    """A mistyped handle must not pay for a job that nobody asked for."""
    script = Script(get=ResourceGoneError("no such job"))
    orchestrator = await engine(script)
    handle = await orchestrator.attach(a_task(retries=3), Meta("mistyped"))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("FAILED", "LOST")
    assert script.number("create") == 0


async def test_a_job_that_is_owed_its_deletion_cannot_be_attached(
    engine: Start, clock: Clock
) -> None:
    """It has been given up durably, and nobody may count on it any more."""
    gone = ConnectionError("away")
    policy = Policy(jitter=0.0, cleanup_deadline=timedelta(minutes=1))
    script = Script(create=Meta("theirs"), get=RUNNING, delete=gone, policy=policy)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(5, orchestrator)
    await orchestrator.abort(handle.id)
    await clock.until_ended(orchestrator, handle.id)
    with pytest.raises(InvalidInputError, match="deleted for") as caught:
        await orchestrator.attach(a_task(), Meta("theirs"))
    assert caught.value.field == "resource_meta"


async def test_what_is_no_handle_of_the_connector_is_refused(engine: Start) -> None:
    orchestrator = await engine(Script())
    with pytest.raises(InvalidInputError, match="is no ") as caught:
        await orchestrator.attach(a_task(), "job-1")
    assert caught.value.field == "resource_meta"
    with pytest.raises(ConnectorNotFoundError):
        await orchestrator.attach(a_task(task_type="unknown"), Meta("job-1"))
    assert await orchestrator.list() == []
    reader = await engine(registry=Registry(), start=False)
    with pytest.raises(ConnectorNotFoundError):
        await reader.attach(a_task(), Meta("job-1"))
