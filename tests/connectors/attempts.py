"""Attempts at a task, for tests that call a connector as the engine would."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator._codec import decode_values, encode_inputs, python_type_of
from orchestrator._ids import create_token
from orchestrator._tasks import attempt_metadata, execution_metadata, to_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator._connector import AsyncConnector
    from orchestrator._tasks import TaskTemplate as Task

_numbers = itertools.count(1)


@dataclass
class Attempt:
    """One attempt at a task, as the engine would call it.

    Attributes:
        template: The task.
        inputs: Native values.
        token: New for every attempt.
    """

    template: TaskTemplate
    inputs: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    token: str = ""

    def __post_init__(self) -> None:
        self.token = self.token or create_token(f"{next(_numbers):032x}", 1)

    @property
    def metadata(self) -> TaskExecutionMetadata:
        """What the engine tells of the execution."""
        return attempt_metadata(
            execution_metadata(self.template),
            execution_id=self.token[1:33],
            attempt=1,
            token=self.token,
            labels=self.labels,
        )

    async def create(self, connector: AsyncConnector[Any], **secrets: str) -> Any:
        """Call ``create`` of *connector*."""
        return await connector.create(
            self.template,
            "",
            self.inputs,
            task_execution_metadata=self.metadata,
            idempotency_token=self.token,
            **secrets,
        )


def attempt_at(
    task: Task,
    values: Mapping[str, Any] | None = None,
    labels: dict[str, str] | None = None,
) -> Attempt:
    """Return an attempt at *task*, its values as another process reads them."""
    template: TaskTemplate = to_template(task)
    proto = encode_inputs(task.interface, dict(values or {})).proto
    types = {
        entry.key: python_type_of(entry.value.type)
        for entry in template.interface.inputs.variables
    }
    return Attempt(template, decode_values(types, proto), labels or {})
