"""What Snowflake's query history tells of a query, by its tag or its id."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

LIMIT = 10_000
"""Queries of the user that are looked at, newest first; Snowflake gives no more."""

_TOLD = (
    "EXECUTION_STATUS",
    "ERROR_CODE",
    "ERROR_MESSAGE",
    "WAREHOUSE_NAME",
    "WAREHOUSE_SIZE",
    "START_TIME",
    "END_TIME",
    "TOTAL_ELAPSED_TIME",
    "COMPILATION_TIME",
    "EXECUTION_TIME",
    "QUEUED_PROVISIONING_TIME",
    "QUEUED_REPAIR_TIME",
    "QUEUED_OVERLOAD_TIME",
    "BYTES_SCANNED",
    "ROWS_PRODUCED",
    "CREDITS_USED_CLOUD_SERVICES",
)
# A statement of a script or a procedure may carry the tag of its caller, which began
# before it. There is always one row: how many were looked at decides what "none" means.
_SQL = """
WITH history AS (
  SELECT QUERY_ID, QUERY_TAG, {columns}
  FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(RESULT_LIMIT => {limit}))
),
seen AS (SELECT COUNT(*) AS SEEN FROM history),
found AS (
  SELECT * FROM history WHERE {key} = %(value)s ORDER BY START_TIME LIMIT 1
)
SELECT seen.SEEN, found.QUERY_ID, {found}
FROM seen LEFT JOIN found ON 1 = 1
"""


@dataclass(frozen=True)
class Looked:
    """What a look into the history showed.

    Attributes:
        query_id: The query that was looked for, None if it is not there.
        complete: Whether "not there" means that there is none.
        told: The rest of its row by lower-case name, as JSON; no NULLs.
    """

    query_id: str | None
    complete: bool
    told: dict[str, Any] = field(default_factory=dict)


def by_tag(connection: SnowflakeConnection, tag: str, limit: int = LIMIT) -> Looked:
    """Look for the first query with *tag*."""
    return _look(connection, "QUERY_TAG", tag, limit)


def by_id(connection: SnowflakeConnection, query_id: str) -> Looked:
    """Look for a query."""
    return _look(connection, "QUERY_ID", query_id, LIMIT)


def _look(connection: SnowflakeConnection, key: str, value: str, limit: int) -> Looked:
    text = _SQL.format(
        columns=", ".join(_TOLD),
        found=", ".join(f"found.{name}" for name in _TOLD),
        key=key,
        limit=limit,
    )
    row = fetch_row(connection, text, {"value": value})
    seen, query_id, *values = row
    told = {
        name.lower(): _plain(item)
        for name, item in zip(_TOLD, values, strict=True)
        if item is not None
    }
    return Looked(query_id, complete=int(seen) < limit, told=told)


def fetch_row(
    connection: SnowflakeConnection, text: str, values: dict[str, Any]
) -> tuple[Any, ...]:
    """Return the first row of a query; the client does not repeat it by itself."""
    cursor = connection.cursor()
    try:
        cursor.execute(text, values, _no_retry=True)
        row: Any = cursor.fetchone()
        return tuple(row)
    finally:
        cursor.close()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
