"""Creates that answer late, never, or to a process that is gone; and what is called."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Orchestrator, Policy
from orchestrator.errors import InvalidInputError, PermanentError, TransientError
from tests.engine.kit import (
    RUNNING,
    Clock,
    Gate,
    Meta,
    Script,
    a_task,
    causes,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

TIMEOUT_S = Policy().create_timeout.total_seconds()
CUT = ConnectionError("the connection was cut")


async def test_a_late_answer_goes_to_the_ledger_and_is_adopted(
    engine: Start, clock: Clock
) -> None:
    """A create that hangs past its timeout is unknown; its answer is not lost."""
    gate = Gate(Meta("late-job"))
    script = Script(create=gate.answer())
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await gate.wait()
    clock.advance(TIMEOUT_S)
    await clock.settle(orchestrator)
    unknown = await handle.get()
    assert unknown.phase == "CREATE_UNKNOWN"
    assert await orchestrator.jobs(handle.id) == []
    gate.opened.set()
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.job_key) == ("SUCCEEDED", "late-job")
    assert script.number("create") == 1
    seen = await causes(orchestrator, handle.id)
    assert seen[1:4] == ["CREATE_INTENT", "CREATE_TIMED_OUT", "ADOPTED"]
    [job] = await orchestrator.jobs(handle.id)
    assert (job.job_key, job.cleanup) == ("late-job", "NONE")


async def test_a_late_answer_is_adopted_without_any_timer(
    engine: Start, clock: Clock
) -> None:
    """Its arrival wakes the row: the clock stands still."""
    gate = Gate(Meta("late-job"))
    orchestrator = await engine(Script(create=gate.answer(), get=RUNNING))
    handle = await orchestrator.submit(a_task())
    await gate.wait()
    clock.advance(TIMEOUT_S)
    await clock.settle(orchestrator)
    before = clock.monotonic()
    gate.opened.set()

    async def running() -> bool:
        return (await handle.get()).phase == "RUNNING"

    await until(running)
    assert clock.monotonic() == before


async def test_a_create_that_never_answers_is_unknown_in_the_end(
    engine: Start, clock: Clock
) -> None:
    """It is waited for up to the hard limit, in few looks; then the policy decides."""
    gate = Gate()
    policy = Policy(jitter=0.0, create_hard_timeout=timedelta(minutes=10))
    orchestrator = await engine(Script(create=gate.answer(), policy=policy))
    handle = await orchestrator.submit(a_task(retries=2))
    await gate.wait()
    clock.advance(TIMEOUT_S)
    await clock.settle(orchestrator)
    commits = orchestrator._engine.store.writer.commits
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("FAILED", "CREATE_OUTCOME_UNKNOWN")
    assert clock.monotonic() >= 600
    assert orchestrator._engine.store.writer.commits - commits < 400
    with pytest.raises(RuntimeError, match="did not answer within 60 s"):
        await handle.result()


async def test_a_replay_that_hangs_too_loses_neither_answer(
    engine: Start, clock: Clock
) -> None:
    """Both calls of the attempt stay in flight until what they know is written."""
    first, second = Gate(Meta("the-job")), Gate(Meta("the-job"))
    script = Script(
        create=[first.answer(), second.answer()], create_is_idempotent=True, get=RUNNING
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await first.wait()
    clock.advance(TIMEOUT_S)
    await clock.settle(orchestrator)
    clock.advance(5)
    await second.wait()
    clock.advance(TIMEOUT_S)
    await clock.settle(orchestrator)
    first.opened.set()

    async def running() -> bool:
        return (await handle.get()).phase == "RUNNING"

    await until(running)
    second.opened.set()
    await clock.settle(orchestrator)
    assert [job.job_key for job in await orchestrator.jobs(handle.id)] == ["the-job"]


async def test_a_close_keeps_the_answer_that_is_being_written(
    engine: Start, clock: Clock
) -> None:
    """A late answer that arrives as the engine closes is in the ledger afterwards."""
    gate = Gate(Meta("late-job"))
    orchestrator = await engine(Script(create=gate.answer()))
    handle = await orchestrator.submit(a_task())
    await gate.wait()
    clock.advance(TIMEOUT_S)
    await clock.settle(orchestrator)
    gate.opened.set()
    for _ in range(3):
        await asyncio.sleep(0)
    await orchestrator.close()
    again = await engine(Script(get=RUNNING), start=False)
    assert [job.job_key for job in await again.jobs(handle.id)] == ["late-job"]


@pytest.mark.parametrize(
    ("members", "answers", "cause", "creates"),
    [
        ({"create_is_idempotent": True}, {}, "REPLAYED", 2),
        ({}, {"find": Meta("found")}, "ADOPTED", 1),
        ({}, {"find": [None, None]}, "KNOWN_ABSENT", 2),
        ({"on_unknown_create": "create"}, {}, "CREATE_AGAIN", 2),
        ({"on_unknown_create": "fail"}, {}, "CREATE_OUTCOME_UNKNOWN", 1),
    ],
    ids=["replay", "find", "absent", "create", "fail"],
)
async def test_an_unknown_create_is_recovered_as_the_class_allows(  # noqa: PLR0917
    members: dict[str, Any],
    answers: dict[str, Any],
    cause: str,
    creates: int,
    engine: Start,
    clock: Clock,
) -> None:
    """Adopt, replay, find, then the connector's choice."""
    script = Script(clock=clock, create=[CUT, None], **answers, **members)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task(retries=5))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert cause in await causes(orchestrator, handle.id)
    assert script.number("create") == creates
    assert ended.attempt == 1, "no attempt is burnt"
    if cause == "KNOWN_ABSENT":
        finds = [at for call, at in script.times if call == "find"]
        again = [at for call, at in script.times if call == "create"][1]
        assert finds[0] < 30 <= again, "the first none is not believed"


