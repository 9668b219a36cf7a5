"""Native values and Flyte literals: the one way in and out of the database.

Inputs and outputs are stored as a ``LiteralMap`` protobuf, which is the truth, and
beside it as JSON text, which is for reading and for SQL. A value comes back equal
to what it was, or is refused at the edge with the field named; the JSON is a
rendering (bytes as base64, NaN as "NaN", datetimes as ISO-8601) and never read back.

=============================  ====================================================
declared type                  literal
=============================  ====================================================
None bool int float str        Void or Primitive; an int has 64 bits
datetime                       Timestamp: must be aware, comes back in UTC
date                           Timestamp of its midnight in UTC, as Flyte
DATETIME of a bare protobuf    Timestamp: a datetime or a date; read as datetime
timedelta                      Duration
bytes                          Binary without a tag (Flyte would pickle)
list[T], dict[str, T]          collection, map; a dict comes back with sorted keys
Optional, Union                Union with the variant's type
Enum, Literal                  Primitive: an Enum's name, a Literal's value
dataclass, pydantic model,     Binary with tag "json" (Flyte: "msgpack", whose
tuple, set, Decimal, ...       library would be one more dependency)
DataFrame, File, Dir           StructuredDataset, Blob
Any, bare list and dict        what the value is: scalars, lists and dicts of them
=============================  ====================================================

Strictness: an int is taken for a float, a dict for a class, a member's value for an
Enum; nothing else is converted.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pydantic_core
from flyteidl2.core import literals_pb2
from google.protobuf.message import DecodeError, EncodeError

from orchestrator._codec._containers import codec_of
from orchestrator._codec._fit import Unfit
from orchestrator._codec._plain import decode_plain
from orchestrator._codec._scalars import PICKLE_TAG
from orchestrator._codec._size import exceeds
from orchestrator._codec._text import inputs_from_text
from orchestrator._codec._types import (
    PlainData,
    interface_from_proto,
    interface_to_proto,
    literal_type_of,
    peel,
    python_type_of,
    show,
)
from orchestrator.errors import (
    ConfigurationError,
    InvalidInputError,
    OutputMismatchError,
)
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "PICKLE_TAG",
    "Encoded",
    "check_interface",
    "decode_values",
    "encode_inputs",
    "encode_outputs",
    "encode_values",
    "exceeds",
    "inputs_from_text",
    "interface_from_proto",
    "interface_to_proto",
    "literal_type_of",
    "python_type_of",
]


class Encoded(NamedTuple):
    """Values in their two stored forms.

    Attributes:
        proto: A serialized ``LiteralMap``; equal values have equal bytes.
        json: An object of the values by name, in the order in which they came.
    """

    proto: bytes
    json: str


NOTHING = Encoded(b"", "{}")
"""The empty map."""

_EMPTY = inspect.Parameter.empty


def encode_values(
    types: Mapping[str, Any], values: Mapping[str, Any], *, what: str
) -> Encoded:
    """Encode *values*, each by its declared type.

    Args:
        types: Declared types by name. A name without a type is written as plain
            data: classes and enums come back as dicts and values.
        values: Native values by name.
        what: "input" or "output"; decides the error.

    Raises:
        InvalidInputError: An input does not fit.
        OutputMismatchError: An output does not fit.
    """
    if not values:
        return NOTHING
    refusal = InvalidInputError if what == "input" else OutputMismatchError
    literal_map = literals_pb2.LiteralMap()
    literals = literal_map.literals
    shown: dict[str, Any] = {}
    nested = False
    name = ""
    try:
        for name, value in values.items():
            codec = codec_of(types.get(name, PlainData))
            shown[name] = codec.encode(value, literals[name])
            nested = nested or codec.nested
    except Unfit as error:
        raise refusal(f"{name}{error.where}", error.problem) from None
    except (RecursionError, UnicodeEncodeError, TypeError) as error:
        raise refusal(str(name), _cannot_be_written(error)) from None
    try:
        proto = literal_map.SerializeToString(deterministic=True)
        if nested:  # Too deep a message is written without an error, but not read.
            literals_pb2.LiteralMap.FromString(proto)
        text = pydantic_core.to_json(
            shown,
            bytes_mode="base64",
            inf_nan_mode="strings",
            timedelta_mode="iso8601",
        )
    except (EncodeError, DecodeError, ValueError) as error:
        raise refusal(_deepest(shown), _cannot_be_written(error)) from None
    return Encoded(proto, text.decode())


def check_interface(interface: NativeInterface) -> None:
    """Raise if a declared type can never be written, before any job is paid for.

    Raises:
        ConfigurationError: Names the input or output.
    """
    declared = [("input", n, t) for n, t in interface.get_input_types().items()]
    declared += [("output", n, t) for n, t in interface.outputs.items()]
    for what, name, python_type in declared:
        try:
            codec_of(python_type)
        except Unfit as error:
            raise ConfigurationError(f"{what} {name!r} {error}") from None


def _cannot_be_written(error: Exception) -> str:
    """Return what to do about a value that no encoder could write."""
    if isinstance(error, UnicodeEncodeError):
        return "has a name that is no text"
    if isinstance(error, TypeError):
        return f"cannot be written ({error})"
    return "is nested too deeply, or contains itself; send it as JSON text"


def _deepest(values: Mapping[str, Any]) -> str:
    """Return the name of the most deeply nested value, for the error."""
    return max(values, key=lambda name: _depth(values[name]))


def _depth(value: Any) -> int:
    """Return the levels of nesting of a value without cycles."""
    depth = 0
    level: list[Any] = [value]
    while level:
        depth += 1
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
    return depth


def decode_values(types: Mapping[str, Any], proto: bytes) -> dict[str, Any]:
    """Return the native values of a stored map.

    Names with a declared type come first, in the order of *types*; then the others,
    sorted, as plain data. A declared name that was not stored is left out.

    Raises:
        ValueError: A value does not fit its type (the code has changed since), or
            the bytes are no ``LiteralMap``; the name is in the message.
    """
    if not proto:
        return {}
    try:
        literals = literals_pb2.LiteralMap.FromString(proto).literals
    except DecodeError as error:
        message = f"the stored bytes are no LiteralMap ({error})"
        raise ValueError(message) from None
    values: dict[str, Any] = {}
    name = ""
    try:
        for name, declared in types.items():
            if name in literals:
                values[name] = codec_of(declared).decode(literals[name])
        for name in sorted(literals):
            if name not in values:
                values[name] = decode_plain(literals[name])
    except Unfit as error:
        message = f"{name}{error.where}: {error.problem}"
        raise ValueError(message) from None
    return values


def encode_inputs(interface: NativeInterface, kwargs: Mapping[str, Any]) -> Encoded:
    """Check *kwargs* against the interface, fill in defaults, and encode.

    Raises:
        InvalidInputError: An input is missing, unknown or of the wrong type.
    """
    declared = interface.inputs
    for name in kwargs:
        if name not in declared:
            raise InvalidInputError(str(name), _unknown("input", declared))
    if not declared:
        return NOTHING
    types: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for name, (python_type, default) in declared.items():
        types[name] = python_type
        if name in kwargs:
            values[name] = kwargs[name]
        elif default is _EMPTY:
            problem = f"is missing: pass {name}=<{show(peel(python_type))}>"
            raise InvalidInputError(name, problem)
        elif default is NativeInterface.has_default:
            values[name] = _remote_default(interface, name)
        else:
            values[name] = default
        if values[name] is None and default is None:
            types[name] = PlainData  # "x: int = None" means what it says
    return encode_values(types, values, what="input")


def _remote_default(interface: NativeInterface, name: str) -> Any:
    """Return the default of an input that is known only as a literal."""
    literal = (interface._remote_defaults or {})[name]  # noqa: SLF001 - Flyte's field
    try:
        return codec_of(interface.inputs[name][0]).decode(literal)
    except Unfit as error:
        raise InvalidInputError(name, f"its default: {error}") from None


def _unknown(what: str, declared: Iterable[str]) -> str:
    """Return the problem of a name that the interface does not have."""
    known = ", ".join(declared)
    return (
        f"is no {what} of this task; it has {known}"
        if known
        else (f"is no {what} of this task; it has none")
    )


def encode_outputs(
    interface: NativeInterface | None,
    outputs: Mapping[str, Any] | literals_pb2.LiteralMap | None,
) -> Encoded | None:
    """Check a connector's outputs against the interface, and encode them.

    None stays None, whatever is declared: the job has put its outputs elsewhere.
    Without an interface everything is plain data.

    Raises:
        OutputMismatchError: An output is missing, unknown or of the wrong type.
    """
    if outputs is None:
        return None
    if isinstance(outputs, literals_pb2.LiteralMap):
        names: Iterable[str] = outputs.literals
    elif isinstance(outputs, Mapping):
        names = outputs
    else:
        problem = f"are {type(outputs).__name__}, must be a dict or a LiteralMap"
        raise OutputMismatchError("outputs", problem)
    types: Mapping[str, Any] = {}
    if interface is not None:
        types = interface.outputs
        _check_names(names, types)
    if isinstance(outputs, literals_pb2.LiteralMap):
        return _keep_literals(types, outputs)
    return encode_values(types, outputs, what="output")


def _check_names(names: Iterable[str], types: Mapping[str, Any]) -> None:
    """Raise if an output is unknown or missing."""
    found = set(names)
    for name in names:
        if name not in types:
            raise OutputMismatchError(str(name), _unknown("output", types))
    for name in types:
        if name not in found:
            problem = "is missing: the connector must return it with SUCCEEDED"
            raise OutputMismatchError(name, problem)


def _keep_literals(
    types: Mapping[str, Any], outputs: literals_pb2.LiteralMap
) -> Encoded:
    """Keep a connector's literals as they are, if they can be read."""
    proto = outputs.SerializeToString(deterministic=True)
    literals = outputs.literals
    shown: dict[str, Any] = {}
    for name in types or sorted(literals):
        try:
            value = codec_of(types.get(name, PlainData)).decode(literals[name])
        except Unfit as error:
            raise OutputMismatchError(f"{name}{error.where}", error.problem) from None
        shown[name] = value
    return Encoded(proto, encode_values({}, shown, what="output").json)
