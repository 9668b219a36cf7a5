"""What steps and clean-ups work with: the engine's shared parts, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from orchestrator._clock import Clock
    from orchestrator._engine._belief import Belief
    from orchestrator._engine._calls import Calls
    from orchestrator._engine._contexts import Contexts
    from orchestrator._engine._lease import Lease
    from orchestrator._faults import Faults
    from orchestrator._storage import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The shared parts of one engine.

    Attributes:
        released: Told when a row or debt that was given back is due next.
        ended: Told which execution has become terminal.
    """

    store: Store
    contexts: Contexts
    calls: Calls
    lease: Lease
    clock: Clock
    belief: Belief
    rng: Random
    faults: Faults
    released: Callable[[int], None]
    ended: Callable[[str], None]
