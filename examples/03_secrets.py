"""Secrets: references in the database, values only in the connector's calls."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Orchestrator, Policy, TaskTemplate
from orchestrator.connectors import (
    AsyncConnector,
    ConnectorRegistry,
    ConnectorSecretsMixin,
    Resource,
    ResourceMeta,
)
from orchestrator.models import NativeInterface

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")


@dataclass
class ReportMeta(ResourceMeta):
    """Never a place for a secret: it is stored."""

    report: str


class SecureConnector(AsyncConnector[ReportMeta], ConnectorSecretsMixin):
    """Its secrets reach ``create``, ``get`` and ``delete`` as keyword arguments."""

    name = "Report Connector"
    task_type_name = "report"
    metadata_type = ReportMeta
    policy = Policy(poll_delay_min=timedelta(milliseconds=50))

    def __init__(self, secrets: dict[str, str]) -> None:
        super().__init__(secrets=secrets)

    async def create(  # type: ignore[override, unused-ignore]
        self,
        task_template: Any,  # noqa: ARG002
        output_prefix: str,  # noqa: ARG002
        *,
        api_key: str,
        **_: Any,
    ) -> ReportMeta:
        """Log in with the key."""
        return ReportMeta(report=f"report for a key of {len(api_key)} characters")

    async def get(
        self, resource_meta: ReportMeta, *, api_key: str = "", **_: Any
    ) -> Resource:
        """Answer as careless services do: with the key in the message."""
        return Resource(
            TaskExecution.SUCCEEDED,
            message=f"Authorization: Bearer {api_key} was accepted",
            outputs={"report": resource_meta.report},
        )

    async def delete(self, resource_meta: ReportMeta, **_: Any) -> None:
        """Cancel the job."""


async def main() -> None:
    """Run a task with a secret, then look for its value in the database."""
    # Set by whoever starts the program; here for the example's sake.
    os.environ["REPORT_API_KEY"] = value = "correct-horse-battery-staple"
    ConnectorRegistry.register(SecureConnector(secrets={"api_key": "REPORT_API_KEY"}))
    task = TaskTemplate(
        name="weekly_report",
        interface=NativeInterface(inputs={}, outputs={"report": str}),
        task_type="report",
    )
    async with Orchestrator(DATABASE) as orch:
        handle = await orch.submit(task)
        execution = await handle.wait()
        print(f"{execution.phase}: {await handle.result()}")
        print(f"message: {execution.message}")
    stored = await asyncio.to_thread(Path(DATABASE.rpartition(":///")[2]).read_bytes)
    print(f"the database holds the value: {value.encode() in stored}")


if __name__ == "__main__":
    asyncio.run(main())
