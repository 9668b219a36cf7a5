"""Values whose type nobody declared: the literal's own shape says what they are.

``ANY`` is for a declared Any and takes only what comes back as it was. ``PLAIN`` is
for fields that no interface describes: it also takes classes, enums and tuples, and
they come back as plain data.
"""

from __future__ import annotations

import dataclasses
import enum
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pydantic_core
from flyteidl2.core import types_pb2
from google.protobuf import json_format
from pydantic import BaseModel

from orchestrator._codec import _scalars
from orchestrator._codec._fit import Unfit, describe
from orchestrator._codec._scalars import Codec, Encoder
from orchestrator.io import DataFrame, Dir, File

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flyteidl2.core.literals_pb2 import Literal

JSON_TAG = "json"
"""Tag of a Binary that holds JSON. Flyte's own is "msgpack", whose library would be
one more dependency; a reader of Flyte's has to be told about this tag."""

_BY_TYPE: dict[type, Encoder] = {
    type(None): _scalars.encode_none,
    bool: _scalars.encode_bool,
    int: _scalars.encode_int,
    float: _scalars.encode_float,
    str: _scalars.encode_str,
    bytes: _scalars.encode_bytes,
    datetime: _scalars.encode_datetime,
    timedelta: _scalars.encode_timedelta,
}


def encode_plain(value: Any, literal: Literal) -> Any:
    """Write a value that comes back as it was, or refuse it."""
    encode = _BY_TYPE.get(type(value))
    if encode is not None:
        return encode(value, literal)
    if isinstance(value, list):
        return encode_items(value, literal, encode_plain)
    if isinstance(value, dict):
        return encode_entries(value, literal, encode_plain)
    if isinstance(value, (DataFrame, File, Dir)):
        return encode_reference(value, literal)
    if not isinstance(value, enum.Enum):
        for base in (str, float, int):
            if isinstance(value, base):
                return _BY_TYPE[base](base(value), literal)
    raise Unfit(f"is {describe(value)}, which needs a declared type to come back")


def _encode_loosely(value: Any, literal: Literal) -> Any:
    """Write a value as plain data; only what has no such form is refused."""
    if isinstance(value, enum.Enum):
        return _encode_loosely(value.value, literal)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = list(value)
        if isinstance(value, (set, frozenset)):
            items.sort(key=repr)
        return encode_items(items, literal, _encode_loosely)
    if isinstance(value, dict):
        return encode_entries(value, literal, _encode_loosely)
    if isinstance(value, date) and not isinstance(value, datetime):
        return _scalars.encode_date(value, literal)
    reference = isinstance(value, (DataFrame, File, Dir))
    if isinstance(value, BaseModel) or (
        dataclasses.is_dataclass(value) and not reference
    ):
        return _encode_object(value, literal)
    return encode_plain(value, literal)


def _encode_object(value: Any, literal: Literal) -> Any:
    """Write a dataclass or model as its JSON."""
    try:
        data = pydantic_core.to_json(
            value, bytes_mode="base64", inf_nan_mode="constants"
        )
    except (ValueError, RecursionError) as error:
        raise Unfit(f"has no JSON form ({error})") from error
    literal.scalar.binary.value = data
    literal.scalar.binary.tag = JSON_TAG
    return pydantic_core.from_json(data)


def encode_items(values: list[Any], literal: Literal, encode: Encoder) -> list[Any]:
    """Write a list as a collection."""
    collection = literal.collection
    collection.SetInParent()
    add = collection.literals.add
    shown: list[Any] = []
    try:
        for value in values:
            shown.append(encode(value, add()))  # noqa: PERF401 - its length is the place
    except Unfit as error:
        raise error.inside(f"[{len(shown)}]") from None
    return shown


