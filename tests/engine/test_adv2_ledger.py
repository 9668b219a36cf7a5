"""Two executions whose jobs have one key."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator import Policy
from orchestrator.errors import InvalidInputError
from tests.engine.kit import DONE, RUNNING, Meta, Script, a_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator
    from tests.engine.kit import Clock

    Start = Callable[..., Awaitable[Orchestrator]]


async def test_an_abandoned_job_is_an_orphan_though_its_name_was_used_before(
    engine: Start, clock: Clock
) -> None:
    """A service that calls each night's job "nightly": the second is given up."""
    script = Script(
        create=Meta("nightly"),
        get=[DONE, RUNNING],
        delete=ConnectionError("away"),
        policy=Policy(jitter=0.0, cleanup_deadline=timedelta(minutes=10)),
    )
    orchestrator = await engine(script)
    first = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, first.id)
    second = await orchestrator.submit(a_task())
    await clock.pass_(10, orchestrator)
    await second.abort()
    ended = await clock.until_ended(orchestrator, second.id)
    assert ended.phase == "ABORTED"
    assert [str(job.cleanup) for job in await orchestrator.jobs(second.id)] == [
        "ABANDONED"
    ]


async def test_a_resolution_with_anothers_job_is_refused(
    engine: Start, clock: Clock
) -> None:
    """Not taken without effect, with the execution unknown as before."""
    script = Script(
        create=[Meta("a"), ConnectionError("cut")],
        get=RUNNING,
        on_unknown_create="hold",
    )
    orchestrator = await engine(script)
    await orchestrator.submit(a_task())
    await clock.pass_(2, orchestrator)
    unknown = await orchestrator.submit(a_task())
    await clock.pass_(5, orchestrator)
    assert (await unknown.get()).phase == "CREATE_UNKNOWN"
    with pytest.raises(InvalidInputError):
        await orchestrator.resolve(unknown.id, created=Meta("a"))
