"""Python types as Flyte's LiteralType, and back.

Tags, names and choices are Flyte's own where Flyte has any. Where it would pickle
(Any, bytes) this library writes plain literals and a type that says so.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from datetime import date, datetime, timedelta
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from flyteidl2.core import interface_pb2, types_pb2
from google.protobuf import json_format
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticOmit

from orchestrator.io import DataFrame, Dir, File
from orchestrator.models import NativeInterface

NoneType = type(None)
ANY_TAG = "Any"


class PlainData:
    """Type of a field whose Python type is unknown, such as Flyte's STRUCT.

    Dataclasses and models are taken and come back as plain dicts.
    """


Moment = Annotated[datetime, "or a date"]
"""Type of a field that Flyte calls DATETIME, which was declared either."""

_SIMPLE: dict[Any, tuple[types_pb2.SimpleType, str]] = {
    NoneType: (types_pb2.NONE, "none"),
    int: (types_pb2.INTEGER, "int"),
    float: (types_pb2.FLOAT, "float"),
    str: (types_pb2.STRING, "str"),
    bool: (types_pb2.BOOLEAN, "bool"),
    datetime: (types_pb2.DATETIME, "datetime"),
    date: (types_pb2.DATETIME, "date"),
    timedelta: (types_pb2.DURATION, "timedelta"),
    bytes: (types_pb2.BINARY, "bytes"),
    dict: (types_pb2.STRUCT, "Typed Dict"),
    PlainData: (types_pb2.STRUCT, ""),
}
_FROM_SIMPLE: dict[int, Any] = {
    types_pb2.NONE: NoneType,
    types_pb2.INTEGER: int,
    types_pb2.FLOAT: float,
    types_pb2.STRING: str,
    types_pb2.BOOLEAN: bool,
    types_pb2.DATETIME: Moment,
    types_pb2.DURATION: timedelta,
    types_pb2.BINARY: bytes,
    types_pb2.STRUCT: PlainData,
}
_CACHE: dict[Any, types_pb2.LiteralType] = {}


def peel(declared: Any) -> Any:
    """Return *declared* without aliases and NewTypes; unknown is Any.

    ``Annotated`` stays: its constraints are checked.
    """
    while True:
        if declared is None:
            return NoneType
        if declared is inspect.Parameter.empty or declared is object:
            return Any
        if isinstance(declared, TypeVar):
            return Any
        if isinstance(declared, NewType):
            declared = declared.__supertype__
        elif type(declared).__name__ == "TypeAliasType":
            declared = declared.__value__
        else:
            return declared


def is_union(declared: Any) -> bool:
    """Tell whether *declared* is ``X | Y``, Optional or Union."""
    return get_origin(declared) in (Union, types.UnionType)


def show(declared: Any) -> str:
    """Return *declared* as it would be written."""
    if declared is NoneType:
        return "None"
    if declared == Moment:
        return "datetime"
    if isinstance(declared, type) and not get_args(declared):
        return declared.__name__
    return str(declared).replace("typing.", "")


def tagged(declared: Any) -> types_pb2.LiteralType:
    """Return the type as a member of a union, where it carries Flyte's tag."""
    literal_type = types_pb2.LiteralType()
    literal_type.CopyFrom(literal_type_of(declared))
    literal_type.structure.tag = _tag(peel(declared))
    return literal_type


def _tag(declared: Any) -> str:  # noqa: PLR0911 - one line a kind
    """Return the name of Flyte's transformer for *declared*."""
    if get_origin(declared) is Annotated:
        return _tag(peel(get_args(declared)[0]))
    for simple, (_, tag) in _SIMPLE.items():
        if declared is simple:
            return tag
    origin = get_origin(declared) or declared
    if origin is list:
        return "Typed List"
    if origin is dict:
        return "Typed Dict"
    if origin is Literal or (
        isinstance(origin, type) and issubclass(origin, enum.Enum)
    ):
        return "DefaultEnumTransformer"
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return "Pydantic Transformer"
    return ANY_TAG if declared is Any else "Object-Dataclass-Transformer"


def literal_type_of(declared: Any) -> types_pb2.LiteralType:
    """Return Flyte's type for *declared*; cached, so never change the result."""
    try:
        found = _CACHE.get(declared)
    except TypeError:  # an unhashable annotation
        return _build(peel(declared))
    if found is None:
        found = _CACHE[declared] = _build(peel(declared))
    return found


