"""Two processes at once, and zombies: the fence holds, and is what holds it.

The short versions of ``python -m tests.crash.two`` and ``tests.crash.zombies``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.testing import ServiceClass
from tests.crash import poison, sentry
from tests.crash.command import Cycle
from tests.crash.figures import Totals, summary
from tests.crash.two import ENDS, fail
from tests.crash.zombies import ALL_POINTS, DUELS, duel, late
from tests.jobserver.connectors import REMEMBERED_S
from tests.jobserver.launch import RunningServer, job_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A job server for all cycles of a test."""
    with job_server(tmp_path / "ledger.db", remember_s=REMEMBERED_S + 0.5) as server:
        yield server


def at_once(
    server: RunningServer, *each: tuple[ServiceClass, Callable[[Cycle], None]]
) -> Totals:
    """Run cycles side by side, most of which is waiting; return their totals."""
    totals = Totals()
    folder = server.ledger.parent
    with ThreadPoolExecutor(len(each)) as pool:
        runs = [
            pool.submit(one, Cycle(service, number, 0, folder, server, totals))
            for number, (service, one) in enumerate(each, start=1)
        ]
    for run in runs:
        run.result()
    return totals


def until_it_happens(once: Callable[[Cycle], bool]) -> Callable[[Cycle], None]:
    """Repeat what depends on who is first, with other numbers."""

    def one(cycle: Cycle) -> None:
        again = (replace(cycle, number=cycle.number + 10 * n) for n in range(5))
        assert any(once(each) for each in again)

    return one


def test_the_survivor_of_two_brings_everything_to_its_end(
    server: RunningServer,
) -> None:
    """One is killed after its create, one stopped there and woken up."""
    killed, stopped = ENDS
    totals = at_once(
        server,
        (
            ServiceClass.IDEMPOTENT,
            until_it_happens(
                lambda cycle: fail(cycle, killed, ("a", "b"), "create.after_call:2")
            ),
        ),
        (
            ServiceClass.LISTED,
            until_it_happens(
                lambda cycle: fail(cycle, stopped, ("b", "a"), "create.after_call:1")
            ),
        ),
    )
    report = "\n".join(summary("two", totals, ALL_POINTS))
    assert totals.clean, report
    assert totals.cycles["killed at a point"] == 1, report
    assert totals.cycles["stopped at a point"] == 1, report
    assert totals.jobs[sentry.BROKEN] > 0, report
    assert totals.jobs[sentry.CLAIMED] > 0, report


@pytest.mark.may_block  # it fills the first database in this process
def test_bad_rows_do_not_delay_the_good_ones(
    server: RunningServer, tmp_path: Path
) -> None:
    """Calls that hang, metas that nobody can read, garbage: told by the ledger."""
    alone = poison.run(tmp_path / "alone", server, jobs=30, bad=0)
    beside = poison.run(tmp_path / "beside", server, jobs=30, bad=60)
    assert poison.kept(alone, beside), (alone, beside)
    assert beside.ended == 30
    assert beside.bad_calls > 30


def _duel(what: str, *, fenced: bool = True) -> Callable[[Cycle], None]:
    return lambda cycle: duel(cycle, what, fenced=fenced)


def _woken(happened: bool) -> None:  # noqa: FBT001 - what `late` says
    assert happened


def test_a_zombie_changes_nothing_in_create_commit_and_delete(
    server: RunningServer,
) -> None:
    """It wakes up when another holds its row; its late job is in the ledger, gone."""
    totals = at_once(
        server,
        (ServiceClass.IDEMPOTENT, _duel("create")),
        (ServiceClass.IDEMPOTENT, _duel("commit")),
        (ServiceClass.IDEMPOTENT, _duel("delete")),
        (
            ServiceClass.NEITHER,
            lambda cycle: _woken(late(cycle, "create.before_call", 1, "plain")),
        ),
    )
    report = "\n".join(summary("zombies", totals, ALL_POINTS))
    assert totals.clean, report
    assert totals.cycles["duels"] == 3, report
    assert totals.cycles["woken late"] == 1, report
    assert totals.jobs["writes refused to the zombie"] >= 4, report
    assert totals.jobs["jobs told of late"] >= 1, report


def test_without_the_fence_the_zombies_writes_are_accepted(
    server: RunningServer,
) -> None:
    """The same three, with the version alone as a guard: each is seen and counted."""
    fenceless = [(ServiceClass.IDEMPOTENT, _duel(what, fenced=False)) for what in DUELS]
    totals = at_once(server, *fenceless)
    report = "\n".join(summary("no fence", totals, ALL_POINTS))
    assert totals.jobs[sentry.DECIDED] >= len(DUELS), report
    assert totals.findings["zombie write"] >= len(DUELS), report
    assert totals.findings["unfenced"] >= len(DUELS), report
