"""Inputs and outputs are checked against the interface, by name and by type."""

from __future__ import annotations

import enum
import inspect
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NewType, TypeVar

import pytest
from flyteidl2.core import types_pb2
from flyteidl2.core.literals_pb2 import Literal as Lit
from flyteidl2.core.literals_pb2 import LiteralMap
from google.protobuf import json_format
from typing_extensions import TypeAliasType

from orchestrator._codec import (
    decode_values,
    encode_inputs,
    encode_outputs,
    encode_values,
    inputs_from_text,
    interface_from_proto,
    interface_to_proto,
    literal_type_of,
    python_type_of,
)
from orchestrator._codec._types import Moment
from orchestrator.errors import InvalidInputError, OutputMismatchError
from orchestrator.io import DataFrame, Dir, File
from orchestrator.models import NativeInterface

EMPTY = inspect.Parameter.empty


class Colour(enum.Enum):
    RED = 1


@dataclass
class Part:
    raw: bytes
    weight: float = 1.0


INTERFACE = NativeInterface(
    inputs={"table": str, "limit": (int, 10), "since": (datetime | None, None)},
    outputs={"rows": int, "name": str},
)


def test_defaults_are_filled_in_and_stored() -> None:
    encoded = encode_inputs(INTERFACE, {"table": "t"})
    values = decode_values(INTERFACE.get_input_types(), encoded.proto)
    assert values == {"table": "t", "limit": 10, "since": None}
    assert list(values) == ["table", "limit", "since"]


def test_a_default_of_none_needs_no_optional() -> None:
    sloppy = NativeInterface(inputs={"x": (int, None)}, outputs={})
    for kwargs in ({}, {"x": None}):
        encoded = encode_inputs(sloppy, kwargs)
        assert decode_values({"x": int}, encoded.proto) == {"x": None}


def test_a_default_that_is_a_literal_is_read() -> None:
    literal = Lit()
    literal.scalar.primitive.integer = 7
    interface = NativeInterface.from_types(
        {"x": (int, NativeInterface.has_default)}, {}, {"x": literal}
    )
    encoded = encode_inputs(interface, {})
    assert decode_values({"x": int}, encoded.proto) == {"x": 7}


