"""The custom part of a stored task template, as the JSON that it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

if TYPE_CHECKING:
    from flyteidl2.core.tasks_pb2 import TaskTemplate


def custom_of(template: TaskTemplate) -> dict[str, Any]:
    """Return what the task stored about itself."""
    custom: dict[str, Any] = _whole(json_format.MessageToDict(template.custom))
    return custom


def _whole(value: Any) -> Any:
    """Return JSON data from a Struct, whose numbers are all floats, as it was."""
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
