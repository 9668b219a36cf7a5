"""Jobs that a search finds later than it was waited for: entered, deleted, no more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator._config import Policy
from orchestrator._storage._items import Run
from orchestrator.connectors import AsyncConnector
from tests.engine.kit import DONE, KILLED, RUNNING, Meta, Script, a_task, causes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator
    from tests.engine.kit import Clock

    Start = Callable[..., Awaitable[Orchestrator]]


class _Nameless(Script):
    """Whose jobs are told apart by their whole metas."""

    job_key = AsyncConnector.job_key  # type: ignore[assignment]


class _Renamed(Script):
    """Whose ``job_key`` is mended while its jobs run."""

    mended = False

    def job_key(self, resource_meta: Meta) -> str:
        """Break, or name the job."""
        if not self.mended:
            raise RuntimeError("not yet")
        return resource_meta.job


CUT = ConnectionError("cut")
HOURS = 3600


def _deleted(script: Script) -> list[str]:
    return [given["meta"].job for call, given in script.calls if call == "delete"]


def _searches(script: Script) -> list[float]:
    return [at for call, at in script.times if call == "find"]


async def test_a_second_job_that_is_listed_late_is_deleted(
    engine: Start, clock: Clock
) -> None:
    """It was taken for absent and created again; the attempt's own job goes on."""
    script = Script(
        clock=clock,
        create=[CUT, Meta("again")],
        find=[None, None, Meta("again"), Meta("first")],
        get=[RUNNING, RUNNING, DONE, KILLED],
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.job_key) == ("SUCCEEDED", "again")
    await clock.pass_(300, orchestrator)
    assert _deleted(script) == ["first"]
    assert [job.job_key for job in await orchestrator.jobs(handle.id)] == [
        "again",
        "first",
    ]


