"""A service in the process that costs nothing, and the task that runs on it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._config import Policy
from orchestrator.connectors import (
    AsyncConnector,
    AsyncConnectorExecutorMixin,
    Resource,
    ResourceMeta,
)
from orchestrator.extend import TaskTemplate
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate as TaskTemplateProto

INPUTS = {"x": 1, "y": "abc"}
OUTPUTS = {"result": 42, "uri": "s3://bucket/key/0001"}
INPUTS_JSON = json.dumps(INPUTS)
OUTPUTS_JSON = json.dumps(OUTPUTS)


@dataclass
class FreeMeta(ResourceMeta):
    """The handle of a job of the free service."""

    job_id: str


class FreeConnector(AsyncConnector[FreeMeta]):
    """Jobs that end at their k-th poll; every call lets the loop turn once.

    Attributes:
        all_ended: Set as soon as *executions* jobs were told to have succeeded.
    """

    name = "Free"
    task_type_name = "free"
    metadata_type = FreeMeta
    policy = Policy(
        poll_delay_min=timedelta(0), poll_delay_max=timedelta(0), jitter=0.0
    )

    def __init__(self, executions: int, polls: int) -> None:
        """End each job at its poll number *polls*."""
        self._polls = polls
        self._left = executions
        self._created = 0
        self._seen: dict[str, int] = {}
        self.all_ended = asyncio.Event()

    async def create(
        self,
        task_template: TaskTemplateProto,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        **kwargs: Any,
    ) -> FreeMeta:
        """Number the job."""
        del task_template, output_prefix, inputs, task_execution_metadata, kwargs
        await asyncio.sleep(0)
        self._created += 1
        return FreeMeta(f"job-{self._created}")

    async def get(self, resource_meta: FreeMeta, **kwargs: Any) -> Resource:
        """Count the poll."""
        del kwargs
        await asyncio.sleep(0)
        seen = self._seen[resource_meta.job_id] = (
            self._seen.get(resource_meta.job_id, 0) + 1
        )
        if seen < self._polls:
            return Resource(phase=TaskExecution.RUNNING)
        self._left -= 1
        if self._left == 0:
            self.all_ended.set()
        return Resource(phase=TaskExecution.SUCCEEDED, outputs=OUTPUTS)

    async def delete(self, resource_meta: FreeMeta, **kwargs: Any) -> None:
        """Nothing is ever deleted here."""


class FreeTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A task of two inputs and two outputs."""

    def __init__(self) -> None:
        """Describe the task."""
        super().__init__(
            name="free",
            task_type="free",
            interface=NativeInterface(
                inputs={"x": (int, 0), "y": (str, "")},
                outputs={"result": int, "uri": str},
            ),
            image=None,
        )
