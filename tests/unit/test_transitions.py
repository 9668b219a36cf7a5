"""The table (phase, cause) -> phase, held against the design's words."""

from __future__ import annotations

import itertools

import pytest

from orchestrator._machine import (
    MARKS,
    TRANSITIONS,
    IllegalTransition,
    chart,
    successor,
)
from orchestrator._phase import LIVE, TERMINAL, Cause, Phase

# Written from the design's chapter on the state machine, not from the code.
LEAVES_TO = {
    None: "QUEUED RUNNING",
    "QUEUED": "CREATING ABORTED TIMED_OUT FAILED",
    "CREATING": "RUNNING CREATE_UNKNOWN QUEUED FAILED ABORTING ABORTED TIMED_OUT",
    "CREATE_UNKNOWN": "RUNNING CREATING QUEUED ABORTING ABORTED TIMED_OUT FAILED",
    "RUNNING": "SUCCEEDED FAILED ABORTED QUEUED ABORTING",
    "ABORTING": "ABORTED TIMED_OUT FAILED QUEUED SUCCEEDED",
    "SUCCEEDED": "",
    "FAILED": "",
    "ABORTED": "",
    "TIMED_OUT": "",
}

# Likewise: what each cause means, and so whence and whither it leads.
CAUSES = """
SUBMITTED                  -              QUEUED
ATTACHED                   -              RUNNING
CREATE_INTENT              QUEUED         CREATING
ABORTED_UNSUBMITTED        QUEUED         ABORTED
ABORTED_UNSUBMITTED        CREATING       ABORTED
ABORTED_UNSUBMITTED        CREATE_UNKNOWN ABORTED
DEADLINE_UNSUBMITTED       QUEUED         TIMED_OUT
DEADLINE_UNSUBMITTED       CREATING       TIMED_OUT
DEADLINE_UNSUBMITTED       CREATE_UNKNOWN TIMED_OUT
QUEUED_TIMEOUT_UNSUBMITTED QUEUED         TIMED_OUT
OPERATOR_FAILED            QUEUED         FAILED
CREATED                    CREATING       RUNNING
CREATE_TIMED_OUT           CREATING       CREATE_UNKNOWN
CREATE_ERROR               CREATING       CREATE_UNKNOWN
CREATE_INTERRUPTED         CREATING       CREATE_UNKNOWN
REPLAY_REFUSED             CREATING       CREATE_UNKNOWN
CREATE_THROTTLED           CREATING       QUEUED
CREATE_TRANSIENT           CREATING       QUEUED
CREATE_UNAUTHORIZED        CREATING       QUEUED
CREATE_UNPREPARED          CREATING       QUEUED
NOT_CREATED_RETRY          CREATING       QUEUED
CREATE_REJECTED            CREATING       FAILED
NOT_CREATED                CREATING       FAILED
CREATE_BUDGET_SPENT        CREATING       FAILED
ADOPTED                    CREATE_UNKNOWN RUNNING
REPLAYED                   CREATE_UNKNOWN CREATING
KNOWN_ABSENT               CREATE_UNKNOWN CREATING
CREATE_AGAIN               CREATE_UNKNOWN CREATING
KNOWN_ABSENT_DELAYED       CREATE_UNKNOWN QUEUED
CREATE_OUTCOME_UNKNOWN     CREATE_UNKNOWN FAILED
GIVEN_UP                   CREATE_UNKNOWN FAILED
ABORT_REQUESTED            CREATING       ABORTING
ABORT_REQUESTED            CREATE_UNKNOWN ABORTING
ABORT_REQUESTED            RUNNING        ABORTING
DEADLINE_EXCEEDED          CREATING       ABORTING
DEADLINE_EXCEEDED          CREATE_UNKNOWN ABORTING
DEADLINE_EXCEEDED          RUNNING        ABORTING
RUN_TIMEOUT                RUNNING        ABORTING
QUEUED_TIMEOUT             RUNNING        ABORTING
POLL_BUDGET_SPENT          RUNNING        ABORTING
GET_REJECTED               RUNNING        ABORTING
REMOTE_PHASE_CHANGED       RUNNING        RUNNING
REMOTE_SUCCEEDED           RUNNING        SUCCEEDED
REMOTE_FAILED              RUNNING        FAILED
RETRIES_EXHAUSTED          RUNNING        FAILED
OUTPUTS_REJECTED           RUNNING        FAILED
JOB_LOST                   RUNNING        FAILED
REMOTE_ABORTED             RUNNING        ABORTED
ENDED_BEFORE_ABORT         RUNNING        ABORTED
REMOTE_FAILED_RETRY        RUNNING        QUEUED
REMOTE_RETRYABLE_FAILED    RUNNING        QUEUED
JOB_LOST_RETRY             RUNNING        QUEUED
REASON_STRENGTHENED        ABORTING       ABORTING
ABORT_CONFIRMED            ABORTING       ABORTED
ABORT_ABANDONED            ABORTING       ABORTED
TIMEOUT_CONFIRMED          ABORTING       TIMED_OUT
TIMEOUT_ABANDONED          ABORTING       TIMED_OUT
FAILURE_CONFIRMED          ABORTING       FAILED
FAILURE_ABANDONED          ABORTING       FAILED
TIMEOUT_RETRY              ABORTING       QUEUED
FINISHED_FIRST             ABORTING       SUCCEEDED
"""
ANY_LIVE = [
    "WISH_RECORDED",
    "HOLD_SET",
    "HOLD_RELEASED",
    "ERRORS_BEGAN",
    "ERRORS_ENDED",
]


