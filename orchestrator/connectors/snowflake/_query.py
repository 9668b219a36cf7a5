"""The query that a task asks for: its text, and the values of its inputs."""

from __future__ import annotations

import math
import re
import types
import typing
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALARS = (bool, int, float, str, bytes, Decimal, datetime, date, time)
_TEMPLATED = re.compile(r"\{\{\s*\.\s*inputs\b")
_VALUES = re.compile(r"\bVALUES\s*\(((?:%\(\w+\)s|[^()%]|%%)*)\)", re.IGNORECASE)
_MARK = re.compile(r"%\((\w+)\)s|%%")


def check_text(text: str, names: list[str], *, batch: bool = False) -> None:
    """Refuse SQL that is empty, or whose parameters are not the inputs.

    Raises:
        ValueError: Says why.
    """
    if not text.strip():
        raise ValueError("query_template is empty")
    if _TEMPLATED.search(text):
        raise ValueError(
            "query_template has {{ .inputs }}: inputs are parameters of the query,"
            " write %(name)s instead"
        )
    if names:
        used = {found[1] for found in _MARK.finditer(text) if found[1]}
        if used != set(names):
            raise ValueError(
                f"query_template has the parameters {sorted(used)}, the inputs are"
                f" {sorted(names)}"
            )
        if "%" in _MARK.sub("", text):
            raise ValueError("a % beside parameters must be written %%")
    if batch and (not names or len(_VALUES.findall(text)) != 1):
        raise ValueError("batch needs inputs and exactly one VALUES (%(name)s, ...)")


def can_be_sent(declared: Any, *, batch: bool = False) -> bool:
    """Tell whether an input of type *declared* can be a parameter.

    A list is one for ``IN %(names)s``, and for the rows of a batch.
    """
    origin, args = get_origin(declared), get_args(declared)
    if origin is list:
        return can_be_sent(args[0]) and get_origin(args[0]) is not list
    if batch:
        return False
    if origin in (Union, types.UnionType):
        left = [arg for arg in args if arg is not type(None)]
        return len(left) == 1 and can_be_sent(left[0]) and get_origin(left[0]) is None
    if origin is typing.Annotated:
        return can_be_sent(args[0])
    if origin is Literal:
        return all(isinstance(arg, SCALARS) for arg in args)
    return declared in SCALARS


def is_date(declared: Any) -> bool:
    """Tell whether an input is of dates, which are stored as moments."""
    return declared is date or any(is_date(arg) for arg in get_args(declared))


def as_dates(value: Any) -> Any:
    """Return the stored value of an input of dates as it was given."""
    if isinstance(value, list):
        return [as_dates(item) for item in value]
    return value.date() if isinstance(value, datetime) else value


def parameters(
    text: str, inputs: Mapping[str, Any], *, batch: bool
) -> tuple[str, dict[str, Any] | None]:
    """Return the text to send and the values of its parameters, None for none.

    Raises:
        ValueError: A value cannot be sent.
    """
    for name, value in inputs.items():
        _check(name, value, batch=batch)
    if not inputs:
        return text, None
    return _spread(text, inputs) if batch else (text, dict(inputs))


def _check(name: str, value: Any, *, batch: bool) -> None:
    items = value if isinstance(value, list) else [value]
    if not items and not batch:
        raise ValueError(f"input {name!r}: an empty list is no parameter")
    for item in items:
        if item is not None and not isinstance(item, SCALARS):
            raise ValueError(f"input {name!r}: {type(item).__name__} is no parameter")
        if isinstance(item, float | Decimal) and not math.isfinite(item):
            raise ValueError(f"input {name!r}: {item} is no parameter")


def _spread(text: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Repeat the row of VALUES for each element of the lists."""
    lengths = {
        len(value) if isinstance(value, list) else -1 for value in inputs.values()
    }
    if len(lengths) != 1 or not lengths or min(lengths) < 1:
        raise ValueError("a batch needs lists of one length, with one row at least")
    (count,) = lengths
    found = _VALUES.search(text)
    if found is None:
        raise ValueError("a batch needs VALUES (%(name)s, ...)")
    rows = [
        "("
        + _MARK.sub(lambda m, n=n: f"%({m[1]}_{n})s" if m[1] else m[0], found[1])
        + ")"
        for n in range(count)
    ]
    flat = {
        f"{name}_{n}": value[n] for name, value in inputs.items() for n in range(count)
    }
    return f"{text[: found.start()]}VALUES {', '.join(rows)}{text[found.end() :]}", flat
