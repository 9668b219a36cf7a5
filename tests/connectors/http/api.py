"""The stand-in in a process of its own, and definitions of it and of job servers."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
from flyteidl2.core.tasks_pb2 import TaskTemplate

from tests.api.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.connectors.http import HttpConnector, HttpMeta

_STOP_S = 10.0


@dataclass(frozen=True)
class Api:
    """A running stand-in."""

    port: int

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def script(self, match: str, status: int = 200, **rule: Any) -> None:
        """Answer requests that begin with *match* so; status 0 cuts the line."""
        self._ask("_script", {"match": match, "status": status, **rule})

    def require(self, *authorization: str) -> None:
        """Refuse other credentials."""
        self._ask("_require", {"authorization": authorization})

    def revoke(self) -> None:
        """Forget every OAuth2 token."""
        self._ask("_revoke", {})

    def expires_in(self, seconds: int) -> None:
        """Give tokens of this life."""
        self._ask("_expires", {"seconds": seconds})

    def reset(self) -> None:
        """Forget everything."""
        self._ask("_reset", {})

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """Return what was asked, of paths that begin with *path*."""
        asked = self._ask("_requests")
        return [r for r in asked if r["path"].startswith(path)]

    def _ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.url}/{path}"
        with urllib.request.urlopen(url, data, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


@contextmanager
def running_api() -> Iterator[Api]:
    """Run a stand-in until the block ends."""
    command = [sys.executable, "-m", "tests.emulators.http_api"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("PORT "), line
            yield Api(int(line[5:]))
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return *base* with *more* laid over it; None takes a field away."""
    made = copy.deepcopy(base)
    for key, value in more.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key] = merged(made[key], value)
        else:
            made[key] = value
    return made


def batches(url: str, **more: Any) -> dict[str, Any]:
    """Return a definition of the stand-in: forms, nested states, a Location."""
    base = {
        "task_type": "batches",
        "base_url": f"{url}/v2",
        "inputs": {"query": "str", "behave": {"type": "str", "default": "succeed"}},
        "outputs": {
            "rows": {"type": "int", "path": "data.rows"},
            "at": {"type": "datetime", "path": "data.at"},
            "table": {"type": "dataframe", "path": "data.table"},
        },
        "submit": {
            "path": "/batches",
            "form": {"query": "{{.inputs.query}}", "behave": "{{.inputs.behave}}"},
            "job_id": "header:Location/last",
            "idempotency": {"header": "Idempotency-Key", "remembered": "24h"},
        },
        "status": {
            "path": "/batches/{{.job_id}}",
            "state": "job.status.result || job.status.lifecycle",
            "phases": {
                "PENDING": "QUEUED",
                "ACTIVE": "RUNNING",
                "OK": "SUCCEEDED",
                "ERROR": "FAILED",
                "CANCELLED": "ABORTED",
            },
            "error": "job.status.problem.detail || error.text",
            "progress": "job.percent",
        },
        "results": {"path": "/batches/{{.job_id}}/result"},
        "cancel": {"method": "POST", "path": "/batches/{{.job_id}}/cancel"},
        "find": {
            "path": "/batches",
            "query": {"label": "{{.token}}"},
            "items": "page.entries",
            "match": "label",
            "job_id": "ref.id",
        },
    }
    return merged(base, more)


LOCATED: dict[str, Any] = {
    "results": None,
    "outputs": None,
    "find": None,
    "submit": {"job_id": None, "status_url": "header:Location"},
    "status": {"path": None},
    "cancel": None,
}
"""Laid over ``batches``: nothing but the URL of the Location is used."""


def job_server(url: str, service: str) -> dict[str, Any]:
    """Return a definition of a job server's class."""
    states = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "ABORTED")
    made: dict[str, Any] = {
        "task_type": "jobs",
        "base_url": f"{url}/{service}",
        "inputs": {"forever": "bool"},
        "outputs": {"token": {"type": "str", "path": "token"}},
        "auth": {"type": "bearer", "token": {"secret": "JOBS_TOKEN"}},
        "submit": {
            "path": "/jobs",
            "json": {
                "token": "{{.token}}",
                "spec": {"until_told": "{{.inputs.forever}}"},
            },
            "job_id": "id",
        },
        "status": {
            "path": "/jobs/{{.job_id}}",
            "state": "state",
            "phases": {
                **{state: state for state in states},
                "CANCELLING": "RUNNING",
                "RETRYABLE": "RETRYABLE_FAILED",
            },
            "error": "error",
        },
        "cancel": {"path": "/jobs/{{.job_id}}"},
    }
    if service == "I":
        made["submit"]["idempotency"] = {"remembered": "forever"}
    if service == "L":
        query = {"token": "{{.token}}"}
        made["find"] = {"path": "/jobs", "query": query, "job_id": "id"}
        made["find"]["absent"] = [404]
    return made


TOKEN = f"o{'0' * 31}1-1"


def metadata(token: str = TOKEN, **labels: str) -> TaskExecutionMetadata:
    """Return what the engine hands to create."""
    made = TaskExecutionMetadata(labels={**labels, "orchestrator-token": token})
    made.task_execution_id.node_execution_id.execution_id.name = token[1:33]
    return made


async def submit(
    connector: HttpConnector, token: str = TOKEN, **inputs: Any
) -> HttpMeta:
    """Create a job by hand."""
    secrets = inputs.pop("secrets", {})
    return await connector.create(
        TaskTemplate(),
        "out/prefix",
        {"query": "q", "behave": "succeed", **inputs},
        metadata(token, team="a b"),
        **secrets,
    )
