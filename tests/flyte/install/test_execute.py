"""``execute()`` of Flyte's mixin and its local run, on a durable engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import flyte
import pytest
from flyte._task import AsyncFunctionTaskTemplate
from flyte.connectors import AsyncConnectorExecutorMixin, ConnectorRegistry
from flyte.io import DataFrame

from orchestrator import Orchestrator, options
from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator.errors import ExecutionFailedError
from orchestrator.flyte import _execute, install, uninstall
from tests.flyte.install.kit import CountConnector, CountTask, engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OUTPUTS = (6, DataFrame(uri="bq://p:d.t"))
# Flyte's loops open an engine with its settings, which lie in files.
pytestmark = pytest.mark.may_block


@pytest.fixture
def connector(flyte_registry: Any, tmp_path: Path) -> Iterator[CountConnector]:
    """Install for local runs, with one connector."""
    made = CountConnector()
    install(database=tmp_path / "runs.db", load_plugins=False)
    ConnectorRegistry.register(made)
    flyte.init()
    yield made
    uninstall()


def _local(task: Any, **inputs: Any) -> Any:
    return flyte.with_runcontext(mode="local").run(task, **inputs).outputs()


def test_execute_gives_what_flyte_gives(connector: CountConnector) -> None:
    """Without a context, where Flyte itself refuses; a tuple in connector's order."""
    assert asyncio.run(CountTask().execute(start=5)) == OUTPUTS


def test_a_local_run_is_an_execution(connector: CountConnector) -> None:
    """The same run twice is two jobs; with a key it is one."""
    task = CountTask()
    flyte.TaskEnvironment.from_task("count_env", task)
    with options(idempotency_key="nightly"):
        runs = [_local(task, start=5), _local(task, start=5)]
    runs.append(_local(task, start=5))
    assert [total for total, _ in runs] == [6, 6, 6]
    assert {table.uri for _, table in runs} == {"bq://p:d.t"}
    assert len(connector.seen.of("create")) == 2


def _parents(count: CountTask) -> tuple[Any, list[int]]:
    """Return a parent task that calls *count* in many ways, and its attempts."""
    below = flyte.TaskEnvironment.from_task("below_env", count)
    env = flyte.TaskEnvironment("parent_env", depends_on=[below])
    attempts: list[int] = []

    @env.task  # type: ignore[untyped-decorator, unused-ignore]
    async def inner(n: int) -> int:
        return int((await count(start=n))[0])

    @env.task(retries=1)  # type: ignore[untyped-decorator, unused-ignore]
    async def parent(n: int, fails: bool) -> int:  # noqa: FBT001 - Flyte's way
        attempts.append(n)
        first, second = await count(start=n), await count(start=n)
        others = await asyncio.gather(count(start=n + 1), inner(n), inner(n))
        if fails and len(attempts) == 1:
            raise OSError("the first attempt ends late")
        return int(first[0] + second[0] + others[0][0] + others[1] + others[2])

    return parent, attempts


def test_below_a_parent_each_call_has_a_key_of_its_own(
    connector: CountConnector,
) -> None:
    """Equal calls are two jobs; the run is repeated, and retried, without a new one."""
    parent, attempts = _parents(CountTask())
    with options(idempotency_key="nightly"):
        totals = [_local(parent, n=5, fails=True).o0]
        created = len(connector.seen.of("create"))
        totals.append(_local(parent, n=5, fails=True).o0)
    assert attempts == [5, 5, 5]
    assert totals == [31, 31]
    assert created == 5
    assert len(connector.seen.of("create")) == created


async def test_the_keys_of_a_run_begin_with_the_users(
    connector: CountConnector, tmp_path: Path
) -> None:
    """Found again with it; with other inputs the calls are others."""
    parent, _ = _parents(CountTask())
    with options(idempotency_key="nightly"):
        for n in (5, 7):
            await asyncio.to_thread(_local, parent, n=n, fails=False)
    async with Orchestrator(tmp_path / "runs.db", start=False) as orch:
        keys = [execution.idempotency_key or "" for execution in await orch.list()]
    assert len(set(keys)) == len(keys) == 10
    assert {key.partition("/")[0] for key in keys} == {"nightly"}


async def test_an_open_engine_of_the_loop_is_used(
    connector: CountConnector, tmp_path: Path
) -> None:
    """What runs there is found there."""
    async with engine(tmp_path, DEFAULT_REGISTRY) as orch:
        assert await CountTask("mine").execute(start=5) == OUTPUTS
        assert [execution.name for execution in await orch.list()] == ["mine"]


def test_a_failed_task_is_not_retried_again_by_flyte(
    connector: CountConnector,
) -> None:
    """Its retries are the engine's: one job for each attempt, not each squared."""
    connector.states = ["internal_error"]
    task = CountTask(retries=1)
    flyte.TaskEnvironment.from_task("failing_env", task)
    with pytest.raises(RuntimeError, match="internal_error"):
        _local(task, start=5)
    assert len(connector.seen.of("create")) == 2


def test_outside_a_run_the_error_is_ours(connector: CountConnector) -> None:
    """With the execution in it."""
    connector.states = ["failed"]
    with pytest.raises(ExecutionFailedError) as raised:
        asyncio.run(CountTask().execute(start=5))
    assert raised.value.execution.task_type == "count"
    assert str(raised.value.execution.id) in str(raised.value)


def test_several_at_once_share_one_engine_and_leave_none(
    connector: CountConnector,
) -> None:
    """The last one closes it: nothing is left open when the loop ends."""

    async def many() -> list[Any]:
        task = CountTask()
        return await asyncio.gather(*(task.execute(start=n) for n in range(5)))

    totals = [outputs[0] for outputs in asyncio.run(many())]
    assert totals == [1, 2, 3, 4, 5]


async def test_functions_are_left_to_flyte(connector: CountConnector) -> None:
    """Only Flyte can bundle their code."""
    seen: list[Any] = []

    async def original(self: Any, **kwargs: Any) -> str:
        seen.append(self)
        return "flyte's"

    class Function(AsyncConnectorExecutorMixin, AsyncFunctionTaskTemplate):
        """A function task of a plugin."""

    task = Function.__new__(Function)
    assert await _execute.durable(original, None)(task, x=1) == "flyte's"
    assert seen == [task]
