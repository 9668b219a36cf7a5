"""The same seed plays the same game, and another seed another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.campaign import campaign
from tests.simulation.run import simulate
from tests.simulation.test_ablations import ABLATIONS
from tests.simulation.test_seeds import FAULTS

if TYPE_CHECKING:
    from pathlib import Path

# Engines come and go: opening and closing a database touches the file system.
pytestmark = pytest.mark.may_block


@pytest.mark.timeout(180)
def test_the_same_seed_gives_the_same_trace() -> None:
    """Every decision, ledger entry and call, with its time, is the same (P9).

    Also in another process, whose sets have another order; with every kind of fault.
    """
    seeds = range(1007, 1012)
    first, second = campaign(seeds), campaign(seeds, workers=2)
    assert sorted(first.traces) == list(seeds)
    assert first.traces == second.traces
    assert first == second
    assert set(first.seen) == set(FAULTS)


async def test_a_failing_seed_fails_again_in_the_same_way(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a seed found is found by it again, to the last call before."""
    off = ABLATIONS["nobody owes a cleanup"]
    monkeypatch.setattr(off.where, off.attribute, off.instead)
    first = await simulate(off.seed, empty)
    assert first.problems
    assert first == await simulate(off.seed, empty)


async def test_another_seed_gives_another_trace(empty: Path) -> None:
    """The trace does depend on the seed."""
    traces = {(await simulate(seed, empty)).trace for seed in (2, 3)}
    assert len(traces) == 2
