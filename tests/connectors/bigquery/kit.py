"""What the tests of the BigQuery connector share: tasks, calls and attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.connectors.bigquery import BigQueryConfig, BigQueryTask
from orchestrator.io import DataFrame
from tests.connectors.attempts import Attempt, attempt_at

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOCATION", "PROJECT", "SECONDS_LONG", "Attempt", "attempt", "task"]

PROJECT, LOCATION = "shop-project", "europe-west1"
SECONDS_LONG = 600.0


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


def attempt(
    query: str = "SELECT 1 AS one",
    inputs: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    labels: dict[str, str] | None = None,
    **options: Any,
) -> Attempt:
    """Return an attempt at a new task, its values as another process reads them."""
    return attempt_at(task(query, inputs, **options), values, labels)