async def test_an_unknown_create_may_wait_for_an_operator(
    engine: Start, clock: Clock
) -> None:
    """``on_unknown_create = "hold"``: a user says what is so."""
    script = Script(create=[CUT, None], on_unknown_create="hold")
    orchestrator = await engine(script)
    handles = [await orchestrator.submit(a_task(str(n))) for n in range(3)]
    script.answers["create"] = [CUT]
    await clock.pass_(300, orchestrator)
    for handle in handles:
        held = await handle.get()
        assert (held.phase, held.hold) == ("CREATE_UNKNOWN", "OUTCOME_UNKNOWN")
    script.answers["create"] = [None]
    created, absent, given_up = handles
    await orchestrator.resolve(created.id, created=Meta("by-hand"))
    await orchestrator.resolve(absent.id, absent=True)
    await orchestrator.resolve(given_up.id, give_up=True)
    ends = [await clock.until_ended(orchestrator, h.id) for h in handles]
    assert [e.phase for e in ends] == ["SUCCEEDED", "SUCCEEDED", "FAILED"]
    assert ends[0].job_key == "by-hand"
    assert ends[2].error_code == "CREATE_OUTCOME_UNKNOWN"


async def test_an_abort_while_unknown_adopts_first_then_deletes(
    engine: Start, clock: Clock
) -> None:
    script = Script(create=CUT, find=Meta("found"), get=RUNNING, delete_is_final=True)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    assert (await handle.get()).phase == "CREATE_UNKNOWN"
    await handle.abort("never mind")
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.job_key) == ("ABORTED", "found")
    assert [g["meta"] for c, g in script.calls if c == "delete"] == [Meta("found")]


class NotMadeError(Exception):
    """The service's own refusal."""


@pytest.mark.parametrize(
    ("error", "code", "creates"),
    [
        (PermanentError("never"), "CREATE_REJECTED", 1),
        (NotMadeError("no"), "NOT_CREATED", 3),
        (ValueError("who knows"), "CREATE_OUTCOME_UNKNOWN", 1),
        (TimeoutError("of the client"), "CREATE_OUTCOME_UNKNOWN", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_only_an_assertion_means_not_created(
    error: Exception, code: str, creates: int, engine: Start, clock: Clock
) -> None:
    """Everything else is unknown, and never repeated by itself."""
    script = Script(create=error, not_created_errors=(NotMadeError,))
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task(retries=2))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.error_code) == ("FAILED", code)
    assert script.number("create") == creates


async def test_refusals_end_when_their_budget_is_spent(
    engine: Start, clock: Clock
) -> None:
    policy = Policy(jitter=0.0, create_budget=timedelta(minutes=5))
    script = Script(create=TransientError("full"), policy=policy)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task(retries=5))
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.error_code, ended.attempt) == ("CREATE_BUDGET_SPENT", 1)
    assert clock.monotonic() >= 300


async def test_the_token_reaches_the_metadata_and_only_who_names_it(
    engine: Start, clock: Clock
) -> None:
    """Never into bare keyword arguments; a parameter of that name gets it."""

    class Naming(Script):
        async def create(
            self,
            task_template: Any,
            output_prefix: str,
            inputs: dict[str, Any] | None = None,
            task_execution_metadata: Any = None,
            idempotency_token: str = "",
            **kwargs: Any,
        ) -> Meta:
            kwargs["token"] = idempotency_token
            return await super().create(
                task_template, output_prefix, inputs, task_execution_metadata, **kwargs
            )

    naming, plain = Naming("naming"), Script("plain")
    orchestrator = await engine(naming, plain)
    for script in (naming, plain):
        handle = await orchestrator.submit(a_task(task_type=script.task_type_name))
        await clock.until_ended(orchestrator, handle.id)
        [given] = [given for call, given in script.calls if call == "create"]
        token = f"o{handle.id}-1"
        assert given["metadata"].labels["orchestrator-token"] == token
        assert given.get("token") == (token if script is naming else None)
        assert "idempotency_token" not in given


async def test_a_resolution_with_anothers_job_is_refused(
    engine: Start, clock: Clock
) -> None:
    """Not taken without effect; the job that is its own is taken after it."""
    script = Script(
        create=[Meta("a"), ConnectionError("cut")],
        get=RUNNING,
        on_unknown_create="hold",
    )
    orchestrator = await engine(script)
    first = await orchestrator.submit(a_task())
    await clock.pass_(2, orchestrator)
    unknown = await orchestrator.submit(a_task())
    await clock.pass_(5, orchestrator)
    before = await unknown.get()
    assert before.phase == "CREATE_UNKNOWN"
    with pytest.raises(InvalidInputError, match=f"created.* a .*{first.id}"):
        await orchestrator.resolve(unknown.id, created=Meta("a"))
    assert await unknown.get() == before
    assert await orchestrator.jobs(unknown.id) == []
    await orchestrator.resolve(unknown.id, created=Meta("b"))
    await clock.pass_(5, orchestrator)
    assert ((await unknown.get()).phase, (await unknown.get()).job_key) == (
        "RUNNING",
        "b",
    )
