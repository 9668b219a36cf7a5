"""Any REST batch API in the campaign: the job server, declared in two classes.

Class I: its create is declared idempotent. Class L: jobs are found by their token.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import RetryStrategy, Timeout
from orchestrator.connectors.http import HttpConnector, HttpTask
from tests.connectors.campaign.entry import WORKER, ConnectorSide, arguments
from tests.connectors.campaign.observed import observe
from tests.connectors.http.api import job_server as declared
from tests.connectors.http.api import merged
from tests.crash.subject import Subject
from tests.crash.worker import policy_of
from tests.jobserver.client import JobClient
from tests.jobserver.launch import job_server
from tests.jobserver.witness import Witness, WitnessedJob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator._connector import AsyncConnector
    from orchestrator._tasks import TaskTemplate
    from orchestrator.testing import ServiceClass
    from tests.crash.board import Board
    from tests.crash.points import Points
    from tests.crash.scenario import Plan
    from tests.jobserver.connectors import Around


class Side(ConnectorSide):
    """The worker's side of it; the URL is the server's address and a class."""

    async def connect(
        self, around: Around, faults: Points, board: Board
    ) -> AsyncConnector[Any]:
        """Return the connector of the definition."""
        del faults, board
        more: dict[str, Any] = {
            "auth": None,
            "inputs": {"forever": None, "spec": "dict"},
            "submit": {"json": {"spec": None}},
        }
        address, _, path = self.url.partition("/")
        definition = declared(f"http://{address}", self.service.value)
        definition["base_url"] = f"http://{address}/{path}"
        definition = merged(definition, more)
        definition["submit"]["json"]["spec"] = "{{.inputs.spec}}"
        self._definition = definition
        host, _, port = address.rpartition(":")
        self._client = JobClient(host, int(port))
        connector = HttpConnector(definition)
        connector.policy = policy_of(self.service)
        observe(connector, around, lambda meta: str(meta.token))
        return connector

    def job(self, plan: Plan) -> tuple[TaskTemplate, dict[str, Any]]:
        """Return a job that behaves as its spec says."""
        limit = timedelta(seconds=plan.kind.run_timeout_s)
        task = HttpTask(
            plan.kind_name.replace(" ", "_"),
            self._definition,
            retries=RetryStrategy(count=plan.kind.retries),
            timeout=Timeout(max_runtime=limit) if limit else None,
        )
        return task, {"spec": json.loads(json.dumps(plan.spec.to_json()))}

    async def release(self, token: str) -> None:
        """Let the server give the answers that it withholds of *token*."""
        await self._client.request("PUT", "/release", {"token": token})

    async def aclose(self) -> None:
        """Close the connections of `release`."""
        await self._client.aclose()


SIDE = Side


class HttpWitness(Witness):
    """The job server's ledger, with host and id as the connector's keys have them."""

    def __init__(self, path: Path, address: str) -> None:
        super().__init__(path)
        self._address = address

    def jobs(self) -> list[WitnessedJob]:
        """Return every job ever made, in order of creation."""
        return [replace(job, id=f"{self._address}/{job.id}") for job in super().jobs()]


@contextmanager
def opened(service: ServiceClass, folder: Path, seed: str) -> Iterator[Subject]:
    """Run the job server until the block ends."""
    name = "http" if service.value == "I" else "http-listed"
    with job_server(folder / "ledger.db", seed=seed) as server:
        yield Subject(
            name=name,
            service=service,
            witness=HttpWitness(server.ledger, server.address),
            arguments=arguments(name, f"{server.address}/{service.value}"),
            worker=WORKER,
        )