def _build(declared: Any) -> types_pb2.LiteralType:  # noqa: PLR0911 - one line a kind
    """Build Flyte's type for a peeled type."""
    kind = types_pb2.LiteralType
    origin, args = get_origin(declared), get_args(declared)
    if origin is Annotated:
        return literal_type_of(args[0])
    simple = _SIMPLE.get(declared) if isinstance(declared, type) else None
    if simple is not None:
        return kind(simple=simple[0])
    if declared is Any:
        return kind(
            simple=types_pb2.STRUCT, structure=types_pb2.TypeStructure(tag=ANY_TAG)
        )
    if is_union(declared):
        variants = [tagged(variant) for variant in args]
        return kind(union_type=types_pb2.UnionType(variants=variants))
    if declared is list or origin is list:
        return kind(collection_type=literal_type_of(args[0] if args else Any))
    if origin is dict and peel(args[0]) is str:
        return kind(map_value_type=literal_type_of(args[1]))
    if origin is Literal and all(isinstance(a, str) for a in args):
        return kind(enum_type=types_pb2.EnumType(values=args))
    if isinstance(declared, type) and issubclass(declared, enum.Enum):
        names = [member.name for member in declared]
        return kind(enum_type=types_pb2.EnumType(values=names))
    return _reference_type(declared) or _schema_type(declared)


def _reference_type(declared: Any) -> types_pb2.LiteralType | None:
    """Return the type of a reference to data elsewhere, None for other types."""
    if declared is DataFrame:
        dataset = types_pb2.StructuredDatasetType()
        return types_pb2.LiteralType(structured_dataset_type=dataset)
    if declared is File:
        blob = types_pb2.BlobType(dimensionality=types_pb2.BlobType.SINGLE)
        return types_pb2.LiteralType(blob=blob)
    if declared is Dir:
        blob = types_pb2.BlobType(dimensionality=types_pb2.BlobType.MULTIPART)
        return types_pb2.LiteralType(blob=blob)
    return None


def _schema_type(declared: Any) -> types_pb2.LiteralType:
    """Return STRUCT with the JSON schema of a dataclass, model or other class."""
    literal_type = types_pb2.LiteralType(
        simple=types_pb2.STRUCT,
        structure=types_pb2.TypeStructure(tag=_tag(declared)),
    )
    try:
        schema = TypeAdapter(declared).json_schema()
        json_format.ParseDict(schema, literal_type.metadata)
    except (PydanticUserError, PydanticOmit, NameError, json_format.ParseError):
        literal_type.ClearField("metadata")  # a type without a schema is still a type
    return literal_type


def python_type_of(literal_type: types_pb2.LiteralType) -> Any:  # noqa: PLR0911 - one line a kind
    """Return the Python type that stands for Flyte's *literal_type*."""
    kind = literal_type.WhichOneof("type")
    if kind == "simple":
        if literal_type.structure.tag == ANY_TAG:
            return Any
        return _FROM_SIMPLE.get(literal_type.simple, PlainData)
    if kind == "collection_type":
        element: Any = python_type_of(literal_type.collection_type)
        return list[element]
    if kind == "map_value_type":
        value: Any = python_type_of(literal_type.map_value_type)
        return dict[str, value]
    if kind == "union_type":
        variants = tuple(python_type_of(v) for v in literal_type.union_type.variants)
        return Union[variants]  # noqa: UP007 - a computed union
    if kind == "enum_type":
        return Literal[tuple(literal_type.enum_type.values)]
    if kind == "structured_dataset_type":
        return DataFrame
    if kind == "blob":
        single = types_pb2.BlobType.SINGLE
        return File if literal_type.blob.dimensionality == single else Dir
    return PlainData


def _variables(declared: typing.Mapping[str, Any]) -> interface_pb2.VariableMap:
    """Return the variables in the order of their declaration.

    Flyte sorts them by name; here the protobuf is what another process knows of the
    task, and results are returned in the order in which outputs were declared.
    """
    return interface_pb2.VariableMap(
        variables=[
            interface_pb2.VariableEntry(
                key=name,
                value=interface_pb2.Variable(type=literal_type_of(declared[name])),
            )
            for name in declared
        ]
    )


def interface_to_proto(interface: NativeInterface) -> interface_pb2.TypedInterface:
    """Return Flyte's TypedInterface: names and types, without defaults."""
    return interface_pb2.TypedInterface(
        inputs=_variables(interface.get_input_types()),
        outputs=_variables(interface.outputs),
    )


def interface_from_proto(interface: interface_pb2.TypedInterface) -> NativeInterface:
    """Return the native interface of a bare protobuf; all inputs are required."""
    empty = inspect.Parameter.empty
    return NativeInterface(
        inputs={
            entry.key: (python_type_of(entry.value.type), empty)
            for entry in interface.inputs.variables
        },
        outputs={
            entry.key: python_type_of(entry.value.type)
            for entry in interface.outputs.variables
        },
    )
