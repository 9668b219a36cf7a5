"""What the durable service of the campaign serves: jobs of a job server.

A module for ``connectors serve --connectors``; JOB_SERVER is the server's host:port.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.connectors import ConnectorRegistry
from orchestrator.testing import JobSpec, ServiceClass
from tests.crash.worker import policy_of
from tests.jobserver.client import JobClient
from tests.jobserver.connectors import JobMeta, JobServerI

if TYPE_CHECKING:
    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate


class ServedJobs(JobServerI):
    """The caller's attempts are executions of their own here: their ends are told."""

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        **kwargs: Any,
    ) -> JobMeta:
        """Submit the job, which ends as the caller's attempt is to end."""
        assert task_execution_metadata is not None
        assert inputs is not None
        nth = task_execution_metadata.task_execution_id.retry_attempt
        spec = JobSpec.from_json(json.loads(inputs["spec"]))
        spec = replace(spec, ends=(spec.ends[min(nth, len(spec.ends) - 1)],))
        return await super().create(
            task_template,
            output_prefix,
            {"spec": json.dumps(spec.to_json())},
            task_execution_metadata,
            **kwargs,
        )


if "JOB_SERVER" in os.environ:
    host, _, port = os.environ["JOB_SERVER"].rpartition(":")
    ConnectorRegistry.register(
        ServedJobs(
            JobClient(host, int(port)), policy=policy_of(ServiceClass.IDEMPOTENT)
        )
    )
