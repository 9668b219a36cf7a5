"""ScriptedConnector: answers in order, the last one for ever, every call kept."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Config, Orchestrator, Registry, TaskTemplate
from orchestrator._connector import implements
from orchestrator.connectors import Resource
from orchestrator.models import NativeInterface
from orchestrator.testing import ManualClock, ScriptedConnector, ScriptedMeta

if TYPE_CHECKING:
    from pathlib import Path


async def test_it_runs_an_execution_without_any_script(tmp_path: Path) -> None:
    """One job that runs, then succeeds; on a manual clock nothing waits."""
    clock, connector, registry = ManualClock(), ScriptedConnector(), Registry()
    registry.register(connector)
    task = TaskTemplate(name="t", interface=NativeInterface({}, {}), task_type="script")
    options: dict[str, Any] = {"registry": registry, "clock": clock, "start": False}
    options["config"] = Config()
    async with Orchestrator(tmp_path / "jobs.db", **options) as orchestrator:
        handle = await orchestrator.submit(task)
        while not (execution := await handle.get()).terminal:
            await orchestrator.tick()
            clock.advance(1.0)
    assert execution.phase == "SUCCEEDED"
    assert execution.job_key == "job-1"
    assert [name for name, _ in connector.calls] == ["create", "get", "get"]


async def test_answers_are_values_errors_and_functions() -> None:
    """In their order; a class of errors is raised too, an async function awaited."""

    async def later(**given: Any) -> ScriptedMeta:
        return ScriptedMeta(given["inputs"]["name"])

    def now(**given: Any) -> ScriptedMeta:
        return ScriptedMeta("now")

    answers = [ConnectionError("cut"), TimeoutError, later, now, None]
    connector = ScriptedConnector(create=answers)
    for kind in (ConnectionError, TimeoutError):
        with pytest.raises(kind):
            await connector.create(None, "")
    made = [await connector.create(None, "", {"name": "later"}) for _ in range(4)]
    assert [meta.job for meta in made] == ["later", "now", "job-1", "job-2"]
    assert connector.number("create") == 6
    assert len(answers) == 5


async def test_members_and_find_are_there_if_they_are_given() -> None:
    """Without a find the engine takes it for a connector that has none."""
    plain = ScriptedConnector("a")
    finds = ScriptedConnector("b", find=ScriptedMeta("found"), delete_is_final=True)
    assert not implements(plain, "find")
    assert await finds.find("token") == ScriptedMeta("found")
    assert (plain.delete_is_final, finds.delete_is_final) == (False, True)
    await finds.delete(ScriptedMeta("j"))
    assert finds.calls[-1] == ("delete", {"meta": ScriptedMeta("j")})


async def test_calls_can_be_waited_for_and_have_their_times() -> None:
    """The waiter wakes at the call; one that never comes ends the wait."""
    clock = ManualClock()
    done = Resource(phase=TaskExecution.SUCCEEDED)
    connector = ScriptedConnector(clock=clock, get=done)
    waiting = asyncio.create_task(connector.called("get", 2))
    for _ in range(2):
        clock.advance(3.0)
        await connector.get(ScriptedMeta("j"))
    await waiting
    assert connector.times == [("get", 3.0), ("get", 6.0)]
    with pytest.raises(TimeoutError):
        await connector.called("delete", timeout=timedelta(0).total_seconds())
