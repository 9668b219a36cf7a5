"""Values between Flyte's messages and a connector, where no declaration is told."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from flyteidl2.connector import connector_pb2
from flyteidl2.core import types_pb2
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.tasks_pb2 import TaskTemplate
from flyteidl2.task import common_pb2

from orchestrator._codec import (
    decode_values,
    encode_outputs,
    interface_from_proto,
    interface_to_proto,
)
from orchestrator.connectors import Resource
from orchestrator.errors import InvalidInputError, OutputMismatchError
from orchestrator.flyte._wire import (
    named_literals,
    native_inputs,
    resource_of,
    resource_proto,
)
from orchestrator.io import File
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from flyteidl2.core.literals_pb2 import Literal


class Color(enum.Enum):
    """As in a user's code."""

    RED = "#f00"


def told(value: Any) -> Literal:
    """Return an output as the pass-through service tells it."""
    resource = Resource(phase=TaskExecution.SUCCEEDED, outputs={"o": value})
    [item] = resource_proto(resource).outputs.literals
    return item.value


@pytest.mark.parametrize("value", [{"a": 1, "b": [1.0, None]}, {}, {1: {"a": "b"}}])
def test_a_dict_is_told_as_the_structure_that_flyte_tells(value: Any) -> None:
    """A task may declare it a dict, a Dict, a dataclass: all of them read this."""
    binary = told(value).scalar.binary
    assert binary.tag == "msgpack"
    assert msgpack.unpackb(binary.value, strict_map_key=False) == value


def test_dicts_in_a_list_are_structures() -> None:
    [first, second] = told([{"a": 1}, [{"b": Color.RED}]]).collection.literals
    assert msgpack.unpackb(first.scalar.binary.value) == {"a": 1}
    [inner] = second.collection.literals
    assert msgpack.unpackb(inner.scalar.binary.value) == {"b": "RED"}


def test_a_dict_of_references_is_a_map() -> None:
    """A structure could not hold them."""
    assert told({"a": File("s3://b/f")}).map.literals["a"].scalar.blob.uri == "s3://b/f"


def test_an_enum_is_told_by_its_name() -> None:
    """As Flyte reads it; its value is no member's name."""
    assert told(Color.RED).scalar.primitive.string_value == "RED"


def test_an_input_that_the_interface_does_not_have_is_refused() -> None:
    """As Flyte's service refuses it, before a job is paid for."""
    template = TaskTemplate()
    variable = template.interface.inputs.variables.add(key="n")
    variable.value.type.simple = types_pb2.INTEGER
    inputs = common_pb2.Inputs()
    inputs.literals.add(name="n").value.scalar.primitive.integer = 1
    assert native_inputs(template, inputs) == {"n": 1}
    inputs.literals.add(name="m").value.scalar.primitive.integer = 1
    with pytest.raises(InvalidInputError, match="m: is no input of this task"):
        native_inputs(template, inputs)


PICKLE = b"\x80\x05\x95\x09\x00\x00\x00\x00\x00\x00\x00C\x05bytes\x94."
"""The literal of ``b"bytes"`` as Flyte 2.12.1 writes it: a binary without a tag."""


def flytes(value: bytes, *declared: types_pb2.LiteralType) -> Any:
    """Return an input as a connector gets it from Flyte, declared bytes there."""
    template = TaskTemplate()
    variable = template.interface.inputs.variables.add(key="b").value.type
    single = types_pb2.BlobType(format="PythonPickle")
    variable.union_type.variants.add(blob=single).structure.tag = "FlytePickle"
    variable.union_type.variants.add(simple=types_pb2.BINARY)
    if declared:
        variable.CopyFrom(declared[0])
    inputs = common_pb2.Inputs()
    inputs.literals.add(name="b").value.scalar.binary.value = value
    return native_inputs(template, inputs)["b"]


def test_a_pickle_is_not_taken_for_bytes() -> None:
    """Neither as Flyte declares bytes, nor as this library does."""
    for declared in ((), (types_pb2.LiteralType(simple=types_pb2.BINARY),)):
        with pytest.raises(InvalidInputError, match=r"a Python pickle .* never read"):
            flytes(PICKLE, *declared)


@pytest.mark.parametrize("value", [b"", b"bytes", b"\x80.", b"\x80abc.", PICKLE + b"."])
def test_bytes_that_are_no_pickle_stay_bytes(value: bytes) -> None:
    assert flytes(value) == value


def test_an_output_of_flytes_that_is_a_pickle_is_refused() -> None:
    """Where a type is declared; undeclared it stays what it is."""
    message = connector_pb2.Resource(phase=TaskExecution.SUCCEEDED)
    item = message.outputs.literals.add(name="b")
    item.value.scalar.binary.value = PICKLE
    outputs = resource_of(message).outputs
    for declared in (bytes, Any, str):
        interface = NativeInterface({}, {"b": declared})
        with pytest.raises(OutputMismatchError, match=r"b: .* a Python pickle"):
            encode_outputs(interface, outputs)
    kept = encode_outputs(None, outputs)
    assert kept is not None
    assert decode_values({}, kept.proto) == {"b": PICKLE}
    [sent] = named_literals(kept.proto)
    assert sent == item


def test_a_date_is_taken_for_flytes_datetime() -> None:
    """As its midnight in UTC; Flyte has one type for both."""
    interface = interface_from_proto(
        interface_to_proto(NativeInterface({}, {"d": date, "l": list[date]}))
    )
    values = {"d": date(2026, 1, 2), "l": [date(2026, 1, 2)]}
    encoded = encode_outputs(interface, values)
    assert encoded is not None
    midnight = datetime(2026, 1, 2, tzinfo=UTC)
    read = decode_values(interface.outputs, encoded.proto)
    assert read == {"d": midnight, "l": [midnight]}
    assert interface_to_proto(interface).outputs.variables[0].value.type.simple == (
        types_pb2.DATETIME
    )
    with pytest.raises(OutputMismatchError, match="without a time zone"):
        encode_outputs(interface, {**values, "d": datetime(2026, 1, 2)})  # noqa: DTZ001
    with pytest.raises(OutputMismatchError, match="must be datetime"):
        encode_outputs(NativeInterface({}, {"d": datetime}), {"d": date(2026, 1, 2)})
