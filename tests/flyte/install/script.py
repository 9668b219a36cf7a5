"""A user's script: a Flyte connector and task, run locally by Flyte, on a job server.

``python -m tests.flyte.install.script SERVER DATABASE``, then ``--key KEY``,
``--polls N`` and ``--stop-in METHOD`` as wanted.
Nothing of it knows this library but ``install`` and ``options``. It prints a line as
each call begins; with ``--stop-in`` it waits there for its end.
"""

from __future__ import annotations

import argparse
import json
import threading
import urllib.request
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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

from orchestrator import Policy, options
from orchestrator.flyte import install

parser = argparse.ArgumentParser()
parser.add_argument("server")
parser.add_argument("database")
parser.add_argument("--key")
parser.add_argument("--polls", type=int, default=2)
parser.add_argument("--stop-in", default="")
arguments = parser.parse_args()


@dataclass
class JobMeta(ResourceMeta):
    """The handle of a job on the job server."""

    job_id: str


def reached(method: str) -> None:
    """Say that a call has got so far, and stay there if that was asked for."""
    print(method, flush=True)  # noqa: T201 - what the test waits for
    if method == arguments.stop_in:
        threading.Event().wait()


def call(method: str, path: str, body: object = None) -> Any:
    """Send a request, blocking as many clients of plugins do."""
    request = urllib.request.Request(
        f"http://{arguments.server}/I/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the same
        return json.load(answer)


class JobConnector(AsyncConnector[JobMeta]):
    """A connector for Flyte whose service remembers tokens."""

    name = "Job Connector"
    task_type_name = "job"
    metadata_type = JobMeta
    create_is_idempotent = True
    policy = Policy(poll_delay_min=timedelta(milliseconds=20))

    async def create(
        self,
        task_template: Any,
        inputs: Any = None,
        idempotency_token: str = "none",  # noqa: S107 - no secret
        **kwargs: Any,
    ) -> JobMeta:
        body = {"token": idempotency_token, "spec": {"polls": arguments.polls}}
        job = call("POST", "jobs", body)
        reached("create")
        return JobMeta(job["id"])

    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        reached("get")
        job = call("GET", f"jobs/{resource_meta.job_id}")
        if job["state"] != "SUCCEEDED":
            return Resource(phase=TaskExecution.RUNNING)
        outputs = {"job": resource_meta.job_id}
        return Resource(phase=TaskExecution.SUCCEEDED, outputs=outputs)

    async def delete(self, resource_meta: JobMeta, **kwargs: Any) -> None:
        call("DELETE", f"jobs/{resource_meta.job_id}")


class JobTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A task for it."""

    def __init__(self) -> None:
        interface = NativeInterface({"n": (int, None)}, {"job": str})
        super().__init__(name="j", interface=interface, task_type="job", image=None)


task = JobTask()
env = flyte.TaskEnvironment.from_task("jobs", task)

if __name__ == "__main__":
    ConnectorRegistry.register(JobConnector())
    install(database=arguments.database, load_plugins=False)
    flyte.init()
    given = {"idempotency_key": arguments.key} if arguments.key else {}
    with options(**given):
        run = flyte.with_runcontext(mode="local").run(task, n=1)
    print("outputs", run.outputs()[0], flush=True)  # noqa: T201 - what the test reads
