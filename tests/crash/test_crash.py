"""Every named point is killed at once, and the witness has nothing to complain of.

The short version of ``python -m tests.crash.campaign``; real processes, SIGKILL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.testing import ServiceClass
from tests.crash.campaign import POINTS, Options, reachable, run_class
from tests.crash.figures import Totals, table

if TYPE_CHECKING:
    from pathlib import Path

_SHARES = 4


@pytest.mark.timeout(180)
@pytest.mark.parametrize("share", range(_SHARES))
def test_each_named_point_survives_a_kill(share: int, tmp_path: Path) -> None:
    """Class I: nothing lost, duplicated, orphaned or rewritten, at any point."""
    points = reachable(ServiceClass.IDEMPOTENT, POINTS)[share::_SHARES]
    totals = Totals()
    options = Options(jobs=25, points=points, round_size=6, seed=share)
    never = run_class(
        ServiceClass.IDEMPOTENT, options, tmp_path, totals, every_point=True
    )
    report = "\n".join(table("I", totals, points))
    assert totals.clean, report
    assert not never, f"never reached: {never}\n{report}"
    assert totals.kills == len(points)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "service", [ServiceClass.LISTED, ServiceClass.NEITHER, ServiceClass.TIMED]
)
def test_other_classes_keep_their_smaller_promise(
    service: ServiceClass, tmp_path: Path
) -> None:
    """Class L ends every second job, class N never makes one and says what it lost."""
    totals = Totals()
    options = Options(cycles=4, jobs=25, round_size=4, random_share=0.0)
    run_class(service, options, tmp_path, totals)
    assert totals.clean, "\n".join(table(service.value, totals, options.points))
    assert totals.kills == 4


def test_there_are_at_least_twenty_named_points() -> None:
    """The points cover the intent, the calls, the commits, delete and recovery."""
    assert len(set(POINTS)) == len(POINTS) >= 20
