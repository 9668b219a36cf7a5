"""What does not fit, and whether a value came back as it was."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel


class Unfit(Exception):  # noqa: N818 - control flow inside the package
    """A value cannot be written or read; says where and why, never the value.

    Attributes:
        where: Path inside the field, such as ``[3].name``; "" for the field itself.
        problem: What is wrong and what to do.
    """

    def __init__(self, problem: str, where: str = "") -> None:
        """Name the *problem*."""
        super().__init__(problem)
        self.problem = problem
        self.where = where

    def inside(self, step: str) -> Unfit:
        """Return the same problem one level further out."""
        return Unfit(self.problem, step + self.where)

    def __str__(self) -> str:
        """Say where and what."""
        return f"{self.where}: {self.problem}" if self.where else self.problem


def describe(value: Any) -> str:
    """Return the type of *value* for a message; values themselves may be secret."""
    return "None" if value is None else type(value).__name__


def same(before: Any, after: Any) -> bool:  # noqa: PLR0911 - one line a kind
    """Tell whether *after* is what *before* was: types too, NaN equal to NaN."""
    if before is after:
        return True
    if type(before) is not type(after):
        return False
    if isinstance(before, float):
        return bool(before == after) or (before != before and after != after)  # noqa: PLR0124 - NaN
    if isinstance(before, dict):
        return _same_dict(before, after)
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(same, before, after))
    if isinstance(before, BaseModel):
        return same(before.__dict__, after.__dict__) and same(
            before.__pydantic_extra__, after.__pydantic_extra__
        )
    if dataclasses.is_dataclass(before):
        return all(
            same(getattr(before, f.name, None), getattr(after, f.name, None))
            for f in dataclasses.fields(before)
        )
    return bool(before == after)


def _same_dict(before: dict[Any, Any], after: dict[Any, Any]) -> bool:
    """Compare two mappings, in any order of their keys."""
    return len(before) == len(after) and all(
        key in after and same(value, after[key]) for key, value in before.items()
    )
