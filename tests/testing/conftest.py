"""A job server of the kit, and check_connector with inputs for its connectors."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from orchestrator import TaskTemplate
from orchestrator.models import NativeInterface
from orchestrator.testing import JobServer, JobSpec, check_connector
from tests.jobserver.client import JobClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from orchestrator.testing import Report

OUTPUTS = {"job_id": str, "token": str}


@pytest.fixture
def server() -> Iterator[JobServer]:
    """Run a server."""
    with JobServer() as running:
        yield running


@asynccontextmanager
async def client_of(server: JobServer) -> AsyncIterator[JobClient]:
    """Yield a client of *server*."""
    address = urlsplit(server.url)
    client = JobClient(str(address.hostname), int(address.port or 0))
    yield client
    await client.aclose()


@pytest.fixture
async def client(server: JobServer) -> AsyncIterator[JobClient]:
    """Return a client of the server."""
    async with client_of(server) as client:
        yield client


def spec(**fields: Any) -> dict[str, str]:
    """Return the inputs of a job that behaves so."""
    return {"spec": json.dumps(JobSpec(**fields).to_json())}


def a_task(task_type: str, **fields: Any) -> TaskTemplate:
    """Return a task for a connector of the job server."""
    interface = NativeInterface(inputs={"spec": str}, outputs=OUTPUTS)
    return TaskTemplate(name="t", interface=interface, task_type=task_type, **fields)


def failed(report: Report) -> set[str]:
    """Return the names of the checks that failed, each with its advice."""
    assert all(check.seen and check.advice for check in report.failed), str(report)
    return {check.name for check in report.failed}


@pytest.fixture
def check() -> Callable[..., Awaitable[Report]]:
    """Return check_connector for a connector of the job server, quick by default."""

    async def run(connector: Any, task: Any = None, **options: Any) -> Report:
        kind = connector() if callable(connector) else connector
        options.setdefault("inputs", spec())
        options.setdefault("long_inputs", spec(until_told=True))
        options.setdefault("crash_points", ())
        options.setdefault("timeout", timedelta(seconds=5))
        options.setdefault("poll_every", timedelta(milliseconds=5))
        return await check_connector(
            connector, task or a_task(kind.task_type_name), **options
        )

    return run
