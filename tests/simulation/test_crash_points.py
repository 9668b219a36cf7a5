"""Every named point, exhaustively: the process dies there, starts again, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator import FAULT_POINTS
from tests.simulation.crashes import Crashes
from tests.simulation.run import simulate

if TYPE_CHECKING:
    from pathlib import Path

# Engines come and go: opening and closing a database touches the file system.
pytestmark = pytest.mark.may_block

# The first seed that reaches the point is played. The engine's own dice decide which
# that is, so that a change of the engine may need another: they are tried in turn.
SEEDS = (14, 90, *range(100))


@pytest.mark.parametrize("point", FAULT_POINTS)
async def test_a_crash_at_this_point_loses_nothing(point: str, empty: Path) -> None:
    """The first reach of the point kills the process; everything ends well."""
    for seed in SEEDS:
        crashes = Crashes(at={point: 1})
        result = await simulate(seed, empty, crashes=crashes)
        assert not result.problems, "\n".join([f"seed {seed}", *result.problems])
        if crashes.happened[point]:
            return
    pytest.fail(f"no seed reaches {point}")
