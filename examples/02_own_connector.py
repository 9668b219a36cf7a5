"""Your own connector: one job per attempt, although the service hangs up on create.

Two ways to be sure, one connector each: the service remembers a token
(``create_is_idempotent``), or it can be asked for one (``find``).
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Orchestrator, Policy, TaskTemplate
from orchestrator.connectors import (
    AsyncConnector,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from orchestrator.errors import ResourceGoneError, ThrottledError
from orchestrator.models import NativeInterface

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")


class FlakyService:
    """Somebody else's service: throttles once, then hangs up after taking the job."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}  # token -> rows to copy
        self.calls: Counter[str] = Counter()

    def submit(self, token: str, rows: str) -> None:
        """Take a job; a token that is known makes no second one."""
        self.calls["submit"] += 1
        if self.calls["submit"] == 1:
            raise ThrottledError("too many requests", retry_after=0.1)
        self.jobs.setdefault(token, rows)
        if self.calls["submit"] == 2:  # noqa: PLR2004
            raise ConnectionResetError("connection reset by peer")


@dataclass
class CopyMeta(ResourceMeta):
    """The service knows its jobs by our token."""

    token: str


class RememberingConnector(AsyncConnector[CopyMeta]):
    """The service remembers a token for a day: the same create is simply repeated."""

    name = "Copy Connector"
    task_type_name = "copy"
    metadata_type = CopyMeta
    create_is_idempotent: bool | timedelta = timedelta(days=1)
    delete_is_final = True  # once delete has returned, the job is gone
    # Quick, for an example; the defaults suit jobs of minutes and hours.
    policy = Policy(
        poll_delay_min=timedelta(milliseconds=50),
        error_delay_min=timedelta(milliseconds=50),
        find_settle=timedelta(milliseconds=200),
    )

    def __init__(self) -> None:
        self.service = FlakyService()

    async def create(  # type: ignore[override, unused-ignore]
        self,
        task_template: Any,  # noqa: ARG002 - Flyte's TaskTemplate as protobuf
        output_prefix: str,  # noqa: ARG002 - a place for large results
        inputs: dict[str, Any] | None = None,
        idempotency_token: str = "",
        **_: Any,
    ) -> CopyMeta:
        """Submit with the attempt's token, which a replay repeats."""
        self.service.submit(idempotency_token, str((inputs or {})["rows"]))
        return CopyMeta(idempotency_token)

    async def get(self, resource_meta: CopyMeta, **_: Any) -> Resource:
        """Tell how the job does."""
        rows = self.service.jobs.get(resource_meta.token)
        if rows is None:
            raise ResourceGoneError(resource_meta.token)  # deleted, or forgotten
        return Resource(TaskExecution.SUCCEEDED, outputs={"copied": int(rows)})

    async def delete(self, resource_meta: CopyMeta, **_: Any) -> None:
        """Cancel the job; one that is gone is no error."""
        self.service.jobs.pop(resource_meta.token, None)


class FindingConnector(RememberingConnector):
    """The service remembers nothing, but its jobs can be searched by a label."""

    task_type_name = "copy_find"
    create_is_idempotent = False

    async def find(self, token: str, **_: Any) -> CopyMeta | None:
        """Return the job that was created with *token*, None if there is none."""
        return CopyMeta(token) if token in self.service.jobs else None


async def demonstrate(orch: Orchestrator, connector: RememberingConnector) -> None:
    """Run one task on *connector*, and show which way it went."""
    task = TaskTemplate(
        name="copy_table",
        interface=NativeInterface(inputs={"rows": int}, outputs={"copied": int}),
        task_type=connector.task_type_name,
    )
    key = f"copy-{uuid.uuid4()}"  # better: what makes it one and the same request
    handle = await orch.submit(task, {"rows": 42}, idempotency_key=key)
    again = await orch.submit(task, {"rows": 42}, idempotency_key=key)
    if again.id != handle.id:
        raise RuntimeError("a key must never make a second execution")
    print(f"{type(connector).__name__}: copied {await handle.result()} rows")
    for row in await handle.history():
        print(f"  {row.to_phase:<14} {row.cause:<22} {row.message or ''}".rstrip())
    calls, jobs = connector.service.calls["submit"], len(connector.service.jobs)
    print(f"  submit was called {calls} times, the service has {jobs} job")


async def main() -> None:
    """Run both."""
    connectors = [RememberingConnector(), FindingConnector()]
    for connector in connectors:
        ConnectorRegistry.register(connector)
    async with Orchestrator(DATABASE) as orch:
        for connector in connectors:
            await demonstrate(orch, connector)


if __name__ == "__main__":
    asyncio.run(main())
