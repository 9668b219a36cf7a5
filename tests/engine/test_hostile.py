"""Connectors that misbehave: their own row suffers for it, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Config, Orchestrator, Phase, Policy, Registry, TaskTemplate
from orchestrator.connectors import AsyncConnector, Resource, ResourceMeta
from orchestrator.errors import StoreUnavailableError, ThrottledError
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

# Registering, reading settings and opening touch the file system once.
pytestmark = pytest.mark.may_block

QUICK = timedelta(milliseconds=10)
TASK = TaskTemplate(
    name="hostile", interface=NativeInterface({}, {}), task_type="hostile"
)
CONFIG = Config(stop_timeout=timedelta(milliseconds=300))


@dataclass
class Meta(ResourceMeta):
    """The handle."""

    job: str


class Hostile(AsyncConnector[Meta]):
    """Its ``get`` is the test's, until the job is deleted."""

    name = "hostile"
    task_type_name = "hostile"
    metadata_type = Meta
    policy = Policy(
        poll_delay_min=QUICK,
        poll_delay_max=QUICK,
        error_delay_min=QUICK,
        error_delay_max=QUICK,
        get_timeout=timedelta(milliseconds=200),
        jitter=0.0,
    )

    def __init__(self, get: Callable[[int], Awaitable[Resource]]) -> None:
        """Call *get* with the number of the call."""
        self._get = get
        self.gets = 0
        self.deleted = False

    async def create(self, **kwargs: Any) -> Meta:  # type: ignore[override]
        """Submit."""
        del kwargs
        return Meta("1")

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Resource:
        """Do what the test says."""
        del resource_meta, kwargs
        self.gets += 1
        if self.deleted:
            return Resource(phase=TaskExecution.ABORTED)
        return await self._get(self.gets)

    async def delete(self, resource_meta: Meta, **kwargs: Any) -> None:
        """End the job."""
        del resource_meta, kwargs
        self.deleted = True


def _registry(connector: Hostile) -> Registry:
    registry = Registry()
    registry.register(connector)
    return registry


async def test_a_call_that_swallows_its_cancellation_is_left_behind(
    tmp_path: Path,
) -> None:
    """The poll times out, an abort is carried out, and close returns."""
    release = asyncio.Event()

    async def get(number: int) -> Resource:
        if number == 1:
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()
        return Resource(phase=TaskExecution.RUNNING)

    registry = _registry(Hostile(get))
    async with Orchestrator(tmp_path / "o.db", registry=registry, config=CONFIG) as o:
        handle = await o.submit(TASK)
        async with asyncio.timeout(20):
            while "TIMED_OUT" not in str(await handle.history()):
                if (await handle.get()).poll_errors or (await handle.get()).polls > 1:
                    break
        await handle.abort("enough")
        assert (await handle.wait(timeout=20)).phase is Phase.ABORTED
    release.set()


async def test_a_call_that_cancels_its_own_task_cancels_no_step(
    tmp_path: Path,
) -> None:
    async def get(number: int) -> Resource:
        if number <= 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return Resource(phase=TaskExecution.SUCCEEDED)

    registry = _registry(Hostile(get))
    async with Orchestrator(tmp_path / "o.db", registry=registry, config=CONFIG) as o:
        handle = await o.submit(TASK)
        assert (await handle.wait(timeout=20)).phase is Phase.SUCCEEDED
        causes = [t.cause for t in await handle.history()]
        assert "ERRORS_BEGAN" in causes


@pytest.mark.parametrize("raised", [SystemExit(3), MemoryError(), RecursionError()])
async def test_whatever_get_raises_is_no_end_of_the_loop(
    tmp_path: Path, raised: BaseException
) -> None:
    async def get(number: int) -> Resource:
        if number == 1:
            raise raised
        return Resource(phase=TaskExecution.SUCCEEDED)

    registry = _registry(Hostile(get))
    async with Orchestrator(tmp_path / "o.db", registry=registry, config=CONFIG) as o:
        handle = await o.submit(TASK)
        assert (await handle.wait(timeout=20)).phase is Phase.SUCCEEDED


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1, "10", 1e300])
async def test_a_nonsensical_retry_after_asks_for_nothing(
    tmp_path: Path, nonsense: Any
) -> None:
    async def get(number: int) -> Resource:
        if number == 1:
            error = ThrottledError("later")
            error.retry_after = nonsense
            raise error
        return Resource(phase=TaskExecution.SUCCEEDED)

    registry = _registry(Hostile(get))
    async with Orchestrator(tmp_path / "o.db", registry=registry, config=CONFIG) as o:
        handle = await o.submit(TASK)
        if nonsense == 1e300:  # at most an hour
            async with asyncio.timeout(20):
                while not (await handle.get()).poll_errors:  # noqa: ASYNC110 - the row tells
                    await asyncio.sleep(0)
            execution = await handle.get()
            assert execution.due_at is not None
            wait = execution.due_at - execution.updated_at
            assert timedelta(minutes=59) < wait < timedelta(minutes=61)
        else:
            assert (await handle.wait(timeout=20)).phase is Phase.SUCCEEDED


async def test_a_phase_that_is_no_phase_is_an_error_that_can_be_seen(
    tmp_path: Path,
) -> None:
    async def get(number: int) -> Resource:
        del number
        return Resource(phase="SUCCEEDED")  # type: ignore[arg-type]

    registry = _registry(Hostile(get))
    async with Orchestrator(tmp_path / "o.db", registry=registry, config=CONFIG) as o:
        handle = await o.submit(TASK)
        async with asyncio.timeout(20):
            while not (await handle.get()).poll_errors:  # noqa: ASYNC110 - the row tells
                await asyncio.sleep(0)
        assert "'SUCCEEDED' is no TaskExecution phase" in str(
            (await handle.get()).last_error
        )


async def test_a_read_that_fails_once_does_not_keep_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(number: int) -> Resource:
        del number
        return Resource(phase=TaskExecution.SUCCEEDED)

    path = tmp_path / "o.db"
    registry = _registry(Hostile(get))
    async with Orchestrator(path, registry=registry, start=False) as o:
        handle = await o.submit(TASK)
    o = Orchestrator(path, registry=registry, config=CONFIG)
    contexts = o._engine.contexts
    read, failures = contexts._read_template, [1]

    async def failing(digest: str) -> bytes | None:
        if failures:
            failures.pop()
            raise StoreUnavailableError("too many open files")
        return await read(digest)

    monkeypatch.setattr(contexts, "_read_template", failing)
    async with o:
        assert (await o.wait(handle.id, timeout=20)).phase is Phase.SUCCEEDED
    assert not failures