def encode_entries(
    values: Mapping[Any, Any], literal: Literal, encode: Encoder
) -> dict[str, Any]:
    """Write a dict with str keys as a map."""
    literal.map.SetInParent()
    entries = literal.map.literals
    shown: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            problem = f"has a key of type {describe(key)}, keys must be str"
            raise Unfit(problem)
        try:
            shown[key] = encode(value, entries[key])
        except Unfit as error:
            raise error.inside(f"[{key!r}]") from None
        except UnicodeEncodeError:
            raise Unfit("has a key with a lone surrogate, which is no text") from None
    return shown


def decode_plain(literal: Literal) -> Any:
    """Read any literal by its own shape."""
    kind = literal.WhichOneof("value")
    if kind == "scalar":
        return _decode_scalar(literal)
    if kind == "collection":
        return [decode_plain(item) for item in literal.collection.literals]
    if kind == "map":
        entries = literal.map.literals
        return {key: decode_plain(entries[key]) for key in sorted(entries)}
    if kind == "offloaded_metadata":
        where = literal.offloaded_metadata.uri
        raise Unfit(f"is stored elsewhere ({where}), which this library does not read")
    raise Unfit("the literal is empty")


def _decode_scalar(literal: Literal) -> Any:  # noqa: PLR0911 - one line a kind
    """Read a scalar by its own shape."""
    scalar = literal.scalar
    kind = scalar.WhichOneof("value")
    if kind == "primitive":
        return _decode_primitive(literal)
    if kind == "none_type":
        return None
    if kind == "union":
        return decode_plain(scalar.union.value)
    if kind == "binary":
        binary = scalar.binary
        is_json = binary.tag == JSON_TAG
        return pydantic_core.from_json(binary.value) if is_json else binary.value
    if kind == "generic":
        return _whole_numbers(json_format.MessageToDict(scalar.generic))
    if kind in ("structured_dataset", "blob"):
        return decode_reference(literal)
    message = scalar if kind is None else getattr(scalar, kind)
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _decode_primitive(literal: Literal) -> Any:
    """Read a primitive by its own kind."""
    kind = literal.scalar.primitive.WhichOneof("value")
    if kind == "datetime":
        return _scalars.decode_datetime(literal)
    if kind == "duration":
        return _scalars.decode_timedelta(literal)
    return None if kind is None else getattr(literal.scalar.primitive, kind)


def _whole_numbers(value: Any) -> Any:
    """Return a Struct's data with integral numbers as int: a Struct has only floats."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    return value


def encode_reference(value: DataFrame | File | Dir, literal: Literal) -> Any:
    """Write a reference to data elsewhere."""
    if isinstance(value, DataFrame):
        dataset = literal.scalar.structured_dataset
        dataset.uri = value.uri
        dataset.metadata.structured_dataset_type.format = value.format
        return value
    blob = literal.scalar.blob
    blob.uri = value.path
    single = isinstance(value, File)
    blob.metadata.type.format = value.format
    blob.metadata.type.dimensionality = (
        types_pb2.BlobType.SINGLE if single else types_pb2.BlobType.MULTIPART
    )
    return value


def decode_reference(literal: Literal) -> DataFrame | File | Dir:
    """Read a reference to data elsewhere."""
    scalar = literal.scalar
    if scalar.HasField("structured_dataset"):
        dataset = scalar.structured_dataset
        found = dataset.metadata.structured_dataset_type.format
        return DataFrame(uri=dataset.uri, format=found)
    kind = scalar.blob.metadata.type
    single = kind.dimensionality == types_pb2.BlobType.SINGLE
    return (File if single else Dir)(path=scalar.blob.uri, format=kind.format)


def decode_any(literal: Literal) -> Any:
    """Read any literal but a pickle, whose value nobody can tell."""
    if literal.scalar.binary.tag == _scalars.PICKLE_TAG:
        return _scalars.mismatch(literal, "Any", decode_any)
    return decode_plain(literal)


ANY = Codec(encode_plain, decode_any, nested=True)
PLAIN = Codec(_encode_loosely, decode_plain, nested=True)
