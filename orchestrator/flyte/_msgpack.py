"""Structured values on Flyte's wire: its msgpack binaries, ours are JSON.

Flyte writes a dataclass, a model or a bare dict as a Binary with the tag "msgpack".
Only what JSON can say is translated; any other binary stays what it is, and whoever
reads it says so.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, cast

import msgpack
import pydantic_core

if TYPE_CHECKING:
    from collections.abc import Callable

    from flyteidl2.core.literals_pb2 import Literal

JSON_TAG = "json"
MSGPACK_TAG = "msgpack"


def to_flyte(source: Literal, target: Literal) -> None:
    """Copy a literal, with JSON binaries turned into msgpack."""
    _copy(source, target, _as_msgpack, JSON_TAG)


def from_flyte(source: Literal, target: Literal) -> None:
    """Copy a literal, with msgpack binaries turned into JSON."""
    _copy(source, target, _as_json, MSGPACK_TAG)


def _copy(
    source: Literal, target: Literal, turn: Callable[[Literal], None], tag: str
) -> None:
    target.CopyFrom(source)
    pending = [target]
    while pending:
        literal = pending.pop()
        kind = literal.WhichOneof("value")
        if kind == "collection":
            pending.extend(literal.collection.literals)
        elif kind == "map":
            pending.extend(literal.map.literals.values())
        elif kind == "scalar" and literal.scalar.HasField("union"):
            pending.append(literal.scalar.union.value)
        elif kind == "scalar" and literal.scalar.binary.tag == tag:
            turn(literal)


def _as_msgpack(literal: Literal) -> None:
    binary = literal.scalar.binary
    try:
        packed = pack(pydantic_core.from_json(binary.value))
    except (ValueError, RecursionError):
        return
    binary.value, binary.tag = packed, MSGPACK_TAG


def _as_json(literal: Literal) -> None:
    binary = literal.scalar.binary
    try:
        value = unpack(binary.value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=True).encode()
    except (ValueError, TypeError, RecursionError):
        return
    binary.value, binary.tag = text, JSON_TAG


def pack(value: Any) -> bytes:
    """Return JSON data as msgpack.

    Raises:
        ValueError: It is no JSON data, or an integer has more than 64 bits.
    """
    try:
        return cast("bytes", msgpack.packb(value, use_bin_type=True))
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def unpack(data: bytes) -> Any:
    """Return the value of a msgpack text.

    Raises:
        ValueError: It is none, or holds an extension, which JSON cannot say.
    """
    try:
        return msgpack.unpackb(data, raw=False, ext_hook=_refused)
    except (msgpack.UnpackException, struct.error) as error:
        raise ValueError(str(error)) from error


def _refused(code: int, data: bytes) -> Any:
    del data
    raise ValueError(f"it holds an extension, number {code}")
