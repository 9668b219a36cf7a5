"""Crashes at named points, chosen by a seed or by name."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orchestrator._faults import FAULT_POINTS, Crash

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random


class Crashes:
    """Raises `Crash` where it was told to; then the process is dead until `revive`.

    Attributes:
        reached: How often each point was reached.
        happened: How often the process died at each point.
        dead: Whether the process has crashed; every further point crashes too.
    """

    def __init__(
        self,
        rng: Random | None = None,
        *,
        chance: float = 0.0,
        at: Mapping[str, int] | None = None,
        limit: int = 1_000_000,
    ) -> None:
        """Crash with *chance* at each point, and *at* a point's n-th reach.

        Args:
            rng: Needed with a *chance*.
            chance: 0 to 1.
            at: Name of a point to the number of the reach that crashes.
            limit: Not more crashes than this.
        """
        unknown = set(at or {}) - set(FAULT_POINTS)
        assert not unknown, unknown
        self._rng = rng
        self._chance = chance
        self._at = dict(at or {})
        self._limit = limit
        self.reached: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self.dead = False
        self.armed = True

    def reach(self, name: str) -> None:
        """Note the point; die there if it is the time."""
        if self.dead:
            raise Crash(name)
        self.reached[name] += 1
        if not self.armed or self.happened.total() >= self._limit:
            return
        planned = self._at.get(name) == self.reached[name]
        # Every commit passes the writer's points: they would take most of the crashes.
        chance = self._chance / 5 if name.startswith("writer.") else self._chance
        drawn = self._rng is not None and chance and self._rng.random() < chance
        if planned or drawn:
            self.dead = True
            self.happened[name] += 1
            raise Crash(name)

    def revive(self) -> None:
        """Let a new process begin."""
        self.dead = False