async def test_a_job_that_is_listed_after_its_abort_is_deleted(
    engine: Start, clock: Clock
) -> None:
    """Nothing was there when the abort was decided, and then something is."""
    script = Script(
        clock=clock, create=CUT, find=[None, None, None, Meta("late")], get=KILLED
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(20, orchestrator)
    assert script.number("find") == 1
    await orchestrator.abort(handle.id)
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "ABORTED"
    assert (await causes(orchestrator, handle.id))[-1] == "ABORTED_UNSUBMITTED"
    await clock.pass_(300, orchestrator)
    assert _deleted(script) == ["late"]


async def test_searches_become_rarer_and_end(engine: Start, clock: Clock) -> None:
    """At twice the age each time, the last one when ``sweep_for`` is over."""
    policy = Policy(jitter=0.0, sweep_for=timedelta(minutes=10))
    script = Script(
        clock=clock,
        create=[CUT, Meta("again")],
        find=[None, None, Meta("again")],
        policy=policy,
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, handle.id)
    await clock.pass_(2 * HOURS, orchestrator)
    absent, *later = _searches(script)[1:]
    ages = [round(at - absent) for at in later]
    assert ages == [30, 60, 120, 240, 480, 600]


async def test_a_search_goes_on_after_a_restart(engine: Start, clock: Clock) -> None:
    """It is a row, not a timer of a process."""
    answers: dict[str, Any] = {"create": [CUT, Meta("again")], "get": [DONE]}
    first = await engine(Script(find=[None, None, Meta("again")], **answers))
    handle = await first.submit(a_task())
    await clock.until_ended(first, handle.id)
    await first.crash()
    script = Script(find=Meta("first"), get=KILLED)
    second = await engine(script)
    await clock.pass_(300, second)
    assert _deleted(script) == ["first"]


async def test_the_last_search_is_made_again_until_it_is_answered(
    engine: Start, clock: Clock
) -> None:
    """Also if nothing ran while there was time, and the first one was killed."""
    policy = Policy(sweep_for=timedelta(minutes=10))
    answers: dict[str, Any] = {"create": [CUT, Meta("again")], "get": [DONE]}
    first = await engine(
        Script(find=[None, None, Meta("again")], policy=policy, **answers)
    )
    handle = await first.submit(a_task())
    await clock.until_ended(first, handle.id)
    await first.crash()
    clock.advance(HOURS)
    asked = asyncio.Event()

    async def hang(*_: Any, **__: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    second = await engine(Script(find=hang, policy=policy))
    ticking = asyncio.ensure_future(second.tick())
    await asked.wait()
    ticking.cancel()
    await second.crash()
    script = Script(
        clock=clock, find=[CUT, CUT, Meta("first")], get=KILLED, policy=policy
    )
    third = await engine(script)
    await clock.pass_(2 * HOURS, third)
    assert len(_searches(script)) == 3
    assert _deleted(script) == ["first"]


async def test_nothing_is_swept_where_jobs_have_no_names(
    engine: Start, clock: Clock
) -> None:
    """Without ``job_key`` the attempt's own job could be taken for a second one."""
    script = _Nameless(create=[CUT, Meta("again")], find=[None, None, Meta("first")])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, handle.id)
    await clock.pass_(2 * HOURS, orchestrator)
    assert script.number("find") == 2
    assert _deleted(script) == []


async def test_an_own_job_that_had_another_name_is_not_deleted(
    engine: Start, clock: Clock
) -> None:
    """Its entry has the key of its day; a second job is deleted all the same."""
    script = _Renamed(
        clock=clock,
        create=[CUT, Meta("again")],
        find=[None, None, Meta("again"), Meta("again"), Meta("first")],
        get=lambda meta, **_: KILLED if meta.job == "first" else RUNNING,
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    while script.number("find") < 3:
        await clock.pass_(10, orchestrator)
    assert (await orchestrator.get(handle.id)).job_key != "again"
    script.mended = True
    while script.number("find") < 4:
        await clock.pass_(10, orchestrator)
    assert _deleted(script) == []
    await clock.pass_(300, orchestrator)
    assert _deleted(script) == ["first"]
    assert (await orchestrator.get(handle.id)).phase == "RUNNING"


async def test_a_search_that_cannot_be_read_stops_nothing(
    engine: Start, clock: Clock
) -> None:
    """It is put off; rows are claimed, and other searches made, as ever."""
    first = await engine(Script(create=CUT, find=None))
    bad, good = [(await first.submit(a_task())).id for _ in range(2)]
    await clock.pass_(20, first)
    for execution_id in (bad, good):
        await first.abort(execution_id)
        await clock.until_ended(first, execution_id)

    async def spoil(tx: Any) -> None:
        await tx.run("UPDATE sweep SET attempt = x'ff00' WHERE execution_id = ?", [bad])

    await first._engine.store.writer.write(Run(spoil))
    await first.crash()
    script = Script(find=Meta("late"), get=[DONE])
    second = await engine(script)
    await clock.pass_(300, second)
    assert _deleted(script) == ["late"]
    friend = await second.submit(a_task())
    assert (await clock.until_ended(second, friend.id)).phase == "SUCCEEDED"


async def test_a_step_forward_does_not_end_the_sweep_early(
    engine: Start, clock: Clock
) -> None:
    """The clock jumps by two days; the second job is listed ten minutes later."""
    listed = [False]
    script = Script(
        clock=clock,
        create=[CUT, Meta("again")],
        find=lambda **_: Meta("first") if listed[0] else None,
        get=lambda meta, **_: KILLED if meta.job == "first" else RUNNING,
    )
    orchestrator = await engine(script)
    await orchestrator.submit(a_task())
    while script.number("create") < 2:
        await clock.pass_(10, orchestrator)
    clock.step(48 * HOURS)
    await clock.pass_(600, orchestrator)
    listed[0] = True
    await clock.pass_(4 * HOURS, orchestrator)
    assert _deleted(script) == ["first"]
