"""Tasks of other libraries: how they become ours, told by whoever knows them.

Nothing here knows another library. A converter is installed from above (by
``orchestrator.flyte.install``) and asked about objects that are no task of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator._tasks._template import TaskTemplate

Converter = Callable[[Any], "TaskTemplate | None"]
"""Returns a task of ours that stands for the object, None if it does not know it."""

_converters: list[Converter] = []


def add_converter(converter: Converter) -> None:
    """Ask *converter* about tasks that are none of ours; of no effect twice."""
    if converter not in _converters:
        _converters.append(converter)


def remove_converter(converter: Converter) -> None:
    """Ask it no more."""
    if converter in _converters:
        _converters.remove(converter)


def native(task: Any) -> Any:
    """Return the task of ours that stands for *task*, or *task* as it is."""
    for converter in _converters:
        found = converter(task)
        if found is not None:
            return found
    return task


def hint(task: Any) -> str:
    """Return what to do about an object that nobody converts, "" for nothing."""
    if any(base.__module__.split(".")[0] == "flyte" for base in type(task).__mro__):
        return ": it is a task of flyte; call orchestrator.flyte.install() first"
    return ""
