"""Binaries on Flyte's wire: its msgpack is our JSON, and its pickles are named.

Flyte writes a dataclass, a model or a bare dict as a Binary with the tag "msgpack".
Only what JSON can say is translated; any other binary stays what it is, and whoever
reads it says so. Bytes, Any and what Flyte does not know are pickles without a tag,
as our bytes are: here they get one, so that nobody takes them for bytes.
"""

from __future__ import annotations

import json
import pickle  # its opcodes; nothing is ever loaded
import pickletools
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import msgpack
import pydantic_core

from orchestrator._codec import PICKLE_TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from flyteidl2.core.literals_pb2 import Binary, Literal

JSON_TAG = "json"
MSGPACK_TAG = "msgpack"


def to_flyte(source: Literal, target: Literal) -> None:
    """Copy a literal, with JSON binaries turned into msgpack."""
    _copy(source, target, _as_theirs)


def from_flyte(source: Literal, target: Literal) -> None:
    """Copy a literal, with msgpack binaries turned into JSON, and pickles tagged."""
    _copy(source, target, _as_ours)


def _copy(source: Literal, target: Literal, turn: Callable[[Binary], None]) -> None:
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
        elif kind == "scalar" and literal.scalar.HasField("binary"):
            turn(literal.scalar.binary)


def _as_theirs(binary: Binary) -> None:
    if binary.tag == JSON_TAG:
        _as_msgpack(binary)
    elif binary.tag == PICKLE_TAG:
        binary.tag = ""


def _as_ours(binary: Binary) -> None:
    if binary.tag == MSGPACK_TAG:
        _as_json(binary)
    elif not binary.tag and is_pickle(binary.value):
        binary.tag = PICKLE_TAG


def is_pickle(data: bytes) -> bool:
    """Tell whether *data* is one whole pickle of a protocol with a header.

    Its opcodes are listed; nothing is loaded, so nothing of it runs.
    """
    if data[:1] != pickle.PROTO or data[-1:] != pickle.STOP:
        return False
    try:
        opcodes = deque(pickletools.genops(data), maxlen=1)
    except ValueError:
        return False
    return opcodes[0][2] == len(data) - 1


def _as_msgpack(binary: Binary) -> None:
    try:
        packed = pack(pydantic_core.from_json(binary.value))
    except (ValueError, RecursionError):
        return
    binary.value, binary.tag = packed, MSGPACK_TAG


def _as_json(binary: Binary) -> None:
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
