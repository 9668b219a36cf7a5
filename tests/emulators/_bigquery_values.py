"""What a stand-in's query says: its parameters, checked, and its rows with schema.

A SELECT whose columns are bare parameters gives them back with their own types;
everything else is computed by SQLite, in memory, without tables.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_BARE = re.compile(r"@(\w+)(?:\s+AS\s+(\w+))?", re.IGNORECASE)
_NAMED = re.compile(r"(?<![@\w])@(\w+)")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_LEGACY = {
    "INT64": "INTEGER",
    "FLOAT64": "FLOAT",
    "BOOL": "BOOLEAN",
    "STRUCT": "RECORD",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class QueryError(Exception):
    """The query is wrong: the job fails with *reason*."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InvalidError(Exception):
    """The request is wrong: it is refused with 400."""


@dataclass(frozen=True)
class Result:
    """Rows as the wire has them.

    Attributes:
        fields: The schema.
        rows: Each ``{"f": [{"v": ...}, ...]}``.
    """

    fields: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


def _bool(text: str) -> bool:
    if text not in ("true", "false"):
        message = f"{text!r} is no BOOL"
        raise ValueError(message)
    return text == "true"


def _timestamp(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        message = f"{text!r} has no time zone"
        raise ValueError(message)
    return moment


def _datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        message = f"{text!r} has a time zone"
        raise ValueError(message)
    return moment


def _int64(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:
        message = f"{text} is no INT64"
        raise ValueError(message)
    return number


SCALARS: dict[str, Callable[[str], Any]] = {
    "INT64": _int64,
    "FLOAT64": float,
    "BOOL": _bool,
    "STRING": str,
    "BYTES": lambda text: base64.b64decode(text, validate=True),
    "DATE": date.fromisoformat,
    "DATETIME": _datetime,
    "TIME": time.fromisoformat,
    "TIMESTAMP": _timestamp,
    "NUMERIC": Decimal,
    "BIGNUMERIC": Decimal,
    "JSON": json.loads,
    "GEOGRAPHY": str,
}


def check_parameters(query: dict[str, Any]) -> None:
    """Refuse parameters that are no parameters.

    Raises:
        InvalidError: One has no or a wrong type, a wrong value, or no name.
    """
    seen = set()
    for parameter in query.get("queryParameters", ()):
        name = parameter.get("name", "")
        if query.get("parameterMode", "NAMED") == "NAMED":
            if not name or name in seen:
                message = f"query parameter {name!r} is nameless or given twice"
                raise InvalidError(message)
            seen.add(name)
        python_of(parameter["parameterType"], parameter["parameterValue"], name)


def python_of(kind: dict[str, Any], value: dict[str, Any], name: str) -> Any:
    """Return a parameter as a Python value.

    Raises:
        InvalidError: Type and value are not what the service documents.
    """
    if kind["type"] == "ARRAY":
        items = value.get("arrayValues", [])
        if any(item.get("value", ...) is None for item in items):
            message = f"array parameter {name} contains NULL"
            raise InvalidError(message)
        return [python_of(kind["arrayType"], item, name) for item in items]
    if kind["type"] == "STRUCT":
        return {
            part["name"]: python_of(
                part["type"], value["structValues"][part["name"]], name
            )
            for part in kind["structTypes"]
        }
    parse = SCALARS.get(kind["type"])
    if parse is None:
        message = f"invalid type {kind['type']!r} of query parameter {name}"
        raise InvalidError(message)
    text = value.get("value")
    if text is None:
        return None
    try:
        return parse(text if isinstance(text, str) else json.dumps(text))
    except (ValueError, ArithmeticError, binascii.Error) as error:
        message = f"Invalid value for type {kind['type']}: {name}: {error}"
        raise InvalidError(message) from None


def values_of(query: dict[str, Any]) -> dict[str, Any]:
    """Return the named parameters as Python values."""
    return {
        parameter["name"]: python_of(
            parameter["parameterType"], parameter["parameterValue"], parameter["name"]
        )
        for parameter in query.get("queryParameters", ())
        if parameter.get("name")
    }


def run(query: dict[str, Any]) -> Result:
    """Return what the query gives.

    Raises:
        QueryError: It is wrong.
    """
    text = _COMMENT.sub(" ", query["query"]).strip().rstrip(";")
    values = values_of(query)
    for name in _NAMED.findall(text):
        if name not in values:
            message = f"Query parameter '{name}' not found at [1:8]"
            raise QueryError("invalidQuery", message)
    echoed = _echo(text, query)
    return _computed(text, values) if echoed is None else echoed


def _echo(text: str, query: dict[str, Any]) -> Result | None:
    """Return the parameters that *text* selects, None if it selects more."""
    verb, _, rest = text.partition(" ")
    columns = [_BARE.fullmatch(part.strip()) for part in rest.split(",")]
    if verb.upper() != "SELECT" or not all(columns):
        return None
    given = {p["name"]: p for p in query.get("queryParameters", ())}
    fields, cells = [], []
    for column in columns:
        assert column is not None
        parameter = given[column[1]]
        kind = parameter["parameterType"]
        fields.append(_field(column[2] or column[1], kind))
        cells.append({"v": _cell(kind, parameter["parameterValue"])})
    return Result(fields, [{"f": cells}])


def _field(name: str, kind: dict[str, Any]) -> dict[str, Any]:
    mode = "NULLABLE"
    if kind["type"] == "ARRAY":
        mode, kind = "REPEATED", kind["arrayType"]
    legacy = _LEGACY.get(kind["type"], kind["type"])
    described: dict[str, Any] = {"name": name, "type": legacy, "mode": mode}
    if kind["type"] == "STRUCT":
        parts = kind["structTypes"]
        described["fields"] = [_field(part["name"], part["type"]) for part in parts]
    return described


def _cell(kind: dict[str, Any], value: dict[str, Any]) -> Any:
    if kind["type"] == "ARRAY":
        items = value.get("arrayValues", [])
        return [{"v": _cell(kind["arrayType"], item)} for item in items]
    if kind["type"] == "STRUCT":
        parts = [
            _cell(part["type"], value["structValues"][part["name"]])
            for part in kind["structTypes"]
        ]
        return {"f": [{"v": part} for part in parts]}
    text = value.get("value")
    if text is None or kind["type"] != "TIMESTAMP":
        return text if text is None or isinstance(text, str) else json.dumps(text)
    since = datetime.fromisoformat(text) - _EPOCH
    return str((since.days * 86400 + since.seconds) * 10**6 + since.microseconds)


def _computed(text: str, values: dict[str, Any]) -> Result:
    """Let SQLite compute *text*."""
    text = re.sub(
        r"UNNEST\s*\(\s*(@\w+)\s*\)",
        r"(SELECT value FROM json_each(\1))",
        text,
        flags=re.IGNORECASE,
    )
    with closing(sqlite3.connect(":memory:")) as db:
        try:
            cursor = db.execute(text, {k: _plain(v) for k, v in values.items()})
            rows = cursor.fetchall()
        except sqlite3.Error as error:
            reason = "notFound" if "no such table" in str(error) else "invalidQuery"
            raise QueryError(reason, str(error)) from None
        names = [column[0] for column in cursor.description or ()]
    kinds = [
        next((_kind(row[i]) for row in rows if row[i] is not None), "STRING")
        for i in range(len(names))
    ]
    return Result(
        [
            {"name": name, "type": kind, "mode": "NULLABLE"}
            for name, kind in zip(names, kinds, strict=True)
        ],
        [{"f": [{"v": _shown(value)} for value in row]} for row in rows],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return json.dumps(value, default=str)
    if isinstance(value, (date, time, Decimal)):
        return str(value)
    return value


def _kind(value: Any) -> str:
    kinds = {int: "INTEGER", float: "FLOAT", bytes: "BYTES"}
    return kinds.get(type(value), "STRING")


def _shown(value: Any) -> str | None:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return None if value is None else str(value)
