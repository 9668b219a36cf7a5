"""NativeInterface and SerializationContext behave as Flyte's."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import pytest

from orchestrator.models import NativeInterface, SerializationContext

EMPTY = inspect.Parameter.empty


class Result(NamedTuple):
    rows: int
    name: str


def plain(x: int, y: str = "a") -> bool:
    """Say what it does."""
    return bool(x and y)


def pair(x: Any) -> tuple[int, str]:
    return (x, "")


def named() -> Result:
    return Result(1, "")


def nothing() -> None:
    return None


def variadic(*args: int) -> None:
    return None


def endless() -> tuple[int, ...]:
    return ()


def test_required_means_the_empty_default() -> None:
    interface = NativeInterface(
        inputs={"a": (int, EMPTY), "b": (str, None), "c": float}, outputs={}
    )
    assert interface.required_inputs() == ["a", "c"]
    assert interface.num_required_inputs() == 2
    assert interface.get_input_types() == {"a": int, "b": str, "c": float}
    assert not interface.has_outputs()


def test_a_tuple_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="input 'a'"):
        NativeInterface(inputs={"a": (int,)}, outputs={})


def test_a_function_tells_its_interface() -> None:
    interface = NativeInterface.from_callable(plain)
    assert interface.inputs == {"x": (int, EMPTY), "y": (str, "a")}
    assert interface.outputs == {"o0": bool}
    assert interface.docstring == "Say what it does."


def test_outputs_are_numbered_or_named() -> None:
    assert NativeInterface.from_callable(pair).outputs == {"o0": int, "o1": str}
    assert NativeInterface.from_callable(named).outputs == {"rows": int, "name": str}
    assert NativeInterface.from_callable(nothing).outputs == {}


def test_functions_without_a_fixed_interface_are_refused() -> None:
    with pytest.raises(ValueError, match="variadic cannot have variable"):
        NativeInterface.from_callable(variadic)
    with pytest.raises(TypeError, match="Variable length tuples"):
        NativeInterface.from_callable(endless)


def test_a_marked_default_needs_its_literal() -> None:
    inputs = {"a": (int, NativeInterface.has_default)}
    with pytest.raises(ValueError, match="Input a has a default value but no default"):
        NativeInterface.from_types(inputs, {})
    interface = NativeInterface.from_types(inputs, {}, {"a": object()})
    assert interface.required_inputs() == []


def test_positional_arguments_take_the_names_of_inputs() -> None:
    interface = NativeInterface.from_types({"a": int, "b": int}, {})
    assert interface.convert_to_kwargs(1, b=2) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="Too many positional"):
        interface.convert_to_kwargs(1, 2, 3)
    with pytest.raises(ValueError, match="Too many keyword"):
        interface.convert_to_kwargs(a=1, b=2, c=3)


def test_an_interface_is_shown_as_a_signature() -> None:
    interface = NativeInterface.from_types(
        {"a": int, "b": (list[int], None), "c": (str, NativeInterface.has_default)},
        {"x": int, "y": str},
        {"c": object()},
    )
    text = "(a: int, b: list[int] = None, c: str = ...) -> (x: int, y: str):"
    assert repr(interface) == text


def test_the_context_has_flytes_defaults() -> None:
    context = SerializationContext(version="v1")
    assert context.input_path == "{{.input}}"
    assert context.output_path == "{{.outputPrefix}}"
    assert context.get_entrypoint_path() == "/opt/venv/bin/runtime.py"
    assert context.get_entrypoint_path("/usr/bin/python") == "/usr/bin/runtime.py"
