"""Test your own connector: check_connector drives it through crashes, and reports.

The service is a job server of the kit; yours would be a sandbox or an emulator. The
second connector has a fault that no happy path shows: it does not send the token on,
and promises that it does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import TaskTemplate
from orchestrator.connectors import AsyncConnector, Resource, ResourceMeta
from orchestrator.errors import ResourceGoneError
from orchestrator.models import NativeInterface
from orchestrator.testing import JobServer, JobSpec, State, check_connector

STATES = {
    "QUEUED": TaskExecution.QUEUED,
    "RUNNING": TaskExecution.RUNNING,
    "CANCELLING": TaskExecution.RUNNING,
    "SUCCEEDED": TaskExecution.SUCCEEDED,
    "FAILED": TaskExecution.FAILED,
    "RETRYABLE": TaskExecution.RETRYABLE_FAILED,
    "ABORTED": TaskExecution.ABORTED,
}


@dataclass
class BatchMeta(ResourceMeta):
    """What survives a crash: the service's own id."""

    job_id: str


class BatchConnector(AsyncConnector[BatchMeta]):
    """Runs jobs of a service that remembers the token of each create."""

    name = "Batch Connector"
    task_type_name = "batch"
    metadata_type = BatchMeta
    create_is_idempotent = True

    def __init__(self, url: str) -> None:
        self.url = url

    async def create(  # type: ignore[override, unused-ignore]
        self,
        task_template: Any,  # noqa: ARG002 - Flyte's TaskTemplate as protobuf
        output_prefix: str,  # noqa: ARG002 - a place for large results
        inputs: dict[str, Any] | None = None,
        idempotency_token: str = "",
        **_: Any,
    ) -> BatchMeta:
        """Submit with the attempt's token, which a replay repeats."""
        forever = bool((inputs or {})["forever"])
        body = {"token": idempotency_token, "spec": {"until_told": forever}}
        answer = await self.request("POST", "I/jobs", body)
        return BatchMeta(answer["id"])

    async def get(self, resource_meta: BatchMeta, **_: Any) -> Resource:
        """Tell how the job does."""
        answer = await self.request("GET", f"I/jobs/{resource_meta.job_id}")
        return Resource(STATES[answer["state"]], message=answer["state"].lower())

    async def delete(self, resource_meta: BatchMeta, **_: Any) -> None:
        """Cancel the job; one that ended stays as it is."""
        await self.request("DELETE", f"I/jobs/{resource_meta.job_id}")

    def job_key(self, resource_meta: BatchMeta) -> str:
        """Return the service's own id."""
        return resource_meta.job_id

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """Ask the service, in a thread: the client blocks."""
        return await asyncio.to_thread(self._request, method, path, body)

    def _request(self, method: str, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the URL is our own
            f"{self.url}/{path}", data, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:  # noqa: PLR2004
                raise ResourceGoneError(path) from error
            raise


class ForgetfulConnector(BatchConnector):
    """Uses the route of a service class that knows nothing of tokens."""

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """Ask the other route."""
        return await super().request(method, path.replace("I/", "N/", 1), body)


async def main() -> None:
    """Check both."""
    task = TaskTemplate(
        name="a_batch",
        interface=NativeInterface(inputs={"forever": bool}, outputs={}),
        task_type="batch",
    )
    async with JobServer(JobSpec()) as service:
        for kind in (BatchConnector, ForgetfulConnector):
            report = await check_connector(
                partial(kind, service.url),  # makes a new one after each crash
                task,
                {"forever": False},
                long_inputs={"forever": True},
                count_jobs=service.count_jobs,
                states=list(State),
                map_state=STATES.__getitem__,
                poll_every=timedelta(milliseconds=10),
                progress=partial(print, file=sys.stderr),
            )
            print(f"{report}\n")
        print(f"the service made {len(service.jobs())} jobs")
    # In a test of yours: report.assert_ok()


if __name__ == "__main__":
    asyncio.run(main())
