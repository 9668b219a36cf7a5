"""What a stand-in's SQL gives: rows as on Snowflake's wire, computed by SQLite."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HISTORY = re.compile(
    r"TABLE\s*\(\s*INFORMATION_SCHEMA\.QUERY_HISTORY_BY_USER\s*\((.*?)\)\s*\)",
    re.IGNORECASE | re.DOTALL,
)
_LIMIT = re.compile(r"RESULT_LIMIT\s*=>\s*(\d+)", re.IGNORECASE)
_LIMIT_DEFAULT = 100
_STRING = re.compile(r"'((?:[^'\\]|\\.|'')*)'", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "0": "\0"}
_KINDS: dict[type, dict[str, Any]] = {
    int: {"type": "fixed", "precision": 38, "scale": 0},
    float: {"type": "real"},
    bytes: {"type": "binary", "length": 8388608, "byteLength": 8388608},
    str: {"type": "text", "length": 16777216, "byteLength": 16777216},
}
HISTORY_COLUMNS = (
    "QUERY_ID",
    "QUERY_TAG",
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


class QueryError(Exception):
    """The SQL is wrong: refused with Snowflake's code for a syntax error."""


@dataclass(frozen=True)
class Result:
    """Rows as the wire has them: text, or None."""

    types: list[dict[str, Any]] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)


def run(text: str, history: Iterable[Sequence[Any]] = ()) -> Result:
    """Return what *text* gives; *history* is what the table function has, newest first.

    Raises:
        QueryError: It is wrong.
    """
    plain = _STRING.sub(_unescaped, text.strip().rstrip(";"))
    asked = HISTORY.search(plain)
    with closing(sqlite3.connect(":memory:")) as db:
        if asked is not None:
            limit = _LIMIT.search(asked[1])
            db.execute(f"CREATE TABLE query_history ({', '.join(HISTORY_COLUMNS)})")
            kept = list(history)[: int(limit[1]) if limit else _LIMIT_DEFAULT]
            marks = ", ".join("?" * len(HISTORY_COLUMNS))
            db.executemany(f"INSERT INTO query_history VALUES ({marks})", kept)  # noqa: S608 - marks
            plain = HISTORY.sub("query_history", plain)
        try:
            cursor = db.execute(plain)
            rows = cursor.fetchall()
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise QueryError(str(error)) from None
        names = [column[0] for column in cursor.description or ()]
    return Result(
        [_column(name, [row[i] for row in rows]) for i, name in enumerate(names)],
        [[_shown(value) for value in row] for row in rows],
    )


def _unescaped(literal: re.Match[str]) -> str:
    """Return a literal with backslashes as SQLite writes it."""
    text = literal[1].replace("''", "'")
    plain = _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), text)
    return "'" + plain.replace("'", "''") + "'"


def _column(name: str, values: list[Any]) -> dict[str, Any]:
    kind = next((type(value) for value in values if value is not None), str)
    described: dict[str, Any] = {
        "precision": None,
        "scale": None,
        "length": None,
        "byteLength": None,
    }
    described |= {"collation": None, "database": "", "schema": "", "table": ""}
    return {"name": name.upper(), "nullable": True, **described, **_KINDS[kind]}


def _shown(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.hex().upper()
    return None if value is None else str(value)
