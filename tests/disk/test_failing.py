"""A real engine in a real process, whose files may not grow for a while.

The short version of ``python -m tests.disk.failing``, without root or strace.
"""

from __future__ import annotations

import pytest

from tests.disk.breakers import Limit
from tests.disk.failing import run


@pytest.mark.parametrize("kill", [False, True], ids=["goes on", "killed"])
def test_a_disk_that_refuses_writes_costs_nothing(*, kill: bool) -> None:
    """Refused submits are not stored, acknowledged ones are, no job is made twice."""
    outcome = run(lambda trial, _: trial.under(Limit(), kill=kill), jobs=6)
    assert not outcome.findings
    assert outcome.refused == 6
    assert "the disk" in outcome.logged


class _Good(Limit):
    """A disk that does not fail."""

    def fail(self, pid: int, database: object) -> None:
        """Leave it as it is."""

    def mend(self) -> None:
        """Leave it as it is."""


def test_a_trial_whose_disk_did_not_fail_is_none() -> None:
    """Ablation: without the fault the submits are accepted."""
    with pytest.raises(LookupError, match="accepted"):
        run(lambda trial, _: trial.under(_Good(), kill=False), jobs=2)
