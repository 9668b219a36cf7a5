"""Named points at which tests crash the engine; nothing happens there otherwise."""

from __future__ import annotations

from typing import Protocol

FAULT_POINTS = (
    "submit.before_commit",
    "submit.after_commit",
    "claim.before_commit",
    "claim.after_commit",
    "intent.before_commit",
    "intent.after_commit",
    "create.before_call",
    "create.after_call",
    "created.before_commit",
    "created.after_commit",
    "lookup.before_read",
    "lookup.after_read",
    "find.before_call",
    "find.after_call",
    "get.before_call",
    "get.after_call",
    "poll.before_commit",
    "poll.after_commit",
    "end.before_commit",
    "end.after_commit",
    "abort.before_commit",
    "abort.after_commit",
    "delete.before_call",
    "delete.after_call",
    "writer.before_begin",
    "writer.after_begin",
    "writer.before_commit",
    "writer.after_commit",
    "recover.before_commit",
    "recover.after_commit",
    "cleanup.before_call",
    "cleanup.after_call",
    "cleanup.before_commit",
    "cleanup.after_commit",
)
"""Every point, in the order of an execution's life, the writer's own after it."""


class Crash(BaseException):
    """Raised at a named point by a test: the process is dead from there on.

    A BaseException, so that no handler of errors takes it for one.
    """


class Faults(Protocol):
    """What the engine tells a test of where it is."""

    def reach(self, name: str) -> None:
        """Note that the point *name* was reached; may raise or kill."""
        ...


class NoFaults:
    """Does nothing."""

    def reach(self, name: str) -> None:
        """Do nothing."""


NO_FAULTS = NoFaults()
