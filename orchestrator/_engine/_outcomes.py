"""What became of a call of other people's code, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Raised:
    """What a call raised, kept as a value."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        """Keep *error*."""
        self.error = error


class TimedOut:
    """The call did not answer in time; it was cancelled, or goes on as *task*."""

    __slots__ = ("task",)

    def __init__(self, task: asyncio.Future[Any]) -> None:
        """Keep the call's *task*."""
        self.task = task
