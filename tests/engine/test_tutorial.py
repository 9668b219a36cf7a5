"""Flyte's connector tutorial, as written, with only the imports renamed."""

# ruff: noqa: UP006, UP035, UP045, ANN - as its author wrote it

import asyncio
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors import (
    AsyncConnector,
    AsyncConnectorExecutorMixin,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from orchestrator.connectors._connector import ConnectorSecretsMixin
from orchestrator.extend import TaskTemplate
from orchestrator.models import NativeInterface

# Registering, reading settings and opening touch the file system once.
pytestmark = pytest.mark.may_block

SECONDS = 1.0


@dataclass
class BatchJobMetadata(ResourceMeta):
    job_id: str
    created_at: float


class BatchJobConnector(AsyncConnector):
    name = "Batch Job Connector"
    task_type_name = "batch_job"
    task_type_version = 0
    metadata_type = BatchJobMetadata

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> BatchJobMetadata:
        return BatchJobMetadata(job_id=str(uuid.uuid4()), created_at=time.time())

    async def get(self, resource_meta: BatchJobMetadata, **kwargs: Any) -> Resource:
        if time.time() - resource_meta.created_at < SECONDS:
            return Resource(phase=TaskExecution.RUNNING, message="the job runs")
        return Resource(
            phase=TaskExecution.SUCCEEDED,
            outputs={"result": f"output-from-{resource_meta.job_id}"},
        )

    async def delete(self, resource_meta: BatchJobMetadata, **kwargs: Any) -> None:
        pass


class BatchJobTask(AsyncConnectorExecutorMixin, TaskTemplate):
    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(
            name=name,
            interface=NativeInterface(inputs={}, outputs={"result": str}),
            task_type="batch_job",
            image=None,
            **kwargs,
        )


class SecureConnector(AsyncConnector, ConnectorSecretsMixin):
    name = "Secure Connector"
    task_type_name = "secure_job"
    metadata_type = BatchJobMetadata

    def __init__(self, secrets: Dict[str, str]) -> None:
        super().__init__(secrets=secrets)
        self.seen: Dict[str, str] = {}

    async def create(  # type: ignore[override]
        self, task_template: Any, output_prefix: str, api_key: str, **kwargs: Any
    ) -> BatchJobMetadata:
        self.seen["create"] = api_key
        return BatchJobMetadata(job_id="1", created_at=0)

    async def get(  # type: ignore[override]
        self, resource_meta: BatchJobMetadata, api_key: str, **kwargs: Any
    ) -> Resource:
        self.seen["get"] = api_key
        return Resource(phase=TaskExecution.SUCCEEDED, outputs={"result": "done"})

    async def delete(  # type: ignore[override]
        self, resource_meta: BatchJobMetadata, api_key: str, **kwargs: Any
    ) -> None:
        self.seen["delete"] = api_key


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_tutorial_runs_as_written(tmp_path: Path) -> None:
    """execute() gives a tuple of one output; its engine ends with the loop."""
    ConnectorRegistry.register(BatchJobConnector(), override=True)
    result = asyncio.run(BatchJobTask(name="test_task").execute())
    assert isinstance(result, tuple)
    (output,) = result
    assert output.startswith("output-from-")
    assert (tmp_path / "orchestrator.db").is_file()


def test_secrets_reach_the_calls_as_keyword_arguments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUTORIAL_API_KEY", "canary-4711-value")
    connector = SecureConnector(secrets={"api_key": "TUTORIAL_API_KEY"})
    ConnectorRegistry.register(connector, override=True)
    task = BatchJobTask(name="secure")
    task.task_type = "secure_job"
    assert asyncio.run(task.execute()) == ("done",)
    assert connector.seen == {"create": "canary-4711-value", "get": "canary-4711-value"}
    for file in tmp_path.iterdir():
        assert b"canary-4711-value" not in file.read_bytes(), file


def test_a_failed_task_is_a_runtime_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def get(self: Any, resource_meta: Any, **kwargs: Any) -> Resource:
        return Resource(phase=TaskExecution.FAILED, message="out of disk")

    monkeypatch.setattr(BatchJobConnector, "get", get)
    ConnectorRegistry.register(BatchJobConnector(), override=True)
    with pytest.raises(RuntimeError, match="out of disk"):
        asyncio.run(BatchJobTask(name="test_task").execute())
