"""Values come back as they were, or are refused with their field named."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional, Union

import pytest
from flyteidl2.core.literals_pb2 import LiteralMap
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from orchestrator._codec import decode_values, encode_values
from orchestrator._codec._fit import same
from orchestrator.errors import InvalidInputError, OutputMismatchError
from orchestrator.io import DataFrame, Dir, File

NOW = datetime(2026, 11, 22, 10, 30, 0, 123456, tzinfo=UTC)


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Level(enum.StrEnum):
    LOW = "low"


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Part:
    raw: bytes
    weight: float


@dataclass
class Whole:
    parts: list[Part]
    at: datetime
    colour: Colour = Colour.RED
    note: str | None = None


@dataclass
class Loose:
    anything: Any


class Model(BaseModel):
    count: int
    part: Part | None = None
    at: datetime = NOW


class Row(TypedDict):
    key: str
    value: int


UserId = NewType("UserId", int)


def literals(types: dict[str, Any], values: dict[str, Any]) -> Any:
    """Return the literals that are stored for *values*."""
    proto = encode_values(types, values, what="input").proto
    return LiteralMap.FromString(proto).literals


def back(declared: Any, value: Any) -> Any:
    """Return *value* after a round trip."""
    encoded = encode_values({"x": declared}, {"x": value}, what="input")
    json.loads(encoded.json, parse_constant=pytest.fail)
    return decode_values({"x": declared}, encoded.proto)["x"]


EXACT: list[tuple[Any, Any]] = [
    (None, None),
    (bool, False),
    (int, 2**63 - 1),
    (int, -(2**63)),
    (int, 0),
    (float, 0.1),
    (float, -0.0),
    (float, math.inf),
    (float, math.nan),
    (str, ""),
    (str, "naïve \x00 \U0001f600 '\"\\"),
    (bytes, b""),
    (bytes, bytes(range(256))),
    (datetime, NOW),
    (datetime, datetime.min.replace(tzinfo=UTC)),
    (datetime, datetime.max.replace(tzinfo=UTC)),
    (date, date(1, 1, 1)),
    (date, date(9999, 12, 31)),
    (timedelta, timedelta(days=-3, microseconds=1)),
    (timedelta, timedelta(days=3_650_000, microseconds=999_999)),
    (timedelta, timedelta(0)),
    (list[int], []),
    (list[list[str]], [["a"], []]),
    (list, [1, "a", None, [b"x"], {"k": NOW}]),
    (dict[str, float], {}),
    (dict[str, list[bool]], {"": [True], "a": []}),
    (dict, {"a": {"b": timedelta(1)}}),
    (dict[int, str], {1: "a"}),
    (Optional[int], None),  # noqa: UP045 - both spellings
    (Optional[int], 5),  # noqa: UP045 - both spellings
    (int | str, "5"),
    (int | float, 5),
    (int | float, 5.0),
    (Union[Part, Model, None], Part(b"\xff", math.nan)),  # noqa: UP007 - both spellings
    (Union[Part, Model, None], Model(count=1)),  # noqa: UP007 - both spellings
    (list[int] | list[str], ["a"]),
    (Colour, Colour.BLUE),
    (Level, Level.LOW),
    ((Literal["a", 3, True] | None), 3),
    ((Literal["a", 3, True] | None), True),
    ((Literal["a", 3] | None), None),
    (Literal[Colour.RED, "x"], Colour.RED),
    (Part, Part(b"\x00\xff", -math.inf)),
    (Whole, Whole([Part(b"", 1.0)], NOW, Colour.BLUE)),
    (list[Part], [Part(b"a", 1.0)]),
    (Model, Model(count=2**70, part=Part(b"text", 0.5))),
    (Row, Row(key="k", value=1)),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (Decimal, Decimal("1.10")),
    (UserId, 7),
    (Annotated[int, Field(ge=0)], 7),
    (Any, {"a": [1, None, b"x", NOW, {"b": []}]}),
    (DataFrame, DataFrame("bq://p:d.t", "parquet")),
    (File, File("s3://b/k", "csv")),
    (Dir, Dir("s3://b/k/")),
    (Any, File("s3://b/k")),
]


@pytest.mark.parametrize(("declared", "value"), EXACT)
def test_a_value_comes_back_as_it_was(declared: Any, value: Any) -> None:
    assert same(value, back(declared, value))


def test_a_datetime_comes_back_in_utc_as_the_same_instant() -> None:
    value = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    found = back(datetime, value)
    assert found == value
    assert found.utcoffset() == timedelta(0)


CONVERTED: list[tuple[Any, Any, Any]] = [
    (float, 3, 3.0),
    (bytes, bytearray(b"x"), b"x"),
    (Part, {"raw": "eA==", "weight": 1}, Part(b"x", 1.0)),
    (Model, {"count": 1, "at": NOW.isoformat()}, Model(count=1)),
    (Colour, "b", Colour.BLUE),
    (Colour, 1, Colour.RED),
    (Colour, "RED", Colour.RED),
    (str, Level.LOW, "low"),
]


@pytest.mark.parametrize(("declared", "value", "expected"), CONVERTED)
def test_the_few_conversions(declared: Any, value: Any, expected: Any) -> None:
    assert same(expected, back(declared, value))


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
DEEP: Any = 1
for _ in range(60):
    DEEP = [DEEP]

REFUSED: list[tuple[Any, Any, str, str]] = [
    (None, 0, "x", "must be None"),
    (bool, 1, "x", "must be bool"),
    (int, True, "x", "is bool, must be int"),
    (int, "5", "x", "is str, must be int"),
    (int, 5.0, "x", "is float, must be int"),
    (int, 2**63, "x", "64 bits"),
    (float, "1", "x", "is str, must be float"),
    (float, True, "x", "is bool, must be float"),
    (float, 2**53 + 1, "x", "no float equals"),
    (float, 10**400, "x", "no float equals"),
    (str, 5, "x", "is int, must be str"),
    (str, b"x", "x", "is bytes, must be str"),
    (str, "\ud800", "x", "lone surrogate"),
    (bytes, "x", "x", "is str, must be bytes"),
    (datetime, datetime(2026, 1, 1), "x", "without a time zone"),  # noqa: DTZ001 - on purpose
    (datetime, date(2026, 1, 1), "x", "must be datetime"),
    (date, NOW, "x", "must be date"),
    (timedelta, timedelta.max, "x", "10,000 years"),
    (timedelta, 5, "x", "must be timedelta"),
    (list[int], (1,), "x", "is tuple, must be list"),
    (list[int], [1, "2"], "x[1]", "must be int"),
    (list[dict[str, int]], [{}, {"a": None}], "x[1]['a']", "must be int"),
    (dict[str, int], [], "x", "is list, must be dict"),
    (dict[str, int], {1: 1}, "x", "keys must be str"),
    (dict[str, int], {"\ud800": 1}, "x", "lone surrogate"),
    (dict, {1: 2}, "x", "keys must be str"),
    (int | str, 2.5, "x", "float, which fits none of int | str"),
    (int | None, 2**70, "x", "none of int | None: does not fit 64 bits"),
    (Colour, "green", "x", "choose one of RED, BLUE"),
    (Colour, Level.LOW, "x", "is no Colour"),
    (Mode, Mode.READ | Mode.WRITE, "x", "combination of flags"),
    (Literal["a", "b"], "c", "x", "must be one of 'a', 'b'"),
    (Literal[1], True, "x", "must be one of 1"),
    (Part, 5, "x", "is int, must be Part"),
    (Part, {"raw": ""}, "x", "weight: Field required"),
    (Part, Part("t", 1.0), "x", "has no JSON form as Part"),  # type: ignore[arg-type]
    (Loose, Loose((1, 2)), "x", "does not come back"),
    (Loose, Loose(NOW), "x", "does not come back"),
    (Model, Model(count=1, part=Part(b"\xff", 1.0)), "x", "no JSON form as Model"),
    (Model, Model(count=1, part=Part(b"", math.nan)), "x", "does not come back"),
    (tuple[int, str], ("a", 1), "x", "must be tuple"),
    (Annotated[int, Field(ge=0)], -1, "x", "greater than or equal to 0"),
    (Any, (1,), "x", "needs a declared type"),
    (Any, Part(b"", 1.0), "x", "needs a declared type"),
    (Any, Colour.RED, "x", "needs a declared type"),
    (Any, [object()], "x[0]", "needs a declared type"),
    (Any, CIRCLE, "x", "nested too deeply"),
    (Any, DEEP, "x", "nested too deeply"),
    (File, Dir("s3://b"), "x", "is Dir, must be File"),
    ("Unresolved", 1, "x", "unresolved type 'Unresolved'"),
    (object(), 1, "x", "no form here"),
]


@pytest.mark.parametrize(("declared", "value", "field", "text"), REFUSED)
def test_what_cannot_come_back_is_refused_with_its_field(
    declared: Any, value: Any, field: str, text: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        encode_values({"x": declared}, {"x": value}, what="input")
    assert refused.value.field == field
    assert text in str(refused.value)


def test_an_output_is_refused_as_an_output() -> None:
    with pytest.raises(OutputMismatchError):
        encode_values({"x": int}, {"x": "5"}, what="output")


def test_the_refusal_shows_no_value() -> None:
    for declared in (int, Colour, Part, list[int], Any, Model):
        with pytest.raises(InvalidInputError) as refused:
            encode_values({"x": declared}, {"x": ("hush",)}, what="input")
        assert "hush" not in str(refused.value)


def test_scalars_are_the_literals_that_flyte_writes() -> None:
    values = {"s": "a", "i": 1, "b": True, "f": 1.5, "n": None, "d": NOW}
    types = {"s": str, "i": int, "b": bool, "f": float, "n": None, "d": datetime}
    found = literals(types, values)
    assert found["s"].scalar.primitive.string_value == "a"
    assert found["i"].scalar.primitive.integer == 1
    assert found["b"].scalar.primitive.boolean is True
    assert found["f"].scalar.primitive.float_value == 1.5
    assert found["n"].scalar.HasField("none_type")
    stored = found["d"].scalar.primitive.datetime
    assert stored.ToDatetime(tzinfo=UTC) == NOW


def test_a_union_carries_the_type_and_tag_of_its_variant() -> None:
    found = literals({"x": int | str | None}, {"x": "a"})["x"].scalar.union
    assert found.value.scalar.primitive.string_value == "a"
    assert found.type.structure.tag == "str"
    empty = literals({"x": int | None}, {"x": None})["x"].scalar.union
    assert empty.value.scalar.HasField("none_type")
    assert empty.type.structure.tag == "none"


def test_an_enum_is_stored_by_name_and_a_literal_by_value() -> None:
    types = {"e": Colour, "l": Literal["a"]}
    found = literals(types, {"e": Colour.RED, "l": "a"})
    assert found["e"].scalar.primitive.string_value == "RED"
    assert found["l"].scalar.primitive.string_value == "a"


def test_a_class_is_a_binary_of_json() -> None:
    found = literals({"x": Part}, {"x": Part(b"a", 1.0)})["x"].scalar.binary
    assert found.tag == "json"
    assert json.loads(found.value) == {"raw": "YQ==", "weight": 1.0}


def test_equal_values_have_equal_bytes() -> None:
    types = {"a": dict[str, int], "b": int}
    one = encode_values(types, {"a": {"x": 1, "y": 2}, "b": 3}, what="input")
    two = encode_values(types, {"b": 3, "a": {"y": 2, "x": 1}}, what="input")
    assert one.proto == two.proto


def test_the_json_is_for_reading() -> None:
    types = {"z": float, "a": bytes, "t": timedelta, "c": Colour, "w": Part}
    values = {
        "z": math.nan,
        "a": b"\xff",
        "t": timedelta(hours=1),
        "c": Colour.RED,
        "w": Part(b"", math.inf),
    }
    text = encode_values(types, values, what="input").json
    shown = json.loads(text, parse_constant=pytest.fail)
    assert list(shown) == list(values)
    assert shown["z"] == "NaN"
    assert shown["a"] == "_w=="
    assert shown["t"].startswith("PT")
    assert shown["c"] == 1
    assert shown["w"]["weight"] == "Infinity"


def test_a_name_without_a_type_is_plain_data() -> None:
    values = {"p": Part(b"a", 1.0), "t": (1, {2}), "c": Colour.RED, "d": [date.min]}
    found = decode_values({}, encode_values({}, values, what="output").proto)
    assert found["p"] == {"raw": "YQ==", "weight": 1.0}
    assert found["t"] == [1, [2]]
    assert found["c"] == 1
    assert found["d"] == [datetime.min.replace(tzinfo=UTC)]


json_able = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text()
    | st.binary()
    | st.timedeltas(timedelta(days=-999_999), timedelta(days=999_999))
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(json_able)
def test_any_plain_value_comes_back(value: Any) -> None:
    assert same(value, back(Any, value))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), st.lists(st.none() | st.integers(-9, 9) | st.text())))
def test_any_typed_value_comes_back(value: dict[str, list[int | str | None]]) -> None:
    assert same(value, back(dict[str, list[int | str | None]], value))
