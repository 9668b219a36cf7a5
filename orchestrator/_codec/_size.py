"""How large a value is, before anything is copied to find out."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

_ITEM = 2
"""The least that any value takes, in protobuf and in JSON: a tag and a length."""

_END = object()


def exceeds(value: Any, limit: int, *, depth_max: int | None = None) -> bool:
    """Tell whether *value* surely takes more than *limit* bytes once encoded.

    Never copies, and ends as soon as it is known, whatever the value is: a list that
    holds itself passes every limit. False for everything that would fit; the
    encoders have the last word.

    Args:
        value: What a user or a connector gave.
        limit: In bytes.
        depth_max: Nesting beyond this exceeds too; None leaves it to the encoders.
    """
    left = limit
    levels: list[Iterator[Any]] = [iter((value,))]
    while levels:
        item = next(levels[-1], _END)
        if item is _END:
            levels.pop()
            continue
        left -= _ITEM
        if isinstance(item, (str, bytes, bytearray)):
            left -= len(item) if not isinstance(item, enum.Enum) else 0
        elif isinstance(item, Message):
            left -= item.ByteSize()
        else:
            inner = _inside(item)
            if inner is not None:
                levels.append(inner)
        if left < 0:
            return True
        if depth_max is not None and len(levels) > depth_max + 1:
            return True
    return False


def _inside(item: Any) -> Iterator[Any] | None:
    """Return what *item* is made of, None for what is one value."""
    if isinstance(item, (list, tuple, set, frozenset)):
        return iter(item)
    if isinstance(item, Mapping):
        return chain.from_iterable(item.items())
    if isinstance(item, BaseModel):
        return iter(item.__dict__.values())
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return (getattr(item, field.name, None) for field in dataclasses.fields(item))
    return None
