"""Jobs that nobody wants are deleted until that is confirmed, or an alert is given."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Orchestrator, Policy
from orchestrator.errors import AuthError, ResourceGoneError, TransientError
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

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

POLICY = Policy(jitter=0.0, cleanup_deadline=timedelta(minutes=10))
GONE = ResourceGoneError("no such job")


async def _orphaned(
    engine: Start, clock: Clock, **answers: Any
) -> tuple[Orchestrator, Script, str]:
    """Let a create answer after its execution was given up: a job that nobody wants."""
    gate = Gate(Meta("orphan"))
    script = Script(
        create=gate.answer(), policy=POLICY, on_unknown_create="hold", **answers
    )
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await gate.wait()
    clock.advance(60)
    await clock.settle(orchestrator)
    await orchestrator.resolve(handle.id, give_up=True)
    await clock.until_ended(orchestrator, handle.id)
    gate.opened.set()

    async def tried() -> bool:
        """The debt wakes the scheduler: the clock stands still."""
        return any(
            job.cleanup == "DONE" or job.cleanup_tries
            for job in await orchestrator.jobs(handle.id)
        )

    await until(tried)
    return orchestrator, script, handle.id


async def test_an_orphan_is_deleted_and_looked_for_until_it_is_gone(
    engine: Start, clock: Clock
) -> None:
    """A delete that returned is no proof; the job's own end is."""
    orchestrator, script, execution_id = await _orphaned(
        engine,
        clock,
        delete=[TransientError("busy"), None],
        get=[RUNNING, RUNNING, KILLED],
    )
    before = await orchestrator.get(execution_id)
    [debt] = await orchestrator.jobs(owing=True)
    assert (debt.job_key, debt.cleanup) == ("orphan", "DUE")
    assert "busy" in (debt.cleanup_error or "")
    await clock.pass_(600, orchestrator)
    [paid] = await orchestrator.jobs(execution_id)
    assert paid.cleanup == "DONE"
    assert (script.number("delete"), script.number("get")) == (3, 3)
    assert await orchestrator.get(execution_id) == before, "the row is terminal"
    await clock.pass_(600, orchestrator)
    assert script.number("delete") == 3, "a debt is paid once"


@pytest.mark.parametrize(
    "answers",
    [
        {"delete": GONE},
        {"delete": None, "get": KILLED},
        {"delete": None, "delete_is_final": True},
    ],
    ids=["gone", "ended", "final"],
)
async def test_what_confirms_a_deletion(
    answers: dict[str, Any], engine: Start, clock: Clock
) -> None:
    """Gone, ended by its own word, or a delete that waits for the end."""
    orchestrator, script, execution_id = await _orphaned(engine, clock, **answers)
    [paid] = await orchestrator.jobs(execution_id)
    assert (paid.cleanup, script.number("delete")) == ("DONE", 1)


async def test_a_young_job_that_get_does_not_list_is_deleted_again(
    engine: Start, clock: Clock
) -> None:
    """Services list new jobs late; a minute later "gone" is true."""
    orchestrator, script, execution_id = await _orphaned(
        engine, clock, delete=TransientError("busy"), get=GONE
    )
    [debt] = await orchestrator.jobs(owing=True)
    assert debt.cleanup == "DUE"
    await clock.pass_(120, orchestrator)
    [paid] = await orchestrator.jobs(execution_id)
    assert paid.cleanup == "DONE"
    assert script.number("delete") > 1


async def test_an_orphan_that_cannot_be_deleted_is_abandoned_with_an_alert(
    engine: Start, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator, _, execution_id = await _orphaned(
        engine, clock, delete=AuthError("not yours"), get=RUNNING
    )
    with caplog.at_level(logging.ERROR, logger="orchestrator"):
        await clock.pass_(1000, orchestrator)
    [lost] = await orchestrator.jobs(owing=True)
    assert (lost.cleanup, lost.execution_id) == ("ABANDONED", execution_id)
    assert "not yours" in (lost.cleanup_error or "")
    alerts = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert any("orphan" in alert and "ABANDONED" in alert for alert in alerts)


async def test_an_abort_that_is_never_confirmed_is_abandoned_with_an_alert(
    engine: Start, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The row takes its terminal phase after the deadline; the job is listed."""
    script = Script(policy=POLICY, get=RUNNING, delete=TransientError("busy"))
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    await handle.abort("enough")
    with caplog.at_level(logging.ERROR, logger="orchestrator"):
        ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "ABORTED"
    assert "could not be confirmed deleted" in (ended.error_message or "")
    [lost] = await orchestrator.jobs(owing=True)
    assert lost.cleanup == "ABANDONED"
    alerts = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert any(handle.id in alert for alert in alerts)


async def test_a_debt_whose_connector_is_missing_waits_for_it(
    engine: Start, clock: Clock
) -> None:
    """Another process, or a later start, pays it."""
    orchestrator, _, execution_id = await _orphaned(
        engine, clock, delete=TransientError("busy"), get=RUNNING
    )
    await orchestrator.close()
    without = await engine()
    await clock.pass_(1200, without)
    [debt] = await without.jobs(owing=True)
    assert debt.cleanup == "DUE"
    await without.close()
    again = await engine(Script(policy=POLICY, get=KILLED))
    await clock.pass_(1, again)
    [paid] = await again.jobs(execution_id)
    assert paid.cleanup == "DONE"


async def test_an_abandoned_job_is_an_orphan_though_its_name_was_used_before(
    engine: Start, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that calls each night's job "nightly": the second is given up."""
    script = Script(
        create=Meta("nightly"),
        get=[DONE, RUNNING],
        delete=ConnectionError("away"),
        policy=POLICY,
    )
    orchestrator = await engine(script)
    first = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, first.id)
    second = await orchestrator.submit(a_task())
    await clock.pass_(10, orchestrator)
    await second.abort()
    ended = await clock.until_ended(orchestrator, second.id)
    assert ended.phase == "ABORTED"
    [job] = await orchestrator.jobs(second.id)
    assert (job.cleanup, job.job_key) == ("ABANDONED", f"nightly (o{second.id}-1)")
    assert job.meta == Meta("nightly").encode()
    orphans = await orchestrator._engine.store.orphans(0)
    assert [orphan.execution_id for orphan in orphans] == [second.id]
    assert "away" in orphans[0].error
    named = [r for r in caplog.messages if first.id in r and second.id in r]
    assert len(named) == 1
    [job] = await orchestrator.jobs(first.id)
    assert (job.cleanup, job.job_key) == ("NONE", "nightly")
    assert await orchestrator._engine.store.audit() == []
