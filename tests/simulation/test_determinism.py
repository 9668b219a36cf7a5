"""The same seed plays the same game, and another seed another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.run import simulate

if TYPE_CHECKING:
    from pathlib import Path

# Engines come and go: opening and closing a database touches the file system.
pytestmark = pytest.mark.may_block


@pytest.mark.timeout(180)
async def test_the_same_seed_gives_the_same_trace(empty: Path) -> None:
    """Every decision, ledger entry and call, with its time, is the same (P9)."""
    for seed in (2, 14):
        first = await simulate(seed, empty)
        second = await simulate(seed, empty)
        assert first.trace
        assert first.trace == second.trace, f"seed {seed}"
        assert first.crashes == second.crashes


async def test_another_seed_gives_another_trace(empty: Path) -> None:
    """The trace does depend on the seed."""
    traces = {(await simulate(seed, empty)).trace for seed in (2, 3)}
    assert len(traces) == 2
