"""Protobuf's Struct as the JSON data that was put into it."""

from __future__ import annotations

from typing import Any


def whole(value: Any) -> Any:
    """Return JSON data from a Struct, whose numbers are all floats, as it was."""
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
