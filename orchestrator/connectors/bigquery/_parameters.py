"""Inputs as query parameters: BigQuery's types for Python's, and values on the wire."""

from __future__ import annotations

import base64
import json
import math
import re
import types
import typing
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ARRAY = re.compile(r"ARRAY<(\w+)>")

BY_PYTHON: Mapping[Any, str] = {
    bool: "BOOL",
    int: "INT64",
    float: "FLOAT64",
    str: "STRING",
    bytes: "BYTES",
    Decimal: "NUMERIC",
    date: "DATE",
    datetime: "TIMESTAMP",
    time: "TIME",
}
"""The parameter type of an input of each Python type."""

_DIGITS = {"NUMERIC": (29, 9), "BIGNUMERIC": (38, 38)}
"""Digits before and after the point that surely fit."""


def type_of(declared: Any) -> str | None:  # noqa: PLR0911 - one line a kind
    """Return the parameter type for an input of type *declared*, None for none.

    ``X | None`` is X, whose value may be NULL; ``list[X]`` is ``ARRAY<X>``.
    """
    origin, args = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        left = [arg for arg in args if arg is not type(None)]
        kind = type_of(left[0]) if len(left) == 1 else None
        # BigQuery has no NULL arrays.
        return None if kind and kind.startswith("ARRAY") else kind
    if origin is typing.Annotated:
        return type_of(args[0])
    if origin is list:
        element = type_of(args[0])
        if element is None or element.startswith("ARRAY"):
            return None
        optional = get_origin(args[0]) in (Union, types.UnionType)
        return None if optional else f"ARRAY<{element}>"
    if origin is Literal:
        return "STRING" if all(isinstance(arg, str) for arg in args) else None
    try:
        return BY_PYTHON.get(declared)
    except TypeError:  # unhashable
        return None


def parse_type(text: str) -> str:
    """Return the type *text* in its one spelling.

    Raises:
        ValueError: It is none that a parameter of ours can have.
    """
    kind = "".join(text.split()).upper()
    array = _ARRAY.fullmatch(kind)
    if (array[1] if array else kind) not in _TEXTS:
        known = ", ".join(sorted(_TEXTS))
        raise ValueError(f"{text!r} is none of {known} or ARRAY<one of them>")
    return kind


def parameter(name: str, kind: str, value: Any) -> dict[str, Any]:
    """Return a named query parameter as the REST API has it.

    Raises:
        ValueError: *value* is none of that type.
    """
    array = _ARRAY.fullmatch(kind)
    if array is None:
        said = {"type": kind}
        return {
            "name": name,
            "parameterType": said,
            "parameterValue": {"value": text_of(kind, value)},
        }
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{type(value).__name__} is no {kind}")  # noqa: TRY004 - the same
    if any(item is None for item in value):
        raise ValueError("an array parameter has no NULLs")
    items = [{"value": text_of(array[1], item)} for item in value]
    return {
        "name": name,
        "parameterType": {"type": "ARRAY", "arrayType": {"type": array[1]}},
        "parameterValue": {"arrayValues": items},
    }


def text_of(kind: str, value: Any) -> str | None:
    """Return a value as BigQuery reads it; None is NULL.

    Raises:
        ValueError: *value* is none of that type.
    """
    if value is None:
        return None
    try:
        return _TEXTS[kind](value)
    except (TypeError, AttributeError, InvalidOperation):
        raise ValueError(f"{type(value).__name__} is no {kind}") from None


def _int64(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    if not -(2**63) <= value < 2**63:
        raise ValueError("does not fit 64 bits")
    return str(value)


def _float64(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return str(value) if math.isfinite(value) else str(float(value))


def _bool(value: Any) -> str:
    if not isinstance(value, bool):
        raise TypeError
    return "true" if value else "false"


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


def _bytes(value: Any) -> str:
    return base64.b64encode(memoryview(value)).decode()


def _decimal(kind: str) -> Callable[[Any], str]:
    """Return the writer of exact numbers of *kind*."""
    before, after = _DIGITS[kind]

    def text(value: Any) -> str:
        if isinstance(value, bool):
            raise TypeError
        number = Decimal(repr(value) if isinstance(value, float) else value)
        if not number.is_finite():
            raise ValueError(f"{number} is no {kind}")
        # Not normalize(): it rounds to the precision of the caller's context.
        _, parts, exponent = number.as_tuple()
        digits = "".join(map(str, parts))
        kept = digits.rstrip("0")
        scale = len(kept) - len(digits) - int(exponent)
        if scale > after or len(kept) - scale > before:
            raise ValueError(f"{number} has more digits than {kind} keeps")
        return format(number, "f")

    return text


def _date(value: Any) -> str:
    if isinstance(value, str):
        value = date.fromisoformat(value)
    # A date may come back from the database as its midnight.
    return (value.date() if isinstance(value, datetime) else value).isoformat()[:10]


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        raise TypeError
    return moment


def _datetime(value: Any) -> str:
    moment = _moment(value)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds")


def _timestamp(value: Any) -> str:
    moment = _moment(value)
    if moment.utcoffset() is None:
        raise ValueError("a TIMESTAMP needs a time zone")
    return moment.astimezone(UTC).isoformat(" ", timespec="microseconds")


def _time(value: Any) -> str:
    moment = time.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, time) or moment.tzinfo is not None:
        raise TypeError
    return moment.isoformat(timespec="microseconds")


def _json(value: Any) -> str:
    if isinstance(value, str):
        json.loads(value)
        return value
    return json.dumps(value, allow_nan=False)


_TEXTS: Mapping[str, Callable[[Any], str]] = {
    "INT64": _int64,
    "FLOAT64": _float64,
    "BOOL": _bool,
    "STRING": _string,
    "BYTES": _bytes,
    "NUMERIC": _decimal("NUMERIC"),
    "BIGNUMERIC": _decimal("BIGNUMERIC"),
    "DATE": _date,
    "DATETIME": _datetime,
    "TIMESTAMP": _timestamp,
    "TIME": _time,
    "JSON": _json,
    "GEOGRAPHY": _string,
}
