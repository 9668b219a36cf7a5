"""Crashes at named points of the engine."""

from __future__ import annotations

from orchestrator._faults import FAULT_POINTS, Crash
from orchestrator.errors import ConfigurationError


class CrashAt:
    """Kills the engine when it first reaches each of some points, in their order.

    Hand it to ``Orchestrator(faults=...)``. Reaching a point raises `Crash` there, and
    from then on at every point: who is dead writes nothing more. End that engine with
    `Orchestrator.crash`, call `revive`, and begin another one on the same database.

    Attributes:
        left: Points that are still to come.
        dead: Whether the engine has crashed.
    """

    def __init__(self, *points: str) -> None:
        """Crash at each of *points*, once.

        Raises:
            ConfigurationError: The engine has no such point; `FAULT_POINTS` are all.
        """
        unknown = sorted(set(points) - set(FAULT_POINTS))
        if unknown:
            names = ", ".join(FAULT_POINTS)
            raise ConfigurationError(f"points: {unknown[0]!r} is none of {names}")
        self.left = list(points)
        self.dead = False

    def reach(self, name: str) -> None:
        """Die here if it is the time; who is dead does nothing more."""
        if self.left and name == self.left[0] and not self.dead:
            self.left.pop(0)
            self.dead = True
        if self.dead:
            raise Crash(name)

    def revive(self) -> None:
        """Let the next engine live, until the next point."""
        self.dead = False
