"""Connectors that are missing, raise, hang, answer nonsense or attack the loop."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Config, Orchestrator, Policy, Registry
from orchestrator._storage._items import Run
from orchestrator.errors import (
    AuthError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from tests.engine.kit import DONE, RUNNING, Clock, Meta, Script, a_task, causes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block


async def _hang(**_: Any) -> None:
    await asyncio.Event().wait()


def hanging(clock: Clock) -> Callable[..., Awaitable[None]]:
    """Return an answer that never comes; the clock moves past the call's timeout."""

    async def hang(**_: Any) -> None:
        clock.advance(30)
        await asyncio.Event().wait()

    return hang


async def test_a_missing_connector_holds_after_the_grace_and_is_released(
    engine: Start, clock: Clock
) -> None:
    """Nothing is failed; a connector that is registered later takes the row up."""
    first = await engine(Script(), start=False)
    handle = await first.submit(a_task())
    registry = Registry()
    second = await engine(registry=registry)
    grace = Config().missing_connector_grace.total_seconds()
    await clock.pass_(grace - 1, second)
    assert (await handle.get()).hold is None
    await clock.pass_(2, second)
    held = await handle.get()
    assert (held.phase, held.hold, held.attempt) == ("QUEUED", "CONNECTOR_MISSING", 1)
    registry.register(Script())
    ended = await clock.until_ended(second, handle.id, 300)
    assert (ended.phase, ended.hold) == ("SUCCEEDED", None)
    assert (await causes(second, handle.id)).count("HOLD_SET") == 1


async def test_a_running_job_whose_connector_left_is_held_then_goes_on(
    engine: Start, clock: Clock
) -> None:
    """An upgrade without the connector costs no attempt and no job."""
    first = await engine(Script(get=RUNNING))
    handle = await first.submit(a_task())
    await clock.pass_(2, first)
    await first.close()
    without = await engine()
    await clock.pass_(120, without)
    held = await without.get(handle.id)
    assert (held.phase, held.hold) == ("RUNNING", "CONNECTOR_MISSING")
    await without.close()
    again = await engine(Script(get=[RUNNING, DONE]))
    await clock.settle(again)
    assert clock.monotonic() <= 123, "the new start woke the row"
    ended = await clock.until_ended(again, handle.id)
    assert (ended.phase, ended.attempt) == ("SUCCEEDED", 1)
    assert "HOLD_RELEASED" in await causes(again, handle.id)


