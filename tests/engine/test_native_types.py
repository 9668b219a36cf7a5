"""What a connector sees and gives: the task's own classes, not their protobufs."""

from __future__ import annotations

import asyncio
import enum
import inspect
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Orchestrator, Policy, Registry, TaskTemplate
from orchestrator.connectors import AsyncConnector, Resource, ResourceMeta
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from pathlib import Path

# Registering, reading settings and opening touch the file system once.
pytestmark = pytest.mark.may_block


class Colour(enum.Enum):
    """A choice."""

    RED = "r"
    BLUE = "b"


@dataclass
class Settings:
    """An input with a shape."""

    size: int
    colour: Colour


@dataclass
class Meta(ResourceMeta):
    """The handle."""

    job: str


class Echo(AsyncConnector[Meta]):
    """Gives back what it got, and keeps it for the test."""

    name = "echo"
    task_type_name = "echo"
    metadata_type = Meta
    policy = Policy(poll_delay_min=timedelta(0), jitter=0.0)

    def __init__(self) -> None:
        """Have seen nothing."""
        self.seen: dict[str, Any] = {}

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Meta:
        """Keep the inputs."""
        del task_template, output_prefix, kwargs
        self.seen = inputs or {}
        return Meta("1")

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Resource:
        """Give the inputs back."""
        del resource_meta, kwargs
        return Resource(phase=TaskExecution.SUCCEEDED, outputs=self.seen)

    async def delete(self, resource_meta: Meta, **kwargs: Any) -> None:
        """Do nothing."""


class Unlucky(Echo):
    """The job that is there fails; ours give their inputs back."""

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Resource:
        """Fail if it is theirs."""
        if resource_meta.job == "theirs":
            return Resource(phase=TaskExecution.RETRYABLE_FAILED)
        return await super().get(resource_meta, **kwargs)


TYPES: dict[str, Any] = {"settings": Settings, "colour": Colour, "day": date}
VALUES = {
    "settings": Settings(3, Colour.BLUE),
    "colour": Colour.RED,
    "day": date(2026, 11, 22),
}
TASK = TaskTemplate(
    name="echo",
    interface=NativeInterface(
        inputs={name: (kind, inspect.Parameter.empty) for name, kind in TYPES.items()},
        outputs=TYPES,
    ),
    task_type="echo",
)


async def test_the_connector_sees_the_tasks_own_classes(tmp_path: Path) -> None:
    connector, registry = Echo(), Registry()
    registry.register(connector)
    async with Orchestrator(tmp_path / "o.db", registry=registry) as orch:
        handle = await orch.submit(TASK, VALUES)
        assert await handle.result(timeout=30) == tuple(VALUES.values())
        assert connector.seen == VALUES
        again = await orch.handle(handle.id).result()
        assert again == tuple(VALUES.values()), "a handle made later knows them too"


async def test_an_attached_job_has_the_tasks_own_classes_too(tmp_path: Path) -> None:
    """Its next attempt is created with them, and a handle made later reads them."""
    connector, registry = Unlucky(), Registry()
    registry.register(connector)
    task = TaskTemplate(
        name="echo", interface=TASK.interface, task_type="echo", retries=1
    )
    async with Orchestrator(tmp_path / "o.db", registry=registry) as orch:
        handle = await orch.attach(task, Meta("theirs"), VALUES)
        await handle.wait(timeout=30)
        assert connector.seen == VALUES
        assert await orch.handle(handle.id).result() == tuple(VALUES.values())


async def test_another_process_may_submit_without_the_connector(tmp_path: Path) -> None:
    """What is submitted with ``start=False`` is run by whoever has the connector."""
    path = tmp_path / "o.db"
    async with Orchestrator(path, registry=Registry(), start=False) as orch:
        handle = await orch.submit(TASK, VALUES)
    connector, registry = Echo(), Registry()
    registry.register(connector)
    async with Orchestrator(path, registry=registry) as orch:
        execution = await orch.wait(handle.id, timeout=30)
    assert connector.seen["settings"] == {"size": 3, "colour": "b"}
    assert connector.seen["colour"] == "RED"
    assert execution.terminal


async def test_execute_uses_the_orchestrator_that_the_loop_has_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.connectors import (  # noqa: PLC0415 - beside its use
        AsyncConnectorExecutorMixin,
        ConnectorRegistry,
    )

    class EchoTask(AsyncConnectorExecutorMixin, TaskTemplate):
        """A task with execute()."""

    monkeypatch.chdir(tmp_path)
    ConnectorRegistry.register(Echo(), override=True)
    task = EchoTask(name="t", interface=TASK.interface, task_type="echo")
    async with Orchestrator(tmp_path / "mine.db") as orch:
        outputs = await asyncio.wait_for(task.execute(**VALUES), 30)
        assert outputs == tuple(VALUES.values())
        assert len(await orch.list()) == 1
    assert not (tmp_path / "orchestrator.db").exists()
