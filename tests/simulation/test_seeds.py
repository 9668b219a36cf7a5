"""Seeds, with everything going wrong: all ends well, and every invariant holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.campaign import Totals, campaign, command
from tests.simulation.run import simulate
from tests.simulation.world import Kind

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

# Engines come and go: opening and closing a database touches the file system.
# Whichever test comes first waits for all the seeds.
pytestmark = [pytest.mark.may_block, pytest.mark.timeout(900)]

SEEDS = range(1000, 1500)
WORKERS = 2
FAULTS = (
    "abort",
    "clock step",
    "connector missing",
    "crash",
    "late reply",
    "lost reply",
    "upgrade",
    "zombie",
)


@pytest.fixture(scope="module")
def played() -> Totals:
    """Return what the seeds did."""
    return campaign(SEEDS, workers=WORKERS)


def test_everything_ends_well_whatever_goes_wrong(played: Totals) -> None:
    """Crashes, zombies, clock steps, upgrades, every error: the invariants hold."""
    assert played.seeds == len(SEEDS)
    assert not played.problems, "\n".join(played.report())


@pytest.mark.parametrize("fault", FAULTS)
def test_every_kind_of_fault_occurs(fault: str, played: Totals) -> None:
    """In many seeds: what hardly ever happens would be no test."""
    assert played.seen[fault] > played.seeds / 10
    assert set(played.seen) == set(FAULTS)


def test_what_was_held_went_on(played: Totals) -> None:
    """Rows did meet missing connectors and unreadable metas, and left the hold."""
    causes = played.counted["causes"]
    assert min(causes["HOLD_SET"], causes["HOLD_RELEASED"]) > 0


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: f"class-{kind}")
async def test_without_trouble_everything_succeeds_or_is_aborted(
    kind: Kind, empty: Path
) -> None:
    """P5: nothing goes wrong by itself."""
    result = await simulate(7, empty, kinds=[kind], trouble=False)
    assert not result.problems, "\n".join([command(7), *result.problems])
    figures: Counter[str] = result.figures
    ends = {"SUCCEEDED", "ABORTED", "RUN_TIMEOUT", "QUEUED_TIMEOUT"}
    ends |= {"DEADLINE_EXCEEDED"}
    assert sum(figures[end] for end in ends) == figures["executions"]
    assert figures["starts"] >= 1


def test_totals_are_kept_and_a_failing_seed_is_named(tmp_path: Path) -> None:
    file = tmp_path / "totals.json"
    totals = Totals(seeds=2, problems={7: ["P1: something"]})
    totals.seen["crash"] += 2
    totals.save(file)
    again = Totals.load(file)
    assert again == totals
    again.add(totals)
    assert (again.seeds, again.seen["crash"]) == (4, 4)
    assert any("--seed 7" in line for line in again.report())
    assert Totals.load(tmp_path / "none") == Totals()
