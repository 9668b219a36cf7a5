"""Opening, stopping and crashing an engine while calls are under way."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Config, Orchestrator
from orchestrator.errors import ConfigurationError, StoreUnavailableError
from tests.engine.kit import (
    DEADLINE_S,
    DONE,
    RUNNING,
    Clock,
    Gate,
    Meta,
    Script,
    a_task,
    causes,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block


async def test_a_close_lets_calls_in_flight_end(engine: Start, clock: Clock) -> None:
    """A create that answers while the engine stops is written down."""
    gate = Gate(Meta("in-flight"))
    orchestrator = await engine(Script(create=gate.answer()))
    handle = await orchestrator.submit(a_task())
    await gate.wait()
    closing = asyncio.create_task(orchestrator.close())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    gate.opened.set()
    await closing
    reader = await engine(Script(), start=False)
    row = await reader.get(handle.id)
    assert (row.phase, row.job_key) == ("RUNNING", "in-flight")


async def test_a_close_waits_no_longer_than_it_was_told(
    engine: Start, clock: Clock
) -> None:
    """A call that hangs is cut off; its row is found again at the next start."""
    gate = Gate()
    config = Config(stop_timeout=timedelta(seconds=7), watch=timedelta(minutes=5))
    orchestrator = await engine(
        Script(create=gate.answer(), create_is_idempotent=True), config=config
    )
    handle = await orchestrator.submit(a_task())
    await gate.wait()
    closing = asyncio.create_task(orchestrator.close())
    while (clock.next_in() or 100) > 7:  # noqa: ASYNC110 - a timer has no event
        await asyncio.sleep(0)
    clock.advance(6.9)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    clock.advance(0.2)
    async with asyncio.timeout(DEADLINE_S):
        await closing
    again = await engine(Script(create_is_idempotent=True))
    ended = await clock.until_ended(again, handle.id)
    assert ended.phase == "SUCCEEDED"
    seen = await causes(again, handle.id)
    assert seen[1:4] == ["CREATE_INTENT", "CREATE_INTERRUPTED", "REPLAYED"]


@pytest.mark.parametrize("call", ["get", "delete"])
async def test_a_poll_or_delete_that_was_cut_off_is_made_again(
    call: str, engine: Start, clock: Clock
) -> None:
    gate = Gate()
    answers: dict[str, Any] = {"get": RUNNING, call: gate.answer()}
    orchestrator = await engine(Script(**answers))
    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    if call == "delete":
        await handle.abort()
    else:
        clock.advance(1)
    await gate.wait()
    await orchestrator.crash()
    again = await engine(Script(get=[RUNNING, DONE], delete_is_final=True))
    ended = await clock.until_ended(again, handle.id)
    assert ended.phase == ("ABORTED" if call == "delete" else "SUCCEEDED")
    assert ended.attempt == 1


async def test_a_crash_writes_nothing_more(engine: Start, clock: Clock) -> None:
    """What a killed process was about to write is not written."""
    gate = Gate(Meta("unheard"))
    orchestrator = await engine(Script(create=gate.answer()))
    handle = await orchestrator.submit(a_task())
    await gate.wait()
    await orchestrator.crash()
    gate.opened.set()
    for _ in range(5):
        await asyncio.sleep(0)
    reader = await engine(Script(), start=False)
    assert (await reader.get(handle.id)).phase == "CREATING"
    assert await reader.jobs(handle.id) == []


async def test_who_waits_is_told_that_the_engine_was_closed(
    engine: Start, clock: Clock
) -> None:
    orchestrator = await engine(Script(get=RUNNING))
    handle = await orchestrator.submit(a_task())
    waiting = asyncio.create_task(handle.wait())
    await clock.settle(orchestrator)
    await orchestrator.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await waiting


async def test_a_closed_engine_accepts_nothing(engine: Start, clock: Clock) -> None:
    """A submit that cannot be stored raises; closing twice does not."""
    orchestrator = await engine(Script())
    await orchestrator.close()
    await orchestrator.close()
    with pytest.raises(StoreUnavailableError):
        await orchestrator.submit(a_task())


async def test_an_engine_is_opened_once(engine: Start, clock: Clock) -> None:
    orchestrator = await engine(Script())
    with pytest.raises(ConfigurationError, match="opened before"):
        await orchestrator.open()


async def test_a_cancelled_submit_is_stored_or_not_and_never_half(
    engine: Start, clock: Clock
) -> None:
    """The commit is the batch's: the cancellation arrives after it."""
    orchestrator = await engine(Script(), start=False)
    submits = [
        asyncio.create_task(orchestrator.submit(a_task(str(n)))) for n in range(20)
    ]
    for turns, task in enumerate(submits):
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*submits, return_exceptions=True)
    rows = await orchestrator.list(limit=100)
    for row in rows:
        assert len(await orchestrator.history(row.id)) == 1
    assert (await orchestrator.counts()).get(("script", "QUEUED"), 0) == len(rows)


async def test_rows_of_a_closed_engine_are_free_at_once(
    engine: Start, clock: Clock
) -> None:
    """An orderly stop leaves nothing claimed: the next start steps without a wait."""
    first = await engine(Script(get=RUNNING))
    handles = [await first.submit(a_task(str(n))) for n in range(5)]
    await clock.pass_(1, first)
    await first.close()
    clock.advance(60)
    script = Script(get=DONE)
    second = await engine(script)
    await clock.settle(second)
    for handle in handles:
        assert (await second.get(handle.id)).phase == "SUCCEEDED"
    assert clock.monotonic() == 61


async def test_as_completed_yields_in_the_order_of_ends(
    engine: Start, clock: Clock
) -> None:
    slow = Script("slow", get=[RUNNING] * 5 + [DONE])
    orchestrator = await engine(slow, Script("fast", get=DONE))
    first = await orchestrator.submit(a_task(task_type="slow"))
    second = await orchestrator.submit(a_task(task_type="fast"))
    ends: list[str] = []

    async def follow() -> None:
        async for execution in orchestrator.as_completed([first, second]):
            ends.append(execution.id)  # noqa: PERF401 - it is watched meanwhile

    following = asyncio.create_task(follow())
    await clock.until_ended(orchestrator, first.id)
    async with asyncio.timeout(DEADLINE_S):
        await following
    assert ends == [second.id, first.id]
