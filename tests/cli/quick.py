"""What the CLI's tests run: a service in the process that answers at once.

How a job ends stands in its input ``mode``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
)
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Policy, TaskTemplate
from orchestrator.connectors import (
    AsyncConnector,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from orchestrator.models import NativeInterface

HOSTILE = "evil\x1b[31m\x1b]0;title\x07\u202ename\nsecond line"


@dataclass
class QuickMeta(ResourceMeta):
    """What the job is to become."""

    mode: str


class QuickConnector(AsyncConnector[QuickMeta]):
    """Forgets everything: class N."""

    name = "Quick Connector"
    task_type_name = "quick"
    metadata_type = QuickMeta
    on_unknown_create = "hold"
    policy = Policy(
        poll_delay_min=timedelta(milliseconds=5),
        poll_delay_max=timedelta(milliseconds=20),
        hold_delay=timedelta(milliseconds=50),
        error_delay_min=timedelta(milliseconds=5),
    )

    async def create(  # type: ignore[override, unused-ignore]
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        **_: Any,
    ) -> QuickMeta:
        mode = (inputs or {})["mode"]
        if mode == "unknown":
            raise ConnectionResetError("cut \x1b[31mhere")
        return QuickMeta(mode)

    async def get(self, resource_meta: QuickMeta, **_: Any) -> Resource:
        match resource_meta.mode:
            case "never":
                return Resource(TaskExecution.RUNNING, message="going on")
            case "fail":
                return Resource(TaskExecution.FAILED, message="no \x1b[31mluck")
            case "silent":
                return Resource(TaskExecution.SUCCEEDED)
            case mode:
                return Resource(TaskExecution.SUCCEEDED, outputs={"said": mode})

    async def delete(self, resource_meta: QuickMeta, **_: Any) -> None:
        resource_meta.mode = "fail"

    async def get_logs(self, resource_meta: QuickMeta, **_: Any) -> GetTaskLogsResponse:
        lines = ["first\tline", f"  {resource_meta.mode}", HOSTILE]
        return GetTaskLogsResponse(body=GetTaskLogsResponseBody(results=lines))


class DeletingConnector(QuickConnector):
    """The same, but a delete ends the job."""

    name = "Deleting Connector"
    task_type_name = "deleting"
    delete_is_final = True


ConnectorRegistry.register(QuickConnector())
ConnectorRegistry.register(DeletingConnector())

INTERFACE = NativeInterface(
    inputs={"mode": str, "rows": (int, 1)}, outputs={"said": str}
)
task = TaskTemplate(name="quick_task", interface=INTERFACE, task_type="quick")
hostile = TaskTemplate(name=HOSTILE, interface=INTERFACE, task_type="quick")


silent = TaskTemplate(
    name="silent",
    interface=NativeInterface(inputs=INTERFACE.inputs, outputs={}),
    task_type="quick",
)


sized = TaskTemplate(
    name="sized",
    interface=NativeInterface(
        inputs={"mode": str, "sizes": list[int], "words": dict[str, int]}, outputs={}
    ),
    task_type="quick",
)


def deleting() -> TaskTemplate:
    """Make a task: the CLI calls what is no task."""
    return TaskTemplate(name="deleting", interface=INTERFACE, task_type="deleting")


class Holder:
    """A task may stand deeper in its module."""

    inner = task


no_task = 42


def breaks() -> TaskTemplate:
    """Raise, as factories do."""
    raise KeyError("nothing \x1b[31mhere")
