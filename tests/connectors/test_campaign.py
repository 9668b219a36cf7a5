"""The short version of ``python -m tests.connectors.campaign``, and what it can see.

Real processes, SIGKILL, the vendors' real clients, stand-ins with ledgers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.testing import Fault, JobSpec, Rule, ServiceClass, State
from tests.connectors.campaign.__main__ import report, run
from tests.connectors.campaign.entry import ENTRIES, arguments, entry_of
from tests.connectors.campaign.process import ProcessWitness
from tests.crash.campaign import Campaign, Options
from tests.crash.figures import Totals
from tests.crash.scenario import KINDS
from tests.crash.subject import POINTS
from tests.emulators._base import packed, script_of

if TYPE_CHECKING:
    from pathlib import Path

POINT = {"http-listed": "find.after_call", "process": "process.spawned"}
"""Where each connector is killed; the others after a create was answered."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ENTRIES)
def test_a_connector_survives_a_kill(name: str, tmp_path: Path) -> None:
    """Nothing is lost, doubled or orphaned, whoever else fails meanwhile."""
    totals = Totals()
    point = POINT.get(name, "create.after_call")
    options = Options(cycles=1, jobs=6, points=(point,), random_share=0.0)
    points = run(name, options, tmp_path / "here", totals)
    told = "\n".join(report(name, totals, points))
    assert totals.clean, told
    assert totals.kills == 1, told
    assert totals.jobs["jobs"] > 0, told


@pytest.mark.timeout(120)
def test_a_service_that_forgets_what_it_promised_to_remember_is_found_out(
    tmp_path: Path,
) -> None:
    """Declared idempotent, and is not: a lost answer makes a second job."""
    totals = Totals()
    only = {"reply lost"}
    options = Options(
        cycles=1,
        jobs=4,
        points=("end.after_commit",),
        random_share=0.0,
        without=tuple(KINDS.keys() - only),
    )
    with entry_of("http").opened(ServiceClass.IDEMPOTENT, tmp_path, "0") as subject:
        url = subject.arguments[-1]
        lying = replace(subject, arguments=arguments("http", url[:-1] + "N"))
        Campaign(lying, options, tmp_path, totals).run()
    assert totals.findings["duplicated"], "\n".join(report("http", totals, POINTS))


def test_a_command_that_was_run_twice_is_two_jobs(tmp_path: Path) -> None:
    """Its own lines tell, whatever the connector's records say."""
    token = f"o{'0' * 31}1-1"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / token).write_text("11\n12\n")
    folder = tmp_path / "jobs" / token
    folder.mkdir(parents=True)
    (folder / "started").write_text("{}")
    (folder / "status").write_text('{"code": 0}')
    witness = ProcessWitness(tmp_path)
    assert [job.id for job in witness.jobs()] == [token, f"{token}/1"]
    assert {job.state for job in witness.jobs()} == {State.SUCCEEDED}
    assert list(witness.duplicates()) == [token]
    assert witness.calls("create") == {token: 2}


def test_a_spec_comes_back_from_a_text() -> None:
    """Stand-ins that read scripts take a whole JobSpec, faults and all."""
    for kind in KINDS.values():
        assert script_of(f"SELECT 1 {packed(kind.spec)}").spec == kind.spec
    lost = JobSpec(polls=3, faults=(Rule(do=Fault.LOSE, verb="create", times=1),))
    assert script_of(f"/* fail=x,ok */ {packed(lost)}").words["fail"] == "x,ok"
