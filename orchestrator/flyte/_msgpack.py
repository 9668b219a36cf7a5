"""Structured values on Flyte's wire: its msgpack binaries, ours are JSON.

Flyte writes a dataclass, a model or a bare dict as a Binary with the tag "msgpack".
Only what JSON can say is translated; any other binary stays what it is, and whoever
reads it says so.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pydantic_core

if TYPE_CHECKING:
    from collections.abc import Callable

    from flyteidl2.core.literals_pb2 import Literal

JSON_TAG = "json"
MSGPACK_TAG = "msgpack"
_DEPTH_MAX = 100
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1


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
    out = bytearray()
    _pack(value, out, 0)
    return bytes(out)


def _pack(value: Any, out: bytearray, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise ValueError("nested too deeply")
    if value is None or isinstance(value, bool):
        out.append({None: 0xC0, False: 0xC2, True: 0xC3}[value])
    elif isinstance(value, int):
        _pack_int(value, out)
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, str):
        data = value.encode()
        _pack_size(len(data), out, (0xA0, 32), (0xD9, 0xDA, 0xDB))
        out += data
    elif isinstance(value, list):
        _pack_size(len(value), out, (0x90, 16), (None, 0xDC, 0xDD))
        for item in value:
            _pack(item, out, depth + 1)
    elif isinstance(value, dict):
        _pack_size(len(value), out, (0x80, 16), (None, 0xDE, 0xDF))
        for key, item in value.items():
            _pack(key, out, depth + 1)
            _pack(item, out, depth + 1)
    else:
        raise ValueError(f"{type(value).__name__} is no JSON")


def _pack_int(value: int, out: bytearray) -> None:
    if not _INT64_MIN <= value <= _UINT64_MAX:
        raise ValueError("an integer has more than 64 bits")
    if -32 <= value < 128:  # noqa: PLR2004 - the two fixed forms
        out += struct.pack("b" if value < 0 else "B", value)
        return
    forms = (
        ((0xD0, "b"), (0xD1, "h"), (0xD2, "i"), (0xD3, "q"))
        if value < 0
        else ((0xCC, "B"), (0xCD, "H"), (0xCE, "I"), (0xCF, "Q"))
    )
    for mark, form in forms:
        try:
            out += struct.pack(f">B{form}", mark, value)
        except struct.error:
            continue
        return


def _pack_size(
    size: int,
    out: bytearray,
    fixed: tuple[int, int],
    marks: tuple[int | None, int, int],
) -> None:
    base, below = fixed
    if size < below:
        out.append(base | size)
        return
    for mark, form, limit in zip(marks, "BHI", (2**8, 2**16, 2**32), strict=True):
        if mark is not None and size < limit:
            out += struct.pack(f">B{form}", mark, size)
            return


def unpack(data: bytes) -> Any:
    """Return the value of a msgpack text.

    Raises:
        ValueError: It is none, or holds what JSON cannot say: bytes, extensions,
            keys that are no text.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise ValueError("there is more than one value")
    return value


_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_SIZED = {
    0xD9: ("text", ">B"),
    0xDA: ("text", ">H"),
    0xDB: ("text", ">I"),
    0xDC: ("list", ">H"),
    0xDD: ("list", ">I"),
    0xDE: ("dict", ">H"),
    0xDF: ("dict", ">I"),
}


class _Reader:
    """A place in a msgpack text."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        """Read one value."""
        if depth > _DEPTH_MAX:
            raise ValueError("nested too deeply")
        mark = self._take(1)[0]
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        if mark in _NUMBERS:
            return self._number(_NUMBERS[mark])
        if mark in _SIZED:
            kind, form = _SIZED[mark]
            return self._sized(kind, self._number(form), depth)
        return self._fixed(mark, depth)

    def _fixed(self, mark: int, depth: int) -> Any:
        """Read what carries its value or its size in the first byte."""
        if mark < 0x80:  # noqa: PLR2004 - the format's own table
            return mark
        if mark >= 0xE0:  # noqa: PLR2004
            return mark - 0x100
        if 0xA0 <= mark < 0xC0:  # noqa: PLR2004
            return self._sized("text", mark & 0x1F, depth)
        if mark < 0xA0:  # noqa: PLR2004
            kind = "dict" if mark < 0x90 else "list"  # noqa: PLR2004
            return self._sized(kind, mark & 0x0F, depth)
        raise ValueError("it holds bytes or an extension, which JSON cannot say")

    def _sized(self, kind: str, size: int, depth: int) -> Any:
        if kind == "text":
            return self._take(size).decode()
        if kind == "list":
            return [self.value(depth + 1) for _ in range(size)]
        entries = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise ValueError("a key is no text")  # noqa: TRY004 - one error for all
            entries[key] = self.value(depth + 1)
        return entries

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _take(self, size: int) -> bytes:
        taken = self._data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError("it ends too early")
        self.at += size
        return taken