ERRORS = {
    "raises": ValueError("boom"),
    "hangs": _hang,
    "answers None": None,
    "answers nonsense": {"phase": "fine"},
    "cancels itself": asyncio.CancelledError("mine"),
    "exits": SystemExit(3),
    "is out of memory": MemoryError("none left"),
    "recurses": RecursionError("too deep"),
    "closes itself": GeneratorExit(),
    "throttles": ThrottledError("slow down"),
    "fails transiently": TransientError("later"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_of_get_is_not_the_jobs_failure(
    name: str, engine: Start, clock: Clock
) -> None:
    """It is shown, polling backs off, one streak is two rows of history."""
    error = ERRORS[name]
    if error is _hang:
        error = hanging(clock)
    script = Script(
        "hostile", clock=clock, get=[RUNNING, error, error, error, RUNNING, DONE]
    )
    orchestrator = await engine(script, Script("friendly"))
    handle = await orchestrator.submit(a_task(task_type="hostile", retries=1))
    other = await orchestrator.submit(a_task(task_type="friendly"))
    assert (await clock.until_ended(orchestrator, other.id)).phase == "SUCCEEDED"
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.attempt, ended.polls) == ("SUCCEEDED", 1, 6)
    seen = await causes(orchestrator, handle.id)
    assert seen.count("ERRORS_BEGAN") == 1, "a streak is recorded once"
    assert seen.count("ERRORS_ENDED") == 1
    gets = [at for call, at in script.times if call == "get"]
    waits = [b - a for a, b in pairwise(gets)][1:4]
    assert waits == sorted(waits), "each error waits longer than the one before"


async def test_an_error_of_get_is_visible_while_it_lasts(
    engine: Start, clock: Clock
) -> None:
    """``last_error`` and the length of the streak are columns of the live row."""
    script = Script(get=[RUNNING, ConnectionError("no route"), ValueError("boom")])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(30, orchestrator)
    execution = await handle.get()
    assert execution.phase == "RUNNING"
    assert execution.last_error == "ValueError: boom"
    assert execution.poll_errors >= 3
    seen = await causes(orchestrator, handle.id)
    assert seen.count("ERRORS_BEGAN") == 1
    began = next(t for t in await handle.history() if t.cause == "ERRORS_BEGAN")
    assert began.message == "ConnectionError: no route"


async def test_a_get_that_hangs_is_cut_off_and_spends_budget(
    engine: Start, clock: Clock
) -> None:
    script = Script(get=[RUNNING, _hang, DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(1, orchestrator)
    clock.advance(2)
    await script.called("get", 2)
    clock.advance(Policy().get_timeout.total_seconds())
    await clock.settle(orchestrator)
    assert (await handle.get()).last_error == "get did not answer within 30 s"
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "SUCCEEDED"


@pytest.mark.parametrize(("call", "limit"), [("find", 9), ("delete", 7)])
async def test_delete_and_find_have_time_limits_of_their_own(
    call: str, limit: int, engine: Start, clock: Clock
) -> None:
    """What hangs is asked again later, and costs neither attempt nor a second job."""
    policy = Policy(
        jitter=0.0,
        delete_timeout=timedelta(seconds=7),
        find_timeout=timedelta(seconds=9),
    )
    answers: dict[str, Any] = {"policy": policy, "delete_is_final": True}
    if call == "find":
        answers |= {"create": [ConnectionError("cut")], "find": [_hang, Meta("job-9")]}
    else:
        answers |= {"get": RUNNING, "delete": [_hang, None]}
    script = Script(**answers)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    if call == "delete":
        await handle.abort("enough")
    clock.advance(2)
    await script.called(call, 1)
    clock.advance(limit)
    await clock.settle(orchestrator)
    said = f"{call} did not answer within {limit} s"
    assert (await handle.get()).last_error == said
    ended = await clock.until_ended(orchestrator, handle.id)
    phase = "SUCCEEDED" if call == "find" else "ABORTED"
    assert (ended.phase, ended.attempt, script.number("create")) == (phase, 1, 1)


async def test_a_poll_budget_that_is_spent_deletes_the_job(
    engine: Start, clock: Clock
) -> None:
    """Errors and time both have to be spent; then the job is deleted, and FAILED."""
    policy = Policy(jitter=0.0, poll_budget=timedelta(minutes=10), poll_budget_errors=4)
    script = Script(
        policy=policy, get=[RUNNING, ConnectionError("away")], delete_is_final=True
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("FAILED", "POLL_BUDGET_SPENT")
    assert "ConnectionError: away" in (ended.error_message or "")
    assert script.number("delete") == 1
    assert clock.monotonic() >= 600


STEERED_GETS: list[tuple[Any, str, str, int]] = [
    (PermanentError("never"), "FAILED", "GET_REJECTED", 1),
    (ResourceGoneError("no such job"), "FAILED", "LOST", 0),
]


@pytest.mark.parametrize(("error", "phase", "code", "deletes"), STEERED_GETS)
async def test_what_get_asserts_ends_the_attempt(  # noqa: PLR0917
    error: Exception,
    phase: str,
    code: str,
    deletes: int,
    engine: Start,
    clock: Clock,
) -> None:
    """Permanent: the job is deleted first. Gone: nothing is left to delete."""
    script = Script(get=[RUNNING] * 40 + [error], delete_is_final=True)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == (phase, code)
    assert script.number("delete") == deletes


async def test_a_refused_credential_holds_and_burns_nothing(
    engine: Start, clock: Clock
) -> None:
    """Auth errors are outside every budget: somebody has to act."""
    script = Script(
        create=[AuthError("expired")] * 3 + [None],
        get=[RUNNING, AuthError("expired"), AuthError("expired"), DONE],
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    held = await handle.get()
    assert (held.phase, held.hold, held.attempt) == ("QUEUED", "UNAUTHORIZED", 1)
    assert "expired" in (held.last_error or "")
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.hold, ended.attempt) == ("SUCCEEDED", None, 1)


async def test_a_create_that_is_throttled_waits_as_asked(
    engine: Start, clock: Clock
) -> None:
    """The same attempt, the same token, not before ``retry_after``."""
    script = Script(clock=clock, create=[ThrottledError("", retry_after=77.0), None])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task(retries=1))
    await clock.settle(orchestrator)
    assert (await handle.get()).waiting_on == "SERVICE"
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.attempt == 1
    creates = [at for name, at in script.times if name == "create"]
    assert creates == [0, 77]
    tokens = {
        given["metadata"].labels["orchestrator-token"]
        for name, given in script.calls
        if name == "create"
    }
    assert tokens == {f"o{handle.id}-1"}


@pytest.mark.parametrize(
    "error",
    [SystemExit(1), asyncio.CancelledError(), MemoryError(), RecursionError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("call", ["create", "delete", "find"])
async def test_no_call_kills_the_loop(
    call: str, error: BaseException, engine: Start, clock: Clock
) -> None:
    """The engine goes on with others; what was raised is an error of that call."""
    answers: dict[str, Any] = {"create": [ConnectionError("cut")], "get": RUNNING}
    answers = answers if call == "find" else {"get": RUNNING}
    hostile = Script("hostile", **{**answers, call: [error, error, None]})
    friendly = Script("friendly")
    orchestrator = await engine(hostile, friendly)
    victim = await orchestrator.submit(a_task(task_type="hostile"))
    await clock.settle(orchestrator)
    await victim.abort()
    await clock.pass_(5, orchestrator)
    assert hostile.number(call) >= 1
    handle = await orchestrator.submit(a_task(task_type="friendly"))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "SUCCEEDED"
    assert not any(task.done() for task in orchestrator._engine._loops)


async def test_a_text_that_cannot_be_read_is_still_an_error(
    engine: Start, clock: Clock
) -> None:
    """A hostile ``__str__`` harms nobody."""

    class HostileError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text for you")

    script = Script(get=[RUNNING, HostileError(), DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "SUCCEEDED"
    began = next(t for t in await handle.history() if t.cause == "ERRORS_BEGAN")
    assert "HostileError" in (began.message or "")


async def test_a_create_that_returns_nonsense_is_unknown(
    engine: Start, clock: Clock
) -> None:
    """A job may exist, and its handle is not one: never created again by itself."""
    script = Script(create=["job-1"])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task(retries=3))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.error_code == "CREATE_OUTCOME_UNKNOWN"
    assert script.number("create") == 1


async def test_a_poison_row_is_held_and_the_others_run(
    engine: Start, clock: Clock
) -> None:
    """A template that cannot be read breaks the step of its own rows only."""
    script = Script()
    first = await engine(script, start=False)
    bad = await first.submit(a_task("bad"))
    good = await first.submit(a_task("good"))

    async def spoil(tx: Any) -> None:
        await tx.run(
            "UPDATE template SET proto = x'ffffffff' WHERE hash ="
            " (SELECT template_hash FROM execution WHERE id = ?)",
            (bad.id,),
        )

    await first._engine.store.writer.write(Run(spoil))
    await first.close()
    second = await engine(script)
    ended = await clock.until_ended(second, good.id)
    assert ended.phase == "SUCCEEDED"
    held = await second.get(bad.id)
    assert (held.phase, held.hold) == ("QUEUED", "POISON")
    assert await second.stuck() == [held]


async def test_a_connector_may_give_its_meta_away_only_as_its_own_type(
    engine: Start, clock: Clock
) -> None:
    """``find`` that answers nonsense is an error of the call, and tried again."""
    script = Script(create=[ConnectionError("cut")], find=["nonsense", Meta("job-7")])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.job_key) == ("SUCCEEDED", "job-7")
