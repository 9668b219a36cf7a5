"""What a task declares: NativeInterface and SerializationContext, as in Flyte 2."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Mapping  # noqa: TC003 - as below
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - dataclass fields are resolved at run time
from typing import Any, ClassVar

__all__ = [
    "MAX_INLINE_IO_BYTES",
    "NativeInterface",
    "SerializationContext",
]

MAX_INLINE_IO_BYTES = 10 * 1024 * 1024
"""Default limit of a task's inputs, and of its outputs, in bytes."""


class _has_default:  # noqa: N801 - Flyte's name, seen as NativeInterface.has_default
    """Marks an input whose default is known only as a literal."""


@dataclass(frozen=True, init=False)
class NativeInterface:
    """Names and Python types of a task's inputs and outputs.

    Attributes:
        inputs: Name to ``(type, default)``; ``inspect.Parameter.empty`` as default
            means required. A bare type is accepted for a required input.
        outputs: Name to type, in the order in which results are returned.
        docstring: For humans, or None.
    """

    inputs: dict[str, tuple[Any, Any]]
    outputs: dict[str, Any]
    docstring: str | None = None
    _remote_defaults: Mapping[str, Any] | None = field(default=None, repr=False)

    has_default: ClassVar[type[_has_default]] = _has_default

    def __init__(
        self,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        docstring: str | None = None,
        _remote_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Turn bare input types into required inputs.

        Raises:
            ValueError: An input is a tuple of another length than two.
        """
        declared: dict[str, tuple[Any, Any]] = {}
        for name, given in inputs.items():
            if not isinstance(given, tuple):
                declared[name] = (given, inspect.Parameter.empty)
            elif len(given) == 2:  # noqa: PLR2004 - type and default
                declared[name] = (given[0], given[1])
            else:
                message = f"input {name!r} must be a type or (type, default)"
                raise ValueError(message)
        object.__setattr__(self, "inputs", declared)
        object.__setattr__(self, "outputs", dict(outputs or {}))
        object.__setattr__(self, "docstring", docstring)
        object.__setattr__(self, "_remote_defaults", _remote_defaults)

    def has_outputs(self) -> bool:
        """Tell whether any output is declared."""
        return bool(self.outputs)

    def required_inputs(self) -> list[str]:
        """Return the names of the inputs without a default."""
        empty = inspect.Parameter.empty
        return [name for name, (_, default) in self.inputs.items() if default is empty]

    def num_required_inputs(self) -> int:
        """Return how many inputs have no default."""
        return len(self.required_inputs())

    @classmethod
    def from_types(
        cls,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        default_inputs: Mapping[str, Any] | None = None,
    ) -> NativeInterface:
        """Build an interface from types.

        Args:
            inputs: Name to ``(type, default)``, to a bare type, or to ``(type,
                NativeInterface.has_default)``.
            outputs: Name to type.
            default_inputs: Flyte literals of the inputs that are marked
                ``has_default``.

        Raises:
            ValueError: A marked input has no literal in *default_inputs*.
        """
        interface = cls(inputs, outputs, _remote_defaults=default_inputs)
        for name, (_, default) in interface.inputs.items():
            if default is cls.has_default and name not in (default_inputs or {}):
                message = (
                    f"Input {name} has a default value but no default input provided"
                    " for remote task."
                )
                raise ValueError(message)
        return interface

    @classmethod
    def from_callable(cls, func: Callable[..., Any]) -> NativeInterface:
        """Read the interface from a function's annotations.

        A parameter without annotation is Any. Outputs are called o0, o1, ... or by
        the fields of a NamedTuple.

        Raises:
            ValueError: The function takes ``*args`` or ``**kwargs``.
            NameError: An annotation cannot be resolved.
        """
        name = getattr(func, "__name__", repr(func))
        hints = typing.get_type_hints(func, include_extras=True)
        inputs: dict[str, tuple[Any, Any]] = {}
        for parameter in inspect.signature(func).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                message = (
                    f"Function {name} cannot have variable positional or keyword"
                    " arguments."
                )
                raise ValueError(message)
            declared = hints.get(parameter.name, Any)
            inputs[parameter.name] = (declared, parameter.default)
        outputs = _outputs_of(hints.get("return"))
        return cls(inputs, outputs, docstring=inspect.getdoc(func))

    def convert_to_kwargs(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return positional and keyword arguments as keyword arguments.

        Raises:
            ValueError: There are more arguments than inputs.
        """
        if len(args) > len(self.inputs):
            message = (
                f"Too many positional arguments provided, expected inputs"
                f" {list(self.inputs)}, got {len(args)}"
            )
            raise ValueError(message)
        kwargs.update(zip(self.inputs, args, strict=False))
        if len(kwargs) > len(self.inputs):
            message = (
                f"Too many keyword arguments provided, expected inputs"
                f" {list(self.inputs)}, got {list(kwargs)}"
            )
            raise ValueError(message)
        return kwargs

    def get_input_types(self) -> dict[str, Any]:
        """Return the inputs' types by name."""
        return {name: declared for name, (declared, _) in self.inputs.items()}

    def __repr__(self) -> str:
        """Show the interface as a signature."""
        inputs = ", ".join(
            f"{name}: {_show(declared)}{self._show_default(default)}"
            for name, (declared, default) in self.inputs.items()
        )
        outputs = ", ".join(
            f"{n}: {_show(declared)}" for n, declared in self.outputs.items()
        )
        if len(self.outputs) > 1:
            outputs = f"({outputs})"
        return f"({inputs})" + (f" -> {outputs}" if outputs else "") + ":"

    def _show_default(self, default: Any) -> str:
        """Return how a default is shown in the signature."""
        if default is inspect.Parameter.empty:
            return ""
        return " = ..." if default is self.has_default else f" = {default}"


def _outputs_of(returned: Any) -> dict[str, Any]:
    """Return the outputs that a return annotation declares."""
    if returned in (None, type(None)):
        return {}
    if isinstance(returned, type) and issubclass(returned, tuple):
        named = getattr(returned, "_fields", None)
        if named is not None:
            return dict(typing.get_type_hints(returned, include_extras=True))
    if typing.get_origin(returned) is tuple:
        parts = typing.get_args(returned)
        if Ellipsis in parts:
            message = "Variable length tuples are not supported as return types."
            raise TypeError(message)
        if len(parts) > 1:
            return {f"o{i}": part for i, part in enumerate(parts)}
    return {"o0": returned}


def _show(declared: Any) -> str:
    """Return a type as it would be written."""
    if isinstance(declared, type) and not typing.get_args(declared):
        return declared.__name__
    return declared if isinstance(declared, str) else repr(declared)


@dataclass
class SerializationContext:
    """Where and how a task is serialized, handed to ``custom_config`` and the like.

    Attributes:
        version: Version of the task.
        project: Flyte project, or None.
        domain: Flyte domain, or None.
        org: Flyte organisation, or None.
        code_bundle: Flyte's code bundle; not used here.
        input_path: Template of the inputs' path.
        output_path: Template of the outputs' path.
        interpreter_path: The interpreter in a container.
        image_cache: Flyte's image cache; not used here.
        root_dir: Root of the user's code, or None.
    """

    version: str
    project: str | None = None
    domain: str | None = None
    org: str | None = None
    code_bundle: Any = None
    input_path: str = "{{.input}}"
    output_path: str = "{{.outputPrefix}}"
    interpreter_path: str = "/opt/venv/bin/python"
    image_cache: Any = None
    root_dir: Path | None = None

    def get_entrypoint_path(self, interpreter_path: str | None = None) -> str:
        """Return the path of ``runtime.py`` beside the interpreter."""
        interpreter = interpreter_path or self.interpreter_path
        return os.path.join(os.path.dirname(interpreter), "runtime.py")  # noqa: PTH118, PTH120 - a path in the container, kept as text
