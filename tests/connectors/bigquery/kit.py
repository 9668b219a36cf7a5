"""What the tests of the BigQuery connector share: tasks, calls and attempts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator._codec import decode_values, encode_inputs, python_type_of
from orchestrator._ids import create_token
from orchestrator._tasks import attempt_metadata, execution_metadata, to_template
from orchestrator.connectors.bigquery import (
    BigQueryConfig,
    BigQueryConnector,
    BigQueryTask,
)
from orchestrator.io import DataFrame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator.connectors.bigquery import BigQueryMeta

PROJECT, LOCATION = "shop-project", "europe-west1"
SECONDS_LONG = 600.0
_numbers = itertools.count(1)


def task(
    query: str = "SELECT 1 AS one",
    inputs: Mapping[str, Any] | None = None,
    *,
    job: Any = None,
    location: str | None = LOCATION,
    **kwargs: Any,
) -> BigQueryTask:
    """Return a task in the tests' project."""
    config = BigQueryConfig(PROJECT, location, job)
    kwargs.setdefault("output_dataframe_type", DataFrame)
    return BigQueryTask("The Task", query, config, inputs, **kwargs)


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

    async def create(
        self, connector: BigQueryConnector, **secrets: str
    ) -> BigQueryMeta:
        """Call ``create`` of *connector*."""
        return await connector.create(
            self.template,
            "",
            self.inputs,
            task_execution_metadata=self.metadata,
            idempotency_token=self.token,
            **secrets,
        )


def attempt(
    query: str = "SELECT 1 AS one",
    inputs: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    labels: dict[str, str] | None = None,
    **options: Any,
) -> Attempt:
    """Return an attempt at a new task, its values as another process reads them."""
    made = task(query, inputs, **options)
    template = to_template(made)
    proto = encode_inputs(made.interface, dict(values or {})).proto
    types = {e.key: e.value.type for e in template.interface.inputs.variables}
    read = decode_values(_types(types), proto)
    return Attempt(template, read, labels or {})


def _types(literal_types: Mapping[str, Any]) -> dict[str, Any]:
    return {name: python_type_of(kind) for name, kind in literal_types.items()}
