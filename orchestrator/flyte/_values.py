"""References to data elsewhere: Flyte's classes and ours, and types that name them.

Flyte's DataFrame, File and Dir become ours on the way in, so that what is stored is
the same whoever submitted it, and Flyte's again where its connectors and its callers
see them. All other values are left alone.
"""

# flyte is in an environment of its own:
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
import enum
import types
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import flyte.io
from flyte.types import TypeEngine
from pydantic import BaseModel

from orchestrator.errors import InvalidInputError
from orchestrator.io import DataFrame, Dir, File

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLASSES: dict[type, type] = {
    flyte.io.DataFrame: DataFrame,
    flyte.io.File: File,
    flyte.io.Dir: Dir,
}


def type_to_ours(declared: Any) -> Any:
    """Return *declared* with this library's references in the place of Flyte's.

    What only Flyte's type engine knows as a table or file (``pandas.DataFrame``) is
    a reference too.
    """
    origin, args = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        return Union[tuple(type_to_ours(arg) for arg in args)]  # noqa: UP007 - computed
    if origin is list:
        element: Any = type_to_ours(args[0])
        return list[element]
    if origin is dict:
        key: Any = args[0]
        value: Any = type_to_ours(args[1])
        return dict[key, value]
    if origin is Annotated:
        return type_to_ours(args[0]) if _reference(args[0]) else declared
    return _reference(declared) or declared


def _reference(declared: Any) -> type | None:
    """Return our class for a type that is a reference, None for all others."""
    if not isinstance(declared, type):
        return None
    for theirs, ours in _CLASSES.items():
        if issubclass(declared, theirs):
            return ours
    plain = issubclass(declared, (enum.Enum, BaseModel))
    if plain or dataclasses.is_dataclass(declared):
        return None
    if declared.__module__ in ("builtins", "datetime", "typing"):
        return None
    literal_type = TypeEngine.to_literal_type(declared)
    return DataFrame if literal_type.HasField("structured_dataset_type") else None


def value_to_ours(name: str, value: Any) -> Any:
    """Return *value* with our references; *name* is for the error.

    Raises:
        InvalidInputError: A table or file is in memory, and lies nowhere.
    """
    if isinstance(value, list):
        return [value_to_ours(f"{name}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {k: value_to_ours(f"{name}[{k!r}]", v) for k, v in value.items()}
    if isinstance(value, flyte.io.DataFrame):
        if not value.uri:
            problem = "is a table in memory: write it somewhere and pass its uri"
            raise InvalidInputError(name, problem)
        return DataFrame(uri=value.uri, format=value.format or "")
    for theirs, ours in ((flyte.io.File, File), (flyte.io.Dir, Dir)):
        if isinstance(value, theirs):
            return ours(path=value.path, format=value.format or "")
    return value


def value_to_flyte(value: Any) -> Any:
    """Return *value* with Flyte's references in the place of ours."""
    if isinstance(value, list):
        return [value_to_flyte(item) for item in value]
    if isinstance(value, dict):
        return {key: value_to_flyte(item) for key, item in value.items()}
    if isinstance(value, DataFrame):
        return flyte.io.DataFrame(uri=value.uri, format=value.format)
    if isinstance(value, File):
        return flyte.io.File(path=value.path, format=value.format)
    if isinstance(value, Dir):
        return flyte.io.Dir(path=value.path, format=value.format)
    return value


def values_to_ours(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* by name with our references."""
    return {name: value_to_ours(name, value) for name, value in values.items()}


def values_to_flyte(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* by name with Flyte's references."""
    return {name: value_to_flyte(value) for name, value in values.items()}