@pytest.mark.parametrize(
    ("kwargs", "field", "text"),
    [
        ({}, "table", "is missing: pass table=<str>"),
        ({"table": "t", "tables": 1}, "tables", "it has table, limit, since"),
        ({"table": 5}, "table", "is int, must be str"),
        ({"table": "t", "limit": None}, "limit", "must be int"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_its_name(
    kwargs: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        encode_inputs(INTERFACE, kwargs)
    assert refused.value.field == field
    assert text in str(refused.value)


def test_no_inputs_are_the_empty_map() -> None:
    nothing = NativeInterface(inputs={}, outputs={})
    assert encode_inputs(nothing, {}) == (b"", "{}")
    assert decode_values({}, b"") == {}
    with pytest.raises(InvalidInputError, match="it has none"):
        encode_inputs(nothing, {"x": 1})


def test_outputs_keep_the_connectors_order_in_the_json() -> None:
    encoded = encode_outputs(INTERFACE, {"name": "n", "rows": 3})
    assert encoded is not None
    assert encoded.json == '{"name":"n","rows":3}'
    values = decode_values(INTERFACE.outputs, encoded.proto)
    assert list(values.items()) == [("rows", 3), ("name", "n")]


@pytest.mark.parametrize(
    ("outputs", "field", "text"),
    [
        ({"rows": 3}, "name", "is missing"),
        ({"rows": 3, "name": "n", "more": 1}, "more", "it has rows, name"),
        ({"rows": "3", "name": "n"}, "rows", "is str, must be int"),
        ({"rows": 3, "name": 4}, "name", "is int, must be str"),
        ([3, "n"], "outputs", "must be a dict or a LiteralMap"),
    ],
)
def test_outputs_that_do_not_fit_are_refused_with_their_name(
    outputs: Any, field: str, text: str
) -> None:
    with pytest.raises(OutputMismatchError) as refused:
        encode_outputs(INTERFACE, outputs)
    assert refused.value.field == field
    assert text in str(refused.value)


def test_no_outputs_stay_no_outputs_whatever_is_declared() -> None:
    assert encode_outputs(INTERFACE, None) is None
    assert encode_outputs(None, None) is None


def test_without_an_interface_outputs_are_plain_data() -> None:
    encoded = encode_outputs(None, {"part": Part(b"a"), "n": 2**40})
    assert encoded is not None
    assert decode_values({}, encoded.proto) == {
        "part": {"raw": "YQ==", "weight": 1.0},
        "n": 2**40,
    }


def test_literals_of_a_connector_are_kept_as_they_are() -> None:
    given = LiteralMap()
    given.literals["rows"].scalar.primitive.integer = 3
    given.literals["name"].scalar.primitive.string_value = "n"
    given.literals["name"].hash = "abc"
    encoded = encode_outputs(INTERFACE, given)
    assert encoded is not None
    assert LiteralMap.FromString(encoded.proto) == given
    assert encoded.json == '{"rows":3,"name":"n"}'


def test_literals_that_do_not_fit_are_refused_with_their_name() -> None:
    given = LiteralMap()
    given.literals["rows"].scalar.primitive.string_value = "3"
    given.literals["name"].scalar.primitive.string_value = "n"
    text = "rows: the stored literal is string_value, not int"
    with pytest.raises(OutputMismatchError, match=text):
        encode_outputs(INTERFACE, given)


def test_a_literal_stored_elsewhere_is_refused() -> None:
    given = LiteralMap()
    given.literals["x"].offloaded_metadata.uri = "s3://b/x"
    with pytest.raises(OutputMismatchError, match="s3://b/x"):
        encode_outputs(None, given)


def test_every_kind_of_literal_can_be_shown() -> None:
    given = LiteralMap()
    literals = given.literals
    json_format.ParseDict({"a": [1, 2.5]}, literals["struct"].scalar.generic)
    literals["blob"].scalar.blob.uri = "s3://b/x"
    literals["error"].scalar.error.message = "no"
    literals["foreign"].scalar.binary.value = b"\x81"
    literals["foreign"].scalar.binary.tag = "msgpack"
    encoded = encode_outputs(None, given)
    assert encoded is not None
    assert decode_values({}, encoded.proto) == {
        "struct": {"a": [1, 2.5]},
        "blob": File("s3://b/x"),
        "error": {"message": "no"},
        "foreign": b"\x81",
    }


def test_a_struct_is_read_as_the_declared_class_or_dict() -> None:
    given = LiteralMap()
    json_format.ParseDict(
        {"raw": "YQ==", "weight": 2}, given.literals["x"].scalar.generic
    )
    proto = given.SerializeToString()
    assert decode_values({"x": Part}, proto) == {"x": Part(b"a", 2.0)}
    assert decode_values({"x": dict}, proto) == {"x": {"raw": "YQ==", "weight": 2}}


def test_a_binary_of_another_format_is_refused_with_its_tag() -> None:
    given = LiteralMap()
    given.literals["x"].scalar.binary.value = b"\x81"
    given.literals["x"].scalar.binary.tag = "msgpack"
    with pytest.raises(ValueError, match="x: the stored binary has tag 'msgpack'"):
        decode_values({"x": Part}, given.SerializeToString())


def test_a_union_literal_is_read_for_a_plain_type_and_the_reverse() -> None:
    union = encode_values({"x": int | None}, {"x": 5}, what="input").proto
    plain = encode_values({"x": int}, {"x": 5}, what="input").proto
    none = encode_values({"x": None}, {"x": None}, what="input").proto
    assert decode_values({"x": int}, union) == {"x": 5}
    assert decode_values({"x": str | int | None}, plain) == {"x": 5}
    assert decode_values({"x": str | int | None}, none) == {"x": None}
    with pytest.raises(ValueError, match="x: the stored literal is integer"):
        decode_values({"x": str | None}, plain)


def test_a_type_that_changed_since_is_an_error_with_the_name() -> None:
    proto = encode_values({"x": str}, {"x": "a"}, what="input").proto
    with pytest.raises(ValueError, match="x: the stored literal is string_value"):
        decode_values({"x": int}, proto)


def test_a_name_that_was_not_stored_is_left_out() -> None:
    proto = encode_values({}, {"b": 1, "a": 2}, what="input").proto
    assert list(decode_values({"new": int, "b": int}, proto)) == ["b", "a"]


def test_bytes_that_are_no_map_are_an_error() -> None:
    with pytest.raises(ValueError, match="no LiteralMap"):
        decode_values({}, b"\xff\xff")


def test_an_interface_goes_through_protobuf_in_its_own_order() -> None:
    interface = NativeInterface(
        inputs={
            "z": str,
            "a": (int, 5),
            "b": list[float],
            "c": dict[str, bool],
            "d": int | None,
            "e": Literal["x", "y"],
            "f": datetime,
            "g": timedelta,
            "h": bytes,
            "i": DataFrame,
            "j": File,
            "k": Dir,
            "m": Any,
        },
        outputs={"z": int, "a": str},
    )
    found = interface_from_proto(interface_to_proto(interface))
    assert list(found.outputs.items()) == [("z", int), ("a", str)]
    types = {**interface.get_input_types(), "f": Moment}
    assert found.get_input_types() == types
    assert found.required_inputs() == list(interface.inputs)


T = TypeVar("T")
Name = NewType("Name", str)


def test_aliases_and_parameters_are_looked_through() -> None:
    assert literal_type_of(Name).simple == types_pb2.STRING
    assert literal_type_of(TypeAliasType("Alias", int)).simple == types_pb2.INTEGER
    assert python_type_of(literal_type_of(T)) is Any
    assert python_type_of(literal_type_of(object)) is Any
    assert literal_type_of(Annotated[int, "note"]).simple == types_pb2.INTEGER
    variants = literal_type_of(Annotated[int, "note"] | Any).union_type.variants
    assert [v.structure.tag for v in variants] == ["int", "Any"]


def test_types_of_other_tools_are_plain_data() -> None:
    schema = types_pb2.LiteralType(schema=types_pb2.SchemaType())
    assert decode_values({"x": python_type_of(schema)}, b"") == {}
    encoded = encode_values({"x": python_type_of(schema)}, {"x": (1,)}, what="output")
    assert encoded.json == '{"x":[1]}'


def test_types_are_the_ones_that_flyte_writes() -> None:
    assert literal_type_of(int).simple == types_pb2.INTEGER
    assert literal_type_of(dict).simple == types_pb2.STRUCT
    assert list(literal_type_of(Colour).enum_type.values) == ["RED"]
    assert literal_type_of(list[str]).collection_type.simple == types_pb2.STRING
    part = literal_type_of(Part)
    assert part.simple == types_pb2.STRUCT
    assert part.metadata["title"] == "Part"
    variants = literal_type_of(int | Part | list[int]).union_type.variants
    assert [v.structure.tag for v in variants] == [
        "int",
        "Object-Dataclass-Transformer",
        "Typed List",
    ]


def test_classes_of_a_bare_protobuf_are_plain_data() -> None:
    bare = interface_from_proto(
        interface_to_proto(NativeInterface(inputs={}, outputs={"part": Part}))
    )
    encoded = encode_outputs(bare, {"part": Part(b"a")})
    assert encoded is not None
    assert decode_values(bare.outputs, encoded.proto) == {
        "part": {"raw": "YQ==", "weight": 1.0}
    }


def test_text_of_a_command_line_becomes_values() -> None:
    interface = NativeInterface(
        inputs={
            "s": str,
            "i": int,
            "b": bool,
            "d": datetime,
            "o": str | None,
            "l": list[int],
            "c": Colour,
            "p": Part,
            "a": Any,
            "t": Any,
        },
        outputs={},
    )
    texts = {
        "s": "5",
        "i": "5",
        "b": "true",
        "d": "2026-11-22T00:00:00Z",
        "o": "text",
        "l": "[1, 2]",
        "c": "RED",
        "p": '{"raw": "YQ=="}',
        "a": '{"x": 1}',
        "t": "no json",
    }
    values = inputs_from_text(interface, texts)
    encoded = encode_inputs(interface, values)
    assert decode_values(interface.get_input_types(), encoded.proto) == {
        "s": "5",
        "i": 5,
        "b": True,
        "d": datetime(2026, 11, 22, tzinfo=UTC),
        "o": "text",
        "l": [1, 2],
        "c": Colour.RED,
        "p": Part(b"a"),
        "a": {"x": 1},
        "t": "no json",
    }


def test_text_that_fits_nothing_is_refused_by_the_interface() -> None:
    interface = NativeInterface(inputs={"i": int}, outputs={})
    for texts, field in (({"i": "five"}, "i"), ({"j": "5"}, "j")):
        with pytest.raises(InvalidInputError) as refused:
            encode_inputs(interface, inputs_from_text(interface, texts))
        assert refused.value.field == field
