"""``task.execute()``: one default engine per loop; cancelled, it detaches or aborts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import (
    ConnectorRegistry,
    Orchestrator,
    Policy,
    TaskTemplate,
    options,
)
from orchestrator._orchestrator import close_default, default_orchestrator
from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator.connectors import AsyncConnectorExecutorMixin, Resource
from orchestrator.errors import ExecutionFailedError
from orchestrator.models import NativeInterface
from tests.engine.kit import DONE, FAILED, RUNNING, Gate, Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

QUICK = Policy(poll_delay_min=timedelta(0), poll_delay_max=timedelta(0))


@dataclass(kw_only=True, eq=False)
class Task(AsyncConnectorExecutorMixin, TaskTemplate):
    """A task that can be executed."""


def a_task(**fields: Any) -> Task:
    """Return an executable task."""
    outputs = fields.pop("outputs", {"result": str})
    interface = NativeInterface(inputs={}, outputs=outputs)
    return Task(
        name="executed", interface=interface, task_type="script", image=None, **fields
    )


@pytest.fixture
def registered() -> Iterator[Any]:
    """Return a function that registers a script for the test's length."""
    before = dict(DEFAULT_REGISTRY._registry), dict(DEFAULT_REGISTRY._metadata)

    def register(script: Script) -> Script:
        ConnectorRegistry.register(script, override=True)
        return script

    yield register
    for mine, old in zip(
        (DEFAULT_REGISTRY._registry, DEFAULT_REGISTRY._metadata), before, strict=True
    ):
        mine.clear()  # type: ignore[attr-defined]
        mine.update(old)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
async def default(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Let the default engine use the test's database, and close it at the end."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE", str(path))
    yield
    await close_default()


async def test_two_executes_share_one_engine(registered: Any) -> None:
    """Also when they begin at once."""
    registered(Script(policy=QUICK, get=DONE))
    first, second = await asyncio.gather(a_task().execute(), a_task().execute())
    assert (first, second) == (("good",), ("good",))
    assert await a_task().execute() == ("good",)
    orchestrator = await default_orchestrator()
    assert len(await orchestrator.list()) == 3
    nodes = {
        t.node
        for e in await orchestrator.list()
        for t in await orchestrator.history(e.id)
    }
    assert len(nodes - {None}) == 1


async def test_outputs_come_in_the_connectors_order(registered: Any) -> None:
    """As Flyte: a tuple in the connector's order; the handle has the interface's."""
    answer = Resource(phase=TaskExecution.SUCCEEDED, outputs={"b": "2", "a": 1})
    registered(Script(policy=QUICK, get=answer))
    task = a_task(outputs={"a": int, "b": str})
    assert await task.execute() == ("2", 1)
    orchestrator = await default_orchestrator()
    [execution] = await orchestrator.list()
    assert await orchestrator.handle(execution.id).result() == (1, "2")


@pytest.mark.parametrize("declared", [{}, {"result": str}])
async def test_without_outputs_the_answer_is_none(
    registered: Any, declared: dict[str, type]
) -> None:
    """As Flyte, also of declared ones: such a job has put them elsewhere."""
    registered(Script(policy=QUICK, get=Resource(phase=TaskExecution.SUCCEEDED)))
    assert await a_task(outputs=declared).execute() is None
    [execution] = await (await default_orchestrator()).list()
    assert (execution.phase, execution.outputs) == ("SUCCEEDED", None)


async def test_a_failure_is_a_runtime_error_with_the_message(registered: Any) -> None:
    registered(Script(policy=QUICK, get=FAILED))
    with pytest.raises(RuntimeError, match="bad") as caught:
        await a_task().execute()
    assert isinstance(caught.value, ExecutionFailedError)
    assert caught.value.execution.error_code == "REMOTE_FAILED"


async def test_a_cancelled_execute_detaches_and_says_what_goes_on(
    registered: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(DONE)
    script = registered(Script(policy=QUICK, get=[RUNNING, gate.answer(), DONE]))
    running = asyncio.create_task(a_task().execute())
    await gate.wait()
    running.cancel()
    with (
        caplog.at_level(logging.WARNING, logger="orchestrator"),
        pytest.raises(asyncio.CancelledError),
    ):
        await running
    orchestrator = await default_orchestrator()
    [execution] = await orchestrator.list()
    assert execution.id in caplog.text
    gate.opened.set()
    assert (await orchestrator.wait(execution.id, timeout=10)).phase == "SUCCEEDED"
    assert script.number("delete") == 0


async def test_a_cancelled_execute_aborts_if_it_was_told_to(registered: Any) -> None:
    gate = Gate(RUNNING)
    script = registered(
        Script(policy=QUICK, get=[RUNNING, gate.answer()], delete_is_final=True)
    )
    with options(abort_on_cancel=True):
        running = asyncio.create_task(a_task().execute())
    await gate.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.opened.set()
    orchestrator = await default_orchestrator()
    [execution] = await orchestrator.list()
    assert (await orchestrator.wait(execution.id, timeout=10)).phase == "ABORTED"
    assert script.number("delete") == 1


async def test_a_script_that_is_run_again_pays_once(registered: Any) -> None:
    """``options(idempotency_key=...)``, or the task's own options."""
    script = registered(Script(policy=QUICK, get=DONE))
    with options(idempotency_key="nightly", labels={"team": "growth"}):
        assert await a_task().execute() == ("good",)
        assert await a_task().execute() == ("good",)
    await close_default()
    keyed = a_task(options={"idempotency_key": "nightly"})
    assert await keyed.execute() == ("good",)
    assert script.number("create") == 1
    orchestrator = await default_orchestrator()
    [execution] = await orchestrator.list(labels={"team": "growth"})
    assert execution.idempotency_key == "nightly"


async def test_closing_the_default_engine_lets_the_next_execute_open_it(
    registered: Any,
) -> None:
    registered(Script(policy=QUICK, get=DONE))
    first: Orchestrator = await default_orchestrator()
    await close_default()
    assert await a_task().execute() == ("good",)
    assert await default_orchestrator() is not first


def test_each_loop_has_an_engine_that_ends_with_it(
    registered: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``asyncio.run`` twice in one program: nothing is left of the first."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE", str(path))
    script = registered(Script(policy=QUICK, get=DONE))
    assert asyncio.run(a_task().execute()) == ("good",)
    assert asyncio.run(a_task().execute()) == ("good",)
    assert script.number("create") == 2
    assert not list(path.parent.glob("*.lock"))
