"""read: the rows of a result, by the client's own ways."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.connectors.bigquery import BigQueryConnector, read
from orchestrator.errors import ConfigurationError, ResourceGoneError
from orchestrator.io import DataFrame
from tests.connectors.bigquery.kit import attempt

if TYPE_CHECKING:
    from tests.emulators import Running

QUERY = "SELECT 7 AS n, 'a' AS t, 0.5 AS x /* rows=25000 */"


async def results(connector: BigQueryConnector, query: str = QUERY) -> DataFrame:
    """Run a query and return the reference to its results."""
    told = await connector.get(await attempt(query).create(connector))
    outputs: Any = told.outputs
    reference: DataFrame = outputs["results"]
    return reference


async def test_rows_come_in_pages_as_arrow_or_dicts(
    service: Running, connector: BigQueryConnector
) -> None:
    """All of them, or as many as are asked for."""
    reference = await results(connector)
    table = await asyncio.to_thread(read, reference, endpoint=service.url)
    assert (table.num_rows, table.column_names) == (25_000, ["n", "t", "x"])
    assert str(table.schema.field("n").type) == "int64"
    rows = await asyncio.to_thread(
        read, reference.uri, "rows", endpoint=service.url, max_rows=3
    )
    assert rows == [{"n": 7, "t": "a", "x": 0.5}] * 3


def test_nothing_to_read_is_said(service: Running) -> None:
    """A table that is gone, a reference of another kind, a form that is unknown."""
    with pytest.raises(ResourceGoneError):
        read("bq://p:d.t", endpoint=service.url)
    with pytest.raises(ConfigurationError, match="no bq://"):
        read(DataFrame("s3://bucket/table"))
    with pytest.raises(ConfigurationError, match="none of arrow"):
        read("bq://p:d.t", "csv")  # type: ignore[arg-type]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked for."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "polars" else real(name),
    )
    with pytest.raises(ConfigurationError, match="pip install polars"):
        read("bq://p:d.t", "polars")
