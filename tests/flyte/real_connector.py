"""A connector as a user of Flyte writes it: the job's id says how the job does.

It stands unchanged in a service of the real ``flyte`` package and in one of ours:
only the import tells the two apart. Answers depend on nothing but the request, so
that both services can be held against the same stored messages.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
    GetTaskLogsResponseHeader,
    GetTaskMetricsResponse,
)
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl2.core.metrics_pb2 import ExecutionMetricResult
from flyteidl2.logs.dataplane.payload_pb2 import LogLine

try:
    from flyte.connectors import (  # type: ignore[import-not-found, unused-ignore]
        AsyncConnector,
        ConnectorRegistry,
        Resource,
        ResourceMeta,
    )
except ImportError:
    from orchestrator.connectors import (
        AsyncConnector,
        ConnectorRegistry,
        Resource,
        ResourceMeta,
    )

PAGES = 2


@dataclass
class PhaseMeta(ResourceMeta):  # type: ignore[misc, unused-ignore]
    """The phase that the job will be in, and who it belongs to."""

    phase: str
    owner: str = ""


class PhaseConnector(AsyncConnector):  # type: ignore[misc, type-arg, unused-ignore]
    """Makes jobs that are in the phase that their input names.

    The inputs are ``phase``, ``count`` and ``ratio``; the phase ``RAISE`` makes
    ``create`` raise, ``HANG`` makes ``get`` wait for ever. The secret ``api_key``
    is shown by its length, and quoted by errors.
    """

    name = "Phase Connector"
    task_type_name = "phase"
    task_type_version = 1
    metadata_type = PhaseMeta

    async def create(  # type: ignore[override, unused-ignore]
        self,
        task_template: Any,
        output_prefix: str,
        inputs: "dict[str, Any] | None" = None,
        task_execution_metadata: Any = None,
        **kwargs: Any,
    ) -> PhaseMeta:
        """Make a job."""
        given = inputs or {}
        phase = str(given.get("phase", "SUCCEEDED"))
        if phase == "RAISE":
            raise ValueError(f"refused the key {kwargs.get('api_key')}")
        run = task_execution_metadata.task_execution_id.node_execution_id.execution_id
        owner = run.name if given.get("count") == 1 else ""
        return PhaseMeta(phase=phase, owner=owner)

    async def get(self, resource_meta: PhaseMeta, **kwargs: Any) -> Resource:
        """Tell the job's phase, and with it what a job may have."""
        if resource_meta.phase == "HANG":
            await asyncio.Event().wait()
        phase = TaskExecution.Phase.Value(resource_meta.phase)
        if phase != TaskExecution.SUCCEEDED:
            return Resource(phase=phase, message=f"it is {resource_meta.phase}")
        return Resource(
            phase=phase,
            message=f"key of {len(kwargs.get('api_key', ''))} characters",
            log_links=[TaskLog(name="console", uri="https://example.com/job")],
            outputs={"text": "é", "whole": 7, "real": 0.5, "yes": True},
            custom_info={"cost": {"bytes": 1024, "cached": False}, "tags": ["a", "b"]},
        )

    async def delete(self, resource_meta: PhaseMeta, **kwargs: Any) -> None:
        """Cancel the job: of no effect, unless it says that it cannot."""
        if resource_meta.phase == "UNDEFINED":
            raise RuntimeError("cannot be deleted")

    async def get_metrics(
        self, resource_meta: PhaseMeta, **kwargs: Any
    ) -> GetTaskMetricsResponse:
        """Tell one metric without data."""
        metric = f"cpu of {resource_meta.phase}"
        return GetTaskMetricsResponse(results=[ExecutionMetricResult(metric=metric)])

    async def get_logs(  # type: ignore[override, unused-ignore]
        self, resource_meta: PhaseMeta, token: str = "", **kwargs: Any
    ) -> AsyncIterator[GetTaskLogsResponse]:
        """Yield one page of two, and where the next one is."""
        page = int(token or 0)
        body = GetTaskLogsResponseBody(
            lines=[LogLine(message=f"{resource_meta.phase} page {page}")]
        )
        yield GetTaskLogsResponse(body=body)
        if page + 1 < PAGES:
            header = GetTaskLogsResponseHeader(token=str(page + 1))
            yield GetTaskLogsResponse(header=header)


ConnectorRegistry.register(PhaseConnector())
