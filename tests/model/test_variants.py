"""The protocol breaks nothing in any interleaving; each ablation is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator._machine import IllegalTransition
from orchestrator._phase import Cause, Phase
from tests.model.__main__ import main
from tests.model.check import Finding
from tests.model.explored import explored
from tests.model.rules import Change, Row, moved
from tests.model.variants import ABLATIONS, PROTOCOL
from tests.model.world import Left

ORPHAN = "at the end, a live job that is not even listed as an orphan"


@pytest.mark.parametrize("name", PROTOCOL)
def test_the_protocol_breaks_nothing(name: str) -> None:
    """In all states with these faults; class L has a second job for a moment."""
    variant = PROTOCOL[name]
    report, _ = explored(name)
    trace = "\n".join(
        line
        for finding in report.findings - variant.breaks
        for line in (finding, *report.traces[finding])
    )
    assert variant.problem(report) is None, trace
    assert report.states > 1000


@pytest.mark.parametrize("name", ABLATIONS)
def test_without_the_mechanism_the_model_finds_what_it_is_for(name: str) -> None:
    """Each named breach is found, with the moves that lead there."""
    variant = ABLATIONS[name]
    report = variant.explore()
    assert variant.problem(report) is None
    for finding in variant.breaks:
        assert report.traces[finding][0] == "A claims"


def test_a_move_that_the_table_does_not_have_is_no_move() -> None:
    """The model can go no way that the engine's own table does not know."""
    with pytest.raises(IllegalTransition):
        moved(Row(Phase.QUEUED), Change((Cause.CREATED,)))


def test_the_trace_is_the_shortest_one() -> None:
    """Breadth first: the first way that is found is as short as any."""
    report = ABLATIONS["no intent row"].explore()
    assert report.traces[Finding.ORPHAN] == [
        "A claims",
        "the user wishes an abort",
        "A: create times out, it made or found job 0",
        "A claims",
        "A commits ABORTED_UNSUBMITTED: ABORTED",
    ]


def test_the_command_prints_the_table_and_the_trace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One row per variant, then how each breach comes about."""
    assert main(["--only", "no intent row"]) == 0
    out = capsys.readouterr().out
    assert f"| no intent row | 174 (until caught) | {ORPHAN} |" in out
    assert f"\nno intent row: {ORPHAN}\n   1 A claims\n" in out
    assert out.endswith("all as expected\n")


def test_the_command_fails_where_something_is_not_as_expected(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ablation that passes for the protocol is told, and is an exit code."""
    off = ABLATIONS["no intent row"]
    small = replace(off.world, faults=Left(kills=0, zombies=0, gets=0, deletes=0))
    off = off._replace(world=small, ablation=False, breaks=frozenset())
    monkeypatch.setattr("tests.model.__main__.VARIANTS", {"off": off})
    assert main([]) == 1
    assert f"NOT AS EXPECTED: off: broken: {ORPHAN}" in capsys.readouterr().out