def _expected() -> dict[tuple[str | None, str], str]:
    lines = [line.split() for line in CAUSES.split("\n") if line]
    table = {(None if old == "-" else old, cause): new for cause, old, new in lines}
    for phase, mark in itertools.product(map(str, LIVE), ANY_LIVE):
        table[phase, mark] = phase
    return table


EXPECTED = _expected()
PAIRS = list(itertools.product([None, *Phase], Cause))


@pytest.mark.parametrize(
    ("phase", "cause"), PAIRS, ids=[f"{phase}-{cause}" for phase, cause in PAIRS]
)
def test_every_pair_leads_where_the_design_says_or_raises(
    phase: Phase | None, cause: Cause
) -> None:
    target = EXPECTED.get((phase, cause))
    if target is None:
        with pytest.raises(IllegalTransition, match=cause):
            successor(phase, cause)
    else:
        assert successor(phase, cause) == target


def test_the_table_has_no_row_that_the_design_lacks() -> None:
    assert dict(TRANSITIONS) == EXPECTED


def test_each_phase_leaves_to_exactly_the_phases_of_the_design() -> None:
    found: dict[str | None, set[str]] = {phase: set() for phase in [None, *Phase]}
    for (phase, _), target in TRANSITIONS.items():
        if target != phase:
            found[phase].add(target)
    assert found == {phase: set(words.split()) for phase, words in LEAVES_TO.items()}


def test_terminal_phases_have_no_way_out() -> None:
    assert {phase for phase, _ in TRANSITIONS} & TERMINAL == set()


def test_marks_leave_every_live_phase_where_it_is() -> None:
    assert set(MARKS) == set(ANY_LIVE)
    for phase, mark in itertools.product(LIVE, MARKS):
        assert successor(phase, mark) is phase


def test_every_cause_is_in_the_table() -> None:
    assert {cause for _, cause in TRANSITIONS} == set(Cause)


def test_a_cause_leads_to_one_phase_wherever_it_starts() -> None:
    targets: dict[Cause, set[Phase]] = {}
    for (_, cause), target in TRANSITIONS.items():
        if cause not in MARKS:
            targets.setdefault(cause, set()).add(target)
    assert {cause: t for cause, t in targets.items() if len(t) > 1} == {}


def test_unsubmitted_causes_end_and_abort_causes_lead_to_aborting() -> None:
    """What the words of a cause promise is what the table does."""
    for (phase, cause), target in TRANSITIONS.items():
        if cause.endswith("_UNSUBMITTED"):
            assert target in TERMINAL, (phase, cause)
        if cause.endswith(("_ABANDONED", "_CONFIRMED")):
            assert phase is Phase.ABORTING, (phase, cause)


def test_the_chart_draws_the_table_edge_by_edge() -> None:
    drawn: dict[tuple[str | None, str], str] = {}
    ends = set()
    lines = chart().splitlines()
    assert lines[0] == "stateDiagram-v2"
    for line in lines[1:]:
        edge, _, causes = line.strip().partition(": ")
        source, target = edge.split(" --> ")
        if target == "[*]":
            ends.add(source)
            continue
        for cause in causes.split("<br/>"):
            drawn[None if source == "[*]" else source, cause] = target
    assert ends == set(TERMINAL)
    assert drawn == {
        pair: target for pair, target in EXPECTED.items() if pair[1] not in ANY_LIVE
    }
