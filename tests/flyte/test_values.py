"""Values between Flyte's messages and a connector, where no declaration is told."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from flyteidl2.core import types_pb2
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.tasks_pb2 import TaskTemplate
from flyteidl2.task import common_pb2

from orchestrator.connectors import Resource
from orchestrator.errors import InvalidInputError
from orchestrator.flyte._wire import native_inputs, resource_proto
from orchestrator.io import File

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
