"""A started engine on a manual clock: time passes when nothing else can happen."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Config, Orchestrator, Policy, Registry, TaskTemplate
from orchestrator.connectors import Resource
from orchestrator.models import NativeInterface
from orchestrator.testing import ManualClock, ScriptedConnector

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.may_block  # opening a database makes and migrates it

RUNNING = Resource(TaskExecution.RUNNING)
DONE = Resource(TaskExecution.SUCCEEDED)
POLICY = Policy(jitter=0.0)
TASK = TaskTemplate(name="t", interface=NativeInterface({}, {}), task_type="script")


def opened(
    path: Path, clock: ManualClock, *connectors: ScriptedConnector, **settings: Any
) -> Orchestrator:
    """Return an engine that is started on *clock*."""
    registry = Registry()
    for connector in connectors:
        registry.register(connector)
    settings.setdefault("watch", timedelta(minutes=5))
    config = Config(**settings)
    return Orchestrator(
        path, config=config, registry=registry, clock=clock, rng=Random(1)
    )


async def nightly(orch: Orchestrator) -> list[str]:
    """Run three jobs one after the other: a program of a user."""
    phases = []
    for _ in range(3):
        handle = await orch.submit(TASK)
        phases.append(str((await handle.wait(timeout=timedelta(hours=1))).phase))
    return phases


@pytest.mark.parametrize("watch", [timedelta(milliseconds=100), timedelta(minutes=5)])
async def test_time_stands_still_while_anything_is_under_way(
    tmp_path: Path, watch: timedelta
) -> None:
    """Polls come when the policy says, and submits and commits take no time at all."""
    clock = ManualClock()
    connector = ScriptedConnector(
        clock=clock, policy=POLICY, get=[RUNNING, RUNNING, DONE] * 3
    )
    async with opened(tmp_path / "jobs.db", clock, connector, watch=watch) as orch:
        program = asyncio.create_task(nightly(orch))
        took = await clock.run_until(program.done)
        [first, second, third] = sorted(await orch.list(), key=lambda each: each.id)
    assert program.result() == ["SUCCEEDED"] * 3
    one = connector.times[3][1]
    assert took == timedelta(seconds=3 * one)
    assert [name for name, _ in connector.times] == ["create", "get", "get", "get"] * 3
    assert [at for _, at in connector.times[::4]] == [0, one, 2 * one]
    assert first.finished_at == second.submitted_at
    assert second.finished_at == third.submitted_at


async def test_drive_does_not_outrun_a_started_engine(tmp_path: Path) -> None:
    """The same as `run_until` with tasks, and it tells the waits."""
    clock = ManualClock()
    connector = ScriptedConnector(clock=clock, policy=POLICY, get=[RUNNING, DONE] * 3)
    async with opened(tmp_path / "jobs.db", clock, connector) as orch:
        program = asyncio.create_task(nightly(orch))
        waits = await clock.drive(program)
    one = connector.times[2][1]
    assert [at for _, at in connector.times[::3]] == [0, one, 2 * one]
    assert sum(waits) == pytest.approx(3 * one)


async def test_a_call_that_hangs_comes_to_its_time_limit(tmp_path: Path) -> None:
    """After the clock's patience, in real time; here a create of class N."""

    async def hang(**_: Any) -> None:
        await asyncio.Event().wait()

    clock = ManualClock(patience=timedelta(milliseconds=10))
    connector = ScriptedConnector(policy=POLICY, create=hang)
    async with opened(tmp_path / "jobs.db", clock, connector) as orch:
        handle = await orch.submit(TASK)

        async def ended() -> bool:
            return (await handle.get()).terminal

        took = await clock.run_until(ended)
        execution = await handle.get()
    assert execution.error_code == "CREATE_OUTCOME_UNKNOWN"
    assert took >= POLICY.create_timeout


async def test_what_never_holds_is_told(tmp_path: Path) -> None:
    """Within the time that was given, or because nobody waits for the clock."""
    clock = ManualClock()
    with pytest.raises(TimeoutError, match="nobody waits"):
        await clock.run_until(lambda: False)
    async with opened(tmp_path / "jobs.db", clock):
        before = clock.now_us()
        with pytest.raises(TimeoutError, match="1:00:00 are over"):
            await clock.run_until(lambda: False, within=timedelta(hours=1))
        assert 0 < clock.now_us() - before <= 3_600_000_000
