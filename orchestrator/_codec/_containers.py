"""From a declared type to its codec: collections, unions, enums, references.

``codec_of`` builds the codec of a type once; a codec is two closures.
"""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import ValidationError

from orchestrator._codec import _scalars
from orchestrator._codec._fit import Unfit, describe, same
from orchestrator._codec._objects import adapter_of, object_codec, problems
from orchestrator._codec._plain import (
    ANY,
    PLAIN,
    decode_reference,
    encode_entries,
    encode_items,
    encode_reference,
)
from orchestrator._codec._scalars import Codec, mismatch
from orchestrator._codec._types import (
    Moment,
    NoneType,
    PlainData,
    is_union,
    peel,
    show,
    tagged,
)
from orchestrator.io import DataFrame, Dir, File

if TYPE_CHECKING:
    from flyteidl2.core import literals_pb2, types_pb2

_SCALARS: dict[Any, Codec] = {
    NoneType: _scalars.NONE,
    str: _scalars.STR,
    int: _scalars.INT,
    float: _scalars.FLOAT,
    bool: _scalars.BOOL,
    bytes: _scalars.BYTES,
    datetime: _scalars.DATETIME,
    date: _scalars.DATE,
    timedelta: _scalars.TIMEDELTA,
    PlainData: PLAIN,
}
_CODECS: dict[Any, Codec] = {Moment: _scalars.MOMENT}


def codec_of(declared: Any) -> Codec:
    """Return the codec of a declared type.

    Raises:
        Unfit: The type itself cannot be handled.
    """
    try:
        found = _CODECS.get(declared)
    except TypeError:  # an unhashable annotation
        return _build(peel(declared))
    if found is None:
        found = _CODECS[declared] = _build(peel(declared))
    return found


def _build(declared: Any) -> Codec:  # noqa: C901, PLR0911 - one line a kind
    """Build the codec of a peeled type."""
    if declared is Any:
        return ANY
    if isinstance(declared, str):
        problem = f"has the unresolved type {declared!r}; declare the type itself"
        raise Unfit(problem)
    origin, args = get_origin(declared), get_args(declared)
    if origin is None and isinstance(declared, type) and declared in _SCALARS:
        return _SCALARS[declared]
    if origin is Annotated:
        return _annotated(declared)
    if is_union(declared):
        return _union(args)
    if declared is list or origin is list:
        return _list(codec_of(args[0]) if args else ANY)
    if declared is dict or (origin is dict and peel(args[0]) is str):
        return _dict(codec_of(args[1]) if args else ANY)
    if origin is Literal:
        return _literal(args)
    if isinstance(declared, type) and issubclass(declared, enum.Enum):
        return _enum(declared)
    if declared in (DataFrame, File, Dir):
        return _reference(declared)
    return object_codec(declared)


def _list(element: Codec) -> Codec:
    """Return the codec of a list."""

    def encode(value: Any, literal: literals_pb2.Literal) -> Any:
        if not isinstance(value, list):
            raise Unfit(f"is {describe(value)}, must be list")
        return encode_items(value, literal, element.encode)

    def decode(literal: literals_pb2.Literal) -> Any:
        if not literal.HasField("collection"):
            return mismatch(literal, "list", decode)
        return [element.decode(item) for item in literal.collection.literals]

    return Codec(encode, decode, nested=True)


def _dict(element: Codec) -> Codec:
    """Return the codec of a dict with str keys; keys come back in sorted order."""

    def encode(value: Any, literal: literals_pb2.Literal) -> Any:
        if not isinstance(value, dict):
            raise Unfit(f"is {describe(value)}, must be dict")
        return encode_entries(value, literal, element.encode)

    def decode(literal: literals_pb2.Literal) -> Any:
        if not literal.HasField("map"):
            # Flyte writes an untyped dict as a Struct or a binary.
            scalar = literal.scalar
            if scalar.HasField("generic") or scalar.HasField("binary"):
                found = PLAIN.decode(literal)
                if isinstance(found, dict):
                    return found
            return mismatch(literal, "dict", decode)
        entries = literal.map.literals
        return {key: element.decode(entries[key]) for key in sorted(entries)}

    return Codec(encode, decode, nested=True)


def _annotated(declared: Any) -> Codec:
    """Return the codec of a type with constraints, which pydantic checks."""
    inner = codec_of(get_args(declared)[0])
    adapter = adapter_of(declared)

    def encode(value: Any, literal: literals_pb2.Literal) -> Any:
        shown = inner.encode(value, literal)
        try:
            adapter.validate_python((value,))
        except ValidationError as error:
            raise Unfit(problems(error).removeprefix("it: ")) from None
        return shown

    return Codec(encode, inner.decode, inner.nested)


