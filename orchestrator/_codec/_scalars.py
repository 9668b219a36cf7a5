"""Scalars as literals: one encoder and one decoder per Python type.

An encoder fills a Literal and returns what the readable JSON shows. It writes a
value only if the decoder gives back an equal one; everything else is Unfit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from flyteidl2.core.literals_pb2 import Literal

from orchestrator._codec._fit import Unfit, describe

Encoder = Callable[[Any, Literal], Any]
Decoder = Callable[[Literal], Any]

PICKLE_TAG = "pickle"
"""Tag of a Binary that came from Flyte as a pickle, which is never read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION_S_MAX = 315_576_000_000
"""Limit of a protobuf Duration in seconds, about 10,000 years."""


class Codec(NamedTuple):
    """How values of one type are written and read.

    Attributes:
        encode: Fills the literal, returns what JSON shows.
        decode: Returns the value of a literal.
        nested: True if the literal contains literals, and so may be too deep.
    """

    encode: Encoder
    decode: Decoder
    nested: bool = False


def mismatch(literal: Literal, wanted: str, decode: Decoder) -> Any:
    """Read a literal that is not of the expected shape: a union, a None, or Unfit.

    A None is let through: it is the default of an input that says ``x: int = None``.
    """
    scalar = literal.scalar
    if scalar.HasField("union"):
        return decode(scalar.union.value)
    if scalar.HasField("none_type"):
        return None
    kind = literal.WhichOneof("value") or "empty"
    if kind == "scalar":
        kind = scalar.WhichOneof("value") or "empty"
        if scalar.binary.tag == PICKLE_TAG:
            kind = "a Python pickle (Flyte's form of bytes, Any and the like), which"
            raise Unfit(f"the literal is {kind} is never read here; wanted {wanted}")
        if kind == "primitive":
            kind = scalar.primitive.WhichOneof("value") or "empty"
    raise Unfit(f"the stored literal is {kind}, not {wanted}")


def encode_none(value: Any, literal: Literal) -> None:
    """Write None."""
    if value is not None:
        raise Unfit(f"is {describe(value)}, must be None")
    literal.scalar.none_type.SetInParent()


def decode_none(literal: Literal) -> None:
    """Read None."""
    if not literal.scalar.HasField("none_type"):
        mismatch(literal, "None", decode_none)


def encode_str(value: Any, literal: Literal) -> Any:
    """Write a str."""
    if not isinstance(value, str):
        raise Unfit(f"is {describe(value)}, must be str")
    try:
        literal.scalar.primitive.string_value = value
    except UnicodeEncodeError:
        problem = "contains a lone surrogate, which is no text; use bytes"
        raise Unfit(problem) from None
    return value


def decode_str(literal: Literal) -> Any:
    """Read a str."""
    primitive = literal.scalar.primitive
    if primitive.HasField("string_value"):
        return primitive.string_value
    return mismatch(literal, "str", decode_str)


def encode_int(value: Any, literal: Literal) -> Any:
    """Write an int of 64 bits; other integer types by their ``__index__``."""
    if type(value) is not int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise Unfit(f"is {describe(value)}, must be int")
        value = operator.index(value)
    try:
        literal.scalar.primitive.integer = value
    except ValueError:
        problem = "does not fit 64 bits; declare it as str"
        raise Unfit(problem) from None
    return value


def decode_int(literal: Literal) -> Any:
    """Read an int."""
    primitive = literal.scalar.primitive
    if primitive.HasField("integer"):
        return primitive.integer
    return mismatch(literal, "int", decode_int)


def encode_float(value: Any, literal: Literal) -> Any:
    """Write a float; an int only if the float equals it."""
    if not isinstance(value, float):
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit(f"is {describe(value)}, must be float")
        whole = value
        try:
            value = float(whole)
        except OverflowError:
            value = math.inf
        if value != whole:
            problem = "is an int that no float equals; declare it as int or str"
            raise Unfit(problem)
    literal.scalar.primitive.float_value = value
    return value


def decode_float(literal: Literal) -> Any:
    """Read a float; an integer literal counts, as in Flyte."""
    primitive = literal.scalar.primitive
    if primitive.HasField("float_value"):
        return primitive.float_value
    if primitive.HasField("integer"):
        return float(primitive.integer)
    return mismatch(literal, "float", decode_float)


def encode_bool(value: Any, literal: Literal) -> Any:
    """Write a bool."""
    if not isinstance(value, bool):
        raise Unfit(f"is {describe(value)}, must be bool")
    literal.scalar.primitive.boolean = value
    return value


