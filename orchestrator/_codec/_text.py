"""Inputs from a command line: ``name=text`` pairs as native values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic_core
from pydantic import ValidationError

from orchestrator._codec._fit import Unfit
from orchestrator._codec._objects import adapter_of
from orchestrator._codec._types import PlainData, peel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.models import NativeInterface


def inputs_from_text(
    interface: NativeInterface, texts: Mapping[str, str]
) -> dict[str, Any]:
    """Return native inputs from ``name=text`` pairs of a command line.

    A str is taken as it is. For other types the text is read as JSON (datetimes in
    ISO-8601), then as a bare string of that type. What fits neither is handed on
    unconverted, and so are unknown names: ``encode_inputs`` says what is wrong.
    """
    types = interface.get_input_types()
    return {name: _value(types.get(name, Any), text) for name, text in texts.items()}


def _value(declared: Any, text: str) -> Any:
    """Return the value that *text* means for a declared type."""
    declared = peel(declared)
    if declared is str:
        return text
    if declared in (Any, PlainData):
        return _json_or_text(text)
    try:
        adapter = adapter_of(declared)
    except Unfit:
        return _json_or_text(text)
    quoted = pydantic_core.to_json([text])
    for candidate in (b"[" + text.encode("utf-8", "replace") + b"]", quoted):
        try:
            return adapter.validate_json(candidate)[0]
        except ValidationError:
            continue
    return _json_or_text(text)


def _json_or_text(text: str) -> Any:
    """Return the JSON value of *text*, or the text if it is no JSON."""
    try:
        return pydantic_core.from_json(text)
    except ValueError:
        return text
