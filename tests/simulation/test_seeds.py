"""Seeds, with everything going wrong: all ends well, and every invariant holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.run import simulate
from tests.simulation.world import Kind

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

# Engines come and go: opening and closing a database touches the file system.
pytestmark = pytest.mark.may_block

SEEDS_PER_BATCH = 4
BATCHES = 6


async def _play(seed: int, empty: Path, **options: object) -> Counter[str]:
    result = await simulate(seed, empty, **options)  # type: ignore[arg-type]
    again = f"python -m tests.simulation --seed {seed}"
    assert not result.problems, "\n".join([again, *result.problems])
    return result.figures


@pytest.mark.timeout(180)
@pytest.mark.parametrize("batch", range(BATCHES))
async def test_everything_ends_well_whatever_goes_wrong(
    batch: int, empty: Path
) -> None:
    """Crashes, zombies, lost and late answers, every error: the invariants hold."""
    first = 1000 + batch * SEEDS_PER_BATCH
    for seed in range(first, first + SEEDS_PER_BATCH):
        await _play(seed, empty)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: f"class-{kind}")
async def test_without_trouble_everything_succeeds_or_is_aborted(
    kind: Kind, empty: Path
) -> None:
    """P5: nothing goes wrong by itself."""
    figures = await _play(7, empty, kinds=[kind], trouble=False)
    ends = {"SUCCEEDED", "ABORTED", "RUN_TIMEOUT", "QUEUED_TIMEOUT"}
    ends |= {"DEADLINE_EXCEEDED"}
    assert sum(figures[end] for end in ends) == figures["executions"]
    assert figures["starts"] >= 1
