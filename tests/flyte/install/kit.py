"""Connectors and tasks that are written for Flyte, as its users write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flyte.connectors import (
    AsyncConnector,
    AsyncConnectorExecutorMixin,
    Resource,
    ResourceMeta,
)
from flyte.connectors.utils import convert_to_flyte_phase
from flyte.extend import TaskTemplate
from flyte.io import DataFrame
from flyte.models import NativeInterface
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator import Config, Orchestrator, Policy

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator import Registry

QUICK = Policy(
    poll_delay_min=timedelta(milliseconds=10),
    poll_delay_max=timedelta(milliseconds=20),
)


@dataclass
class CountMeta(ResourceMeta):
    """The handle of a job that counts."""

    start: int
    where: str = "here"


@dataclass
class Seen:
    """What a connector was called with, in order."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def of(self, method: str) -> list[dict[str, Any]]:
        """Return the arguments of each call of *method*."""
        return [given for name, given in self.calls if name == method]


class CountConnector(AsyncConnector[CountMeta]):
    """Adds one. Its states come from a list, through Flyte's own mapping."""

    name = "Count Connector"
    task_type_name = "count"
    metadata_type = CountMeta
    policy = QUICK  # a member of ours

    def __init__(self, *states: str) -> None:
        self.states = list(states) or ["success"]
        self.seen = Seen()

    async def create(
        self, task_template: Any, inputs: Any = None, **kwargs: Any
    ) -> CountMeta:
        given = {"task_template": task_template, "inputs": inputs, **kwargs}
        self.seen.calls.append(("create", given))
        return CountMeta(start=(inputs or {}).get("start", 0))

    async def get(self, resource_meta: CountMeta, **kwargs: Any) -> Resource:
        self.seen.calls.append(("get", {"resource_meta": resource_meta, **kwargs}))
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        phase = convert_to_flyte_phase(state)
        return Resource(
            phase=phase,
            message=state,
            log_links=[TaskLog(name="Console", uri="https://console.example/1")],
            outputs={
                "total": resource_meta.start + 1,
                "table": DataFrame(uri="bq://p:d.t"),
            },
            custom_info={"state": state},
        )

    async def delete(self, resource_meta: CountMeta, **kwargs: Any) -> None:
        self.seen.calls.append(("delete", {"resource_meta": resource_meta, **kwargs}))


class CountTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A task for the connector above."""

    def __init__(self, name: str = "count", **kwargs: Any) -> None:
        super().__init__(
            name=name,
            interface=NativeInterface(
                {"start": (int, None)}, {"total": int, "table": DataFrame}
            ),
            task_type="count",
            image=None,
            **kwargs,
        )


def engine(folder: Path, registry: Registry) -> Orchestrator:
    """Return an engine on a database in *folder*, not open yet."""
    return Orchestrator(folder / "o.db", registry=registry, config=Config())


SUCCEEDED = TaskExecution.SUCCEEDED
