"""Services that know one job by one name for two executions: nobody loses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator import Policy
from tests.engine.kit import (
    DONE,
    KILLED,
    RUNNING,
    Clock,
    Gate,
    Meta,
    Script,
    a_task,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Handle, Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

pytestmark = pytest.mark.may_block  # opening a database touches the file system once

TIMEOUT_S = Policy().create_timeout.total_seconds()


async def held_up(orchestrator: Orchestrator, clock: Clock, gate: Gate) -> Handle:
    """Submit a second execution whose create has not answered in time."""
    handle = await orchestrator.submit(a_task("second"))
    await gate.wait()
    clock.advance(TIMEOUT_S)
    await clock.settle(orchestrator)
    assert (await handle.get()).phase == "CREATE_UNKNOWN"
    return handle


async def findings(orchestrator: Orchestrator) -> list[str]:
    """Return which invariants the audit finds broken."""
    found = await orchestrator._engine.store.audit()
    return [finding.name for finding in found]


@pytest.mark.parametrize("first_has_ended", [False, True])
async def test_a_late_answer_that_names_anothers_job_is_adopted(
    engine: Start, clock: Clock, *, first_has_ended: bool
) -> None:
    """As an answer in time is: what create has told is never unknown."""
    gate = Gate(Meta("shared"))
    script = Script(create=[Meta("shared"), gate.answer()])
    script.answers["get"] = [DONE if first_has_ended else RUNNING, RUNNING]
    orchestrator = await engine(script)
    first = await orchestrator.submit(a_task("first"))
    await clock.pass_(2, orchestrator)
    assert (await first.get()).terminal == first_has_ended
    second = await held_up(orchestrator, clock, gate)
    gate.opened.set()

    async def running() -> bool:
        return (await second.get()).phase == "RUNNING"

    await until(running)
    script.answers["get"] = [DONE]
    for handle in (first, second):
        await clock.until_ended(orchestrator, handle.id)
        assert await handle.result() == "good"
    [job] = await orchestrator.jobs(second.id)
    assert (job.job_key, job.cleanup) == (f"shared (o{second.id}-1)", "NONE")
    assert script.number("delete") == 0
    assert await findings(orchestrator) == []


@pytest.mark.parametrize("name", ["shared", "ärd (o1)", "sh\0ärd"])
async def test_what_nobody_can_adopt_any_more_is_listed_and_not_deleted(
    engine: Start, clock: Clock, name: str
) -> None:
    """It may be the first one's, which goes on; or a new job of the same name."""
    gate = Gate(Meta(name))
    script = Script(create=[Meta(name), gate.answer()], get=RUNNING)
    orchestrator = await engine(script)
    first = await orchestrator.submit(a_task("first"))
    await clock.pass_(2, orchestrator)
    second = await held_up(orchestrator, clock, gate)
    await orchestrator.resolve(second.id, give_up=True)
    assert (await clock.until_ended(orchestrator, second.id)).phase == "FAILED"
    gate.opened.set()

    async def listed() -> bool:
        orphans = await orchestrator._engine.store.orphans(0)
        return any(orphan.job_key for orphan in orphans)

    await until(listed)
    [job] = await orchestrator.jobs(second.id)
    assert (job.job_key, job.cleanup) == (f"{name} (o{second.id}-1)", "ABANDONED")
    assert job.shared_key == name
    assert job.meta == Meta(name).encode()
    assert "not deleted" in str(job.cleanup_error)
    await clock.pass_(3600, orchestrator)
    assert script.number("delete") == 0
    assert (await first.get()).phase == "RUNNING"
    assert await findings(orchestrator) == []


async def test_an_execution_that_has_the_job_by_a_replay_owes_nothing(
    engine: Start, clock: Clock
) -> None:
    """The first call answers when the second has told the same job, or just before."""
    gate, replay = Gate(Meta("shared")), Gate(Meta("shared"))
    script = Script(
        create=[Meta("shared"), gate.answer(), replay.answer()],
        create_is_idempotent=True,
        get=RUNNING,
    )
    orchestrator = await engine(script)
    await orchestrator.submit(a_task("first"))
    await clock.pass_(2, orchestrator)
    second = await orchestrator.submit(a_task("second"))
    await gate.wait()
    clock.advance(TIMEOUT_S)
    await clock.settle(orchestrator)
    clock.advance(5)
    await replay.wait()
    gate.opened.set()

    async def entered() -> bool:
        return bool(await orchestrator.jobs(second.id))

    await until(entered)
    replay.opened.set()
    await clock.settle(orchestrator)
    execution = await second.get()
    assert (execution.phase, execution.job_key) == ("RUNNING", "shared")
    [job] = await orchestrator.jobs(second.id)
    assert job.cleanup == "DONE"
    assert await orchestrator._engine.store.orphans(0) == []
    assert await findings(orchestrator) == []


async def test_a_job_that_carries_the_token_in_its_own_name_is_nobody_elses(
    engine: Start, clock: Clock
) -> None:
    """Whoever names jobs as the ledger names shared ones: told too late, deleted."""

    class Named(Script):
        def job_key(self, resource_meta: Meta) -> str:
            return f"{resource_meta.job} (o{own.id}-1)"

    gate = Gate(Meta("nightly"))
    script = Named(create=[gate.answer()], get=KILLED)
    orchestrator = await engine(script)
    own = await held_up(orchestrator, clock, gate)
    await orchestrator.resolve(own.id, give_up=True)
    await clock.until_ended(orchestrator, own.id)
    gate.opened.set()

    async def entered() -> bool:
        return bool(await orchestrator.jobs(own.id))

    await until(entered)
    await clock.pass_(60, orchestrator)
    [job] = await orchestrator.jobs(own.id)
    assert (job.job_key, job.cleanup) == (f"nightly (o{own.id}-1)", "DONE")
    assert script.number("delete") == 1
