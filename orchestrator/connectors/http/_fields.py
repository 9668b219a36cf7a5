"""The kinds of values in a definition: durations, JSON paths, types, secrets."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from orchestrator.connectors.http._extra import need
from orchestrator.io import DataFrame, Dir, File

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DURATION_PATTERN = r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# The client writes these, or the definition's auth does.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "host",
        "proxy-authorization",
        "te",  # codespell:ignore te
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
HEADER_SOURCE = "header:"
"""Begins a source that is a header field of the answer and no path in its body."""
LAST = "/last"
"""Ends one of which only the last segment of a URL's path is meant."""

TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "datetime": datetime,
    "date": date,
    "duration": timedelta,
    "any": Any,
    "dict": dict,
    "list[str]": list[str],
    "list[int]": list[int],
    "list[float]": list[float],
    "list[bool]": list[bool],
    "file": File,
    "dir": Dir,
    "dataframe": DataFrame,
}
"""Names of types in a definition; the last three are outputs, as URIs."""

TypeName = Literal[
    "str",
    "int",
    "float",
    "bool",
    "datetime",
    "date",
    "duration",
    "any",
    "dict",
    "list[str]",
    "list[int]",
    "list[float]",
    "list[bool]",
    "file",
    "dir",
    "dataframe",
]


class Model(BaseModel):
    """A part of a definition: unknown fields are mistakes."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def refuse(problems: Iterable[str]) -> None:
    """Raise a ValueError that tells each of *problems* in a line, if there are any.

    Pydantic takes one error of a validator; ``_load.problems`` parts them again.
    """
    lines = "\n".join(problems)
    if lines:
        raise ValueError(lines)


def _duration(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 - pydantic collects ValueErrors
            "must be a duration such as 30s, 5m or 24h"
        )
    if isinstance(value, (int, float)):
        return timedelta(seconds=value)
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is no duration such as 500ms, 30s, 5m or 24h")
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than nothing")
    return value


_DURATION_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": _DURATION_PATTERN},
            {"type": "number", "minimum": 0},
        ],
        "description": "500ms, 30s, 5m, 24h, 7d, or a number of seconds",
    }
)
Duration = Annotated[timedelta, BeforeValidator(_duration), _DURATION_SCHEMA]
PositiveDuration = Annotated[Duration, AfterValidator(_positive), _DURATION_SCHEMA]


def _json_path(value: str) -> str:
    jmespath = need("jmespath")
    try:
        jmespath.compile(value)
    except jmespath.exceptions.JMESPathError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{value!r} is no JMESPath expression: {reason}") from None
    return value


def _source(value: str) -> str:
    if value.startswith(HEADER_SOURCE):
        header_name(value.removeprefix(HEADER_SOURCE).removesuffix(LAST))
        return value
    return _json_path(value)


def header_name(value: str) -> str:
    """Return the name of a header that a definition may set.

    Raises:
        ValueError: It is no such name, or not the definition's to set.
    """
    if not _HEADER.fullmatch(value):
        raise ValueError(f"{value!r} is no name of a header")
    return value


def own_header(value: str) -> str:
    """Return the name of a header that a definition may send; as ``header_name``."""
    if header_name(value).lower() in _OWN_HEADERS:
        raise ValueError(
            f"{value!r} is not for definitions: credentials belong into auth, and the"
            " rest is the client's"
        )
    return value


JsonPath = Annotated[str, AfterValidator(_json_path)]
"""A JMESPath expression on the answer's JSON."""

Source = Annotated[str, AfterValidator(_source)]
"""A JMESPath expression on the answer's JSON, or ``header:NAME``, or of a URL there
the last segment of its path: ``header:NAME/last``."""

HeaderName = Annotated[str, AfterValidator(own_header)]
RefusalStatus = Annotated[int, Field(ge=400, le=599)]


class SecretRef(Model):
    """Where a secret is; the secret itself never stands in a definition."""

    secret: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]
    """Environment variable of the process that runs the orchestrator."""

    @model_validator(mode="before")
    @classmethod
    def _no_value(cls, data: Any) -> Any:
        if isinstance(data, str):
            raise ValueError(  # noqa: TRY004 - pydantic collects ValueErrors
                "never the secret itself: write {secret: NAME_OF_A_VARIABLE}"
            )
        return data