class _Union:
    """Writes and reads a union.

    The variant whose class is the value's own is tried first, then all in the order
    of their declaration; the first that takes the value has it.
    """

    def __init__(self, variants: tuple[Any, ...]) -> None:
        """Build the codecs and types of the variants once."""
        self.codecs = [codec_of(variant) for variant in variants]
        self._types = [tagged(variant) for variant in variants]
        self._bare = [peel(variant) for variant in variants]
        self._by_class: dict[Any, int] = {}
        for i, bare in enumerate(self._bare):
            self._by_class.setdefault(get_origin(bare) or bare, i)
        self._by_type = {_key(t): i for i, t in enumerate(self._types)}
        self._names = " | ".join(map(show, self._bare))

    def encode(self, value: Any, literal: literals_pb2.Literal) -> Any:
        """Write the value as one variant, with that variant's type."""
        union = literal.scalar.union
        own = self._by_class.get(type(value))
        order = range(len(self.codecs))
        reasons: list[str] = []
        for i in order if own is None else (own, *order):
            try:
                shown = self.codecs[i].encode(value, union.value)
            except Unfit as error:
                union.ClearField("value")
                reasons.append(str(error))
            else:
                union.type.CopyFrom(self._types[i])
                return shown
        problem = f"is {describe(value)}, which fits none of {self._names}"
        if own is not None:  # its own class refused it, so that reason is the reason
            problem = f"fits none of {self._names}: {reasons[0]}"
        raise Unfit(problem)

    def decode(self, literal: literals_pb2.Literal) -> Any:
        """Read the variant that the literal names, else the first that fits."""
        union = literal.scalar.union
        known = literal.scalar.HasField("union")
        inner = union.value if known else literal
        if known and (found := self._by_type.get(_key(union.type))) is not None:
            return self.codecs[found].decode(inner)
        is_none = inner.scalar.HasField("none_type")
        for codec, bare in zip(self.codecs, self._bare, strict=True):
            # Every decoder lets a None through, so None asks for its own variant.
            if is_none and bare is not NoneType:
                continue
            try:
                return codec.decode(inner)
            except Unfit:
                continue
        return mismatch(inner, self._names, self.decode)


def _key(literal_type: types_pb2.LiteralType) -> bytes:
    """Return a type as a key."""
    return literal_type.SerializeToString(deterministic=True)


def _union(variants: tuple[Any, ...]) -> Codec:
    """Return the codec of a union."""
    union = _Union(variants)
    nested = any(codec.nested for codec in union.codecs)
    return Codec(union.encode, union.decode, nested)


def _literal(choices: tuple[Any, ...]) -> Codec:
    """Return the codec of ``Literal[...]``."""
    names = ", ".join(map(repr, choices))

    def encode(value: Any, literal: literals_pb2.Literal) -> Any:
        if isinstance(value, enum.Enum) and value not in choices:
            # In a process that knows an Enum by its protobuf alone.
            value = value.name
        for choice in choices:
            if same(choice, value):
                if isinstance(choice, enum.Enum):
                    return codec_of(type(choice)).encode(choice, literal)
                return ANY.encode(choice, literal)
        raise Unfit(f"must be one of {names}")

    def decode(literal: literals_pb2.Literal) -> Any:
        stored = ANY.decode(literal)
        for choice in choices:
            if same(choice, stored):
                return choice
            if isinstance(choice, enum.Enum) and choice.name == stored:
                return choice
        raise Unfit(f"the stored value is none of {names}")

    return Codec(encode, decode)


def _enum(declared: type[enum.Enum]) -> Codec:
    """Return the codec of an Enum: its name on the wire, its value in JSON.

    A member's value is taken for the member, as it comes from JSON or a command
    line; so is its name.
    """
    members = declared.__members__
    names = ", ".join(members)

    def find(value: Any) -> enum.Enum | None:
        if isinstance(value, declared):
            return value
        if isinstance(value, enum.Enum):
            return None
        by_value = (m for m in declared if same(m.value, value))
        found = next(by_value, None)
        return members.get(value) if found is None and isinstance(value, str) else found

    def encode(value: Any, literal: literals_pb2.Literal) -> Any:
        member = find(value)
        if member is None:
            raise Unfit(f"is no {declared.__name__}; choose one of {names}")
        name = member.name
        if name is None or name not in members:
            raise Unfit("is a combination of flags; declare it as int")
        literal.scalar.primitive.string_value = name
        shown = member.value
        return shown if isinstance(shown, (str, int, float)) else name

    def decode(literal: literals_pb2.Literal) -> Any:
        stored = ANY.decode(literal)
        if stored is None:
            return None
        member = members.get(stored) if isinstance(stored, str) else None
        member = find(stored) if member is None else member
        if member is None:
            raise Unfit(f"the stored value is no {declared.__name__}")
        return member

    return Codec(encode, decode)


def _reference(declared: type[Any]) -> Codec:
    """Return the codec of a reference to data elsewhere."""
    name = declared.__name__

    def encode(value: Any, literal: literals_pb2.Literal) -> Any:
        if type(value) is not declared:
            raise Unfit(f"is {describe(value)}, must be {name}")
        return encode_reference(value, literal)

    def decode(literal: literals_pb2.Literal) -> Any:
        scalar = literal.scalar
        if scalar.HasField("structured_dataset") or scalar.HasField("blob"):
            found = decode_reference(literal)
            if type(found) is declared:
                return found
        return mismatch(literal, name, decode)

    return Codec(encode, decode)