def decode_bool(literal: Literal) -> Any:
    """Read a bool."""
    primitive = literal.scalar.primitive
    if primitive.HasField("boolean"):
        return primitive.boolean
    return mismatch(literal, "bool", decode_bool)


def encode_bytes(value: Any, literal: Literal) -> Any:
    """Write bytes as an untagged binary."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise Unfit(f"is {describe(value)}, must be bytes")
    value = bytes(value)
    literal.scalar.binary.value = value
    return value


def decode_bytes(literal: Literal) -> Any:
    """Read bytes, whatever their tag but a pickle's."""
    scalar = literal.scalar
    if scalar.HasField("binary") and scalar.binary.tag != PICKLE_TAG:
        return scalar.binary.value
    return mismatch(literal, "bytes", decode_bytes)


def _write_instant(value: datetime, literal: Literal) -> None:
    """Write an aware datetime as a Timestamp."""
    since = value - _EPOCH
    timestamp = literal.scalar.primitive.datetime
    timestamp.SetInParent()
    timestamp.seconds = since.days * 86_400 + since.seconds
    timestamp.nanos = since.microseconds * 1_000


def _read_instant(literal: Literal) -> datetime:
    """Read a Timestamp as a datetime in UTC."""
    timestamp = literal.scalar.primitive.datetime
    try:
        return _EPOCH + timedelta(
            seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000
        )
    except OverflowError:
        raise Unfit("the stored time is outside the years 1 to 9999") from None


def encode_datetime(value: Any, literal: Literal) -> Any:
    """Write an aware datetime; it comes back in UTC, as the same instant."""
    if not isinstance(value, datetime):
        raise Unfit(f"is {describe(value)}, must be datetime")
    if value.utcoffset() is None:
        problem = "is a datetime without a time zone; say which: tzinfo=timezone.utc"
        raise Unfit(problem)
    _write_instant(value, literal)
    return value


def decode_datetime(literal: Literal) -> Any:
    """Read a datetime in UTC."""
    if literal.scalar.primitive.HasField("datetime"):
        return _read_instant(literal)
    return mismatch(literal, "datetime", decode_datetime)


def encode_date(value: Any, literal: Literal) -> Any:
    """Write a date as its midnight in UTC, as Flyte does."""
    if not isinstance(value, date) or isinstance(value, datetime):
        raise Unfit(f"is {describe(value)}, must be date")
    _write_instant(datetime.combine(value, time.min, tzinfo=UTC), literal)
    return value


def decode_date(literal: Literal) -> Any:
    """Read a date."""
    if literal.scalar.primitive.HasField("datetime"):
        return _read_instant(literal).date()
    return mismatch(literal, "date", decode_date)


def encode_moment(value: Any, literal: Literal) -> Any:
    """Write what was declared a datetime or a date; which, nobody knows any more."""
    is_date = isinstance(value, date) and not isinstance(value, datetime)
    return (encode_date if is_date else encode_datetime)(value, literal)


def encode_timedelta(value: Any, literal: Literal) -> Any:
    """Write a timedelta."""
    if not isinstance(value, timedelta):
        raise Unfit(f"is {describe(value)}, must be timedelta")
    negative = value < timedelta(0)
    size = -value if negative else value
    seconds, nanos = size.days * 86_400 + size.seconds, size.microseconds * 1_000
    if seconds > _DURATION_S_MAX:
        raise Unfit("is longer than 10,000 years")
    duration = literal.scalar.primitive.duration
    duration.SetInParent()
    # A Duration's parts have one sign, a timedelta's have not.
    duration.seconds = -seconds if negative else seconds
    duration.nanos = -nanos if negative else nanos
    return value


def decode_timedelta(literal: Literal) -> Any:
    """Read a timedelta."""
    primitive = literal.scalar.primitive
    if primitive.HasField("duration"):
        duration = primitive.duration
        # int() cuts towards zero, as the sign of the nanos asks for.
        micros = int(duration.nanos / 1_000)
        return timedelta(seconds=duration.seconds, microseconds=micros)
    return mismatch(literal, "timedelta", decode_timedelta)


NONE = Codec(encode_none, decode_none)
STR = Codec(encode_str, decode_str)
INT = Codec(encode_int, decode_int)
FLOAT = Codec(encode_float, decode_float)
BOOL = Codec(encode_bool, decode_bool)
BYTES = Codec(encode_bytes, decode_bytes)
DATETIME = Codec(encode_datetime, decode_datetime)
MOMENT = Codec(encode_moment, decode_datetime)
DATE = Codec(encode_date, decode_date)
TIMEDELTA = Codec(encode_timedelta, decode_timedelta)
