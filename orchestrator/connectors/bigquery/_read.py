"""read: the rows behind a reference, as Arrow, pandas, polars or plain dicts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.connectors._extras import is_installed
from orchestrator.connectors._frames import as_polars, require_form
from orchestrator.connectors.bigquery._clients import (
    Clients,
    endpoint_of,
    require_library,
)
from orchestrator.connectors.bigquery._errors import translated
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    from google.cloud.bigquery.table import RowIterator

    from orchestrator.io import DataFrame

_URI = re.compile(r"bq://(?P<project>[^/]+):(?P<dataset>\w+)\.(?P<table>[^/:]+)")
_NEEDS = {"arrow": ["pyarrow"], "pandas": ["pandas", "pyarrow", "db_dtypes"]}
_NEEDS["polars"] = ["polars", "pyarrow"]

Form = Literal["arrow", "pandas", "polars", "rows"]


def read(
    dataframe: DataFrame | str,
    as_: Form = "arrow",
    *,
    project: str | None = None,
    google_application_credentials: str | None = None,
    endpoint: str | None = None,
    max_rows: int | None = None,
    timeout: timedelta | None = None,
) -> Any:
    """Return the rows of a table; blocks, so call it in a thread where that matters.

    A query without a destination table of its own leaves its rows in a table that
    BigQuery keeps for about 24 hours, and that only the job's owner can read.

    Args:
        dataframe: A reference, or its ``bq://project:dataset.table``.
        as_: "arrow" for a ``pyarrow.Table``, "pandas" or "polars" for their
            DataFrame, "rows" for a list of dicts.
        project: The project that asks, if it is not the table's.
        google_application_credentials: The JSON of a service account's key; None for
            Google's default credentials.
        endpoint: As for the connector. Without one, the faster Storage API is used if
            ``google-cloud-bigquery-storage`` is installed.
        max_rows: Rows at most; None for all.
        timeout: How long to wait for an answer, at each step; None for the client's
            default.

    Raises:
        ConfigurationError: The reference is none of BigQuery's, or a library is not
            installed; the text says which.
        ResourceGoneError: There is no such table (any more).
        AuthError: The credentials, or their rights, do not suffice.
        TransientError: No answer.
    """
    uri = dataframe if isinstance(dataframe, str) else dataframe.uri
    found = _URI.fullmatch(uri)
    if found is None:
        raise ConfigurationError(f"{uri!r} is no bq://project:dataset.table reference")
    require_library()
    require_form(as_, _NEEDS)
    from google.cloud.bigquery import DatasetReference  # noqa: PLC0415 - the extra

    where = endpoint_of(endpoint)
    table = DatasetReference(found["project"], found["dataset"]).table(found["table"])
    waits: dict[str, Any] = (
        {} if timeout is None else {"timeout": timeout.total_seconds()}
    )
    with translated(creating=False):
        client = Clients(where).get(
            project or found["project"], google_application_credentials
        )
        rows = client.list_rows(
            client.get_table(table, **waits), max_results=max_rows, **waits
        )
        return _formed(rows, as_, storage=not where and max_rows is None)


def _formed(rows: RowIterator, form: str, *, storage: bool) -> Any:
    """Return all rows in the form that was asked for."""
    if form == "rows":
        return [dict(row.items()) for row in rows]
    quick = storage and is_installed("google.cloud.bigquery_storage")
    if form == "pandas":
        return rows.to_dataframe(create_bqstorage_client=quick)
    table = rows.to_arrow(create_bqstorage_client=quick)
    if form == "arrow":
        return table
    return as_polars(table)
