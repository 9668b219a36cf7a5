"""Flyte's own connectors and tasks, made durable: a local run is killed, and goes on.

Connector and task are written for the ``flyte`` package and know nothing of this
library. One call is added, ``install()``, and a key that names the run. Flyte pins
much, so give it an environment of its own:

    pip install '/path/to/checkout[flyte]'

The service is a job server of the test kit. Run it without arguments; with the
service's URL and a key it is the script that is killed and run again.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import _missing  # noqa: F401 - without its library it ends in one line
import flyte
from flyte.connectors import (
    AsyncConnector,
    AsyncConnectorExecutorMixin,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from flyte.extend import TaskTemplate
from flyte.models import NativeInterface
from flyteidl2.core.execution_pb2 import TaskExecution

import orchestrator.flyte
from orchestrator import Orchestrator, options
from orchestrator.testing import JobServer

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")


@dataclass
class ReportMeta(ResourceMeta):  # type: ignore[misc, unused-ignore]
    """Where the job is."""

    url: str


class ReportConnector(AsyncConnector):  # type: ignore[misc, unused-ignore]
    """A connector for Flyte, with a client that blocks, as many have."""

    name = "Report Connector"
    task_type_name = "report"
    metadata_type = ReportMeta

    async def create(
        self,
        task_template: Any,  # noqa: ARG002 - Flyte's TaskTemplate as protobuf
        inputs: Any = None,
        **_: Any,
    ) -> ReportMeta:
        """Submit a job of so many seconds."""
        jobs = f"{inputs['service']}/N/jobs"
        spec = {"run_s": inputs["seconds"]}
        job = ask("POST", jobs, {"token": uuid.uuid4().hex, "spec": spec})
        return ReportMeta(f"{jobs}/{job['id']}")

    async def get(self, resource_meta: ReportMeta, **_: Any) -> Resource:
        """Look at it."""
        job = ask("GET", resource_meta.url)
        print(f"  {job['id']} is {job['state']}", flush=True)
        if job["state"] != "SUCCEEDED":
            return Resource(phase=TaskExecution.RUNNING)
        outputs = {"report": f"{job['id']}.pdf"}
        return Resource(phase=TaskExecution.SUCCEEDED, outputs=outputs)

    async def delete(self, resource_meta: ReportMeta, **_: Any) -> None:
        """Cancel it."""
        ask("DELETE", resource_meta.url)


class ReportTask(AsyncConnectorExecutorMixin, TaskTemplate):  # type: ignore[misc, unused-ignore]
    """A task for Flyte."""

    def __init__(self, name: str) -> None:
        """Have a name."""
        inputs = {"service": (str, None), "seconds": (float, None)}
        interface = NativeInterface(inputs, {"report": str})
        super().__init__(name=name, interface=interface, task_type="report", image=None)


def ask(method: str, url: str, body: object = None) -> Any:
    """Ask the service."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, method=method)) as answer:  # noqa: S310 - our own
        return json.load(answer)


report = ReportTask("monthly_report")
environment = flyte.TaskEnvironment.from_task("reports", report)


def run_locally(service: str, key: str) -> None:
    """Be the user's script: Flyte runs the task in this process."""
    ConnectorRegistry.register(ReportConnector())
    orchestrator.flyte.install(database=DATABASE)  # the one call that is added
    flyte.init()
    with options(idempotency_key=key):
        run = flyte.with_runcontext(mode="local").run(
            report, service=service, seconds=4.0
        )
    print("outputs:", run.outputs()[0], flush=True)


async def tell(key: str) -> None:
    """Show what the database has of it."""
    async with Orchestrator(DATABASE, start=False) as orch:
        [execution] = [e for e in await orch.list() if e.idempotency_key == key]
        for row in await orch.history(execution.id):
            print(f"{row.cause:<18} {row.to_phase}")


def main() -> None:
    """Run the script, kill it while its job is at work, and run it again."""
    key = f"report-{uuid.uuid4().hex}"
    with JobServer() as service:
        script = [sys.executable, __file__, service.url, key]
        with subprocess.Popen(  # noqa: S603 - this very file
            script, stdout=subprocess.PIPE, text=True
        ) as first:
            for line in first.stdout or ():
                print(line, end="")
                if "RUNNING" in line:
                    first.kill()
        print(f"the script died of signal {-first.returncode}; again:", flush=True)
        subprocess.run(script, check=True)  # noqa: S603 - the same
        print("jobs at the service:", len(service.jobs()))
    asyncio.run(tell(key))


if __name__ == "__main__":
    if sys.argv[1:]:
        run_locally(*sys.argv[1:])
    else:
        main()
