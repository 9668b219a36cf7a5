"""Every cause has a situation in which `decide` chooses it; decisions are pure."""

from __future__ import annotations

import copy
from random import Random

import pytest

from orchestrator._machine import TRANSITIONS, IllegalTransition, decide
from orchestrator._phase import LIVE, TERMINAL, Cause, Phase, RemotePhase
from orchestrator._records import (
    Call,
    Created,
    Deleted,
    Due,
    Failure,
    Found,
    Got,
    Observation,
    Poisoned,
    Recorded,
    Unloaded,
)
from tests.support.factories import (
    NOW,
    failed,
    make_claimed,
    make_job,
    make_policies,
)
from tests.support.situations import NEVER_DECIDED, SITUATIONS, Situation


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.name)
def test_the_situation_has_its_cause_and_the_table_the_phase(
    situation: Situation,
) -> None:
    cause, row, observation, policies = situation
    change = decide(row, observation, NOW, policies, Random(1))
    assert change.cause is cause
    assert change.phase is TRANSITIONS[Phase(row.phase), cause]
    assert (change.due_at is None) == (change.phase in TERMINAL)


def test_every_pair_of_the_table_has_a_situation_or_a_reason_to_have_none() -> None:
    decided = {(Phase(s.row.phase), s.cause) for s in SITUATIONS}
    assert len(decided) == len(SITUATIONS), "one situation for each pair"
    assert decided & NEVER_DECIDED == set()
    assert set(TRANSITIONS) - decided == NEVER_DECIDED & set(TRANSITIONS)


def test_every_cause_but_those_of_submissions_is_decided() -> None:
    """SUBMITTED and ATTACHED are written with the row."""
    missing = set(Cause) - {situation.cause for situation in SITUATIONS}
    assert missing == {Cause.SUBMITTED, Cause.ATTACHED}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.name)
def test_a_decision_is_pure(situation: Situation) -> None:
    """Equal arguments give equal changes; the row and the policies stay as they are."""
    _, row, observation, _ = situation
    policies = make_policies(jitter=0.5, retries=1, retry_base_us=5)
    before = copy.deepcopy((row, observation, policies))
    rngs = [Random(7), Random(7)]
    answers = [decide(row, observation, NOW, policies, rng) for rng in rngs]
    assert answers[0] == answers[1]
    assert (row, observation, policies) == before
    assert rngs[0].getstate() == rngs[1].getstate(), "chance was drawn equally often"


def test_changes_do_not_share_what_they_carry() -> None:
    row = make_claimed(Phase.RUNNING)
    change = decide(row, Due(), NOW, make_policies(), Random(1))
    change.sets["hold"] = "POISON"
    assert decide(row, Due(), NOW, make_policies(), Random(1)).sets == {}


POSSIBLE: dict[Phase, tuple[type, ...]] = {
    Phase.QUEUED: (Due,),
    Phase.CREATING: (Due, Created),
    Phase.CREATE_UNKNOWN: (Due, Recorded, Found),
    Phase.RUNNING: (Due, Got),
    Phase.ABORTING: (Due, Deleted, Got),
}
CALLS = {
    Phase.QUEUED: (),
    Phase.CREATING: (Call.CREATE,),
    Phase.CREATE_UNKNOWN: (Call.FIND,),
    Phase.RUNNING: (Call.GET,),
    Phase.ABORTING: (Call.GET, Call.DELETE),
}
ANSWERS: list[Observation] = [
    Due(),
    Created(make_job()),
    Recorded(None),
    Found(None),
    Got(RemotePhase.RUNNING),
    Deleted(),
]


@pytest.mark.parametrize("phase", LIVE)
def test_an_answer_that_cannot_belong_to_the_phase_is_a_bug(phase: Phase) -> None:
    """No answer is bent to fit: what cannot happen raises and names itself."""
    row = make_claimed(phase)
    for answer in ANSWERS:
        if not isinstance(answer, POSSIBLE[phase]):
            with pytest.raises(IllegalTransition, match=type(answer).__name__):
                decide(row, answer, NOW, make_policies(), Random(1))
    for call in (Call.CREATE, Call.GET, Call.DELETE, Call.FIND):
        if call not in CALLS[phase]:
            with pytest.raises(IllegalTransition, match="CallFailed"):
                decide(
                    row, failed(call, Failure.ERROR), NOW, make_policies(), Random(1)
                )


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_a_terminal_row_decides_nothing(phase: Phase) -> None:
    for observation in (Due(), Created(make_job()), Got(RemotePhase.RUNNING)):
        with pytest.raises(IllegalTransition, match="terminal"):
            decide(make_claimed(phase), observation, NOW, make_policies(), Random(1))


@pytest.mark.parametrize("phase", LIVE)
def test_a_row_that_breaks_the_step_is_held_in_its_phase(phase: Phase) -> None:
    row = make_claimed(phase)
    change = decide(row, Poisoned("ValueError: bad"), NOW, make_policies(), Random(1))
    assert (change.phase, change.cause) == (phase, Cause.HOLD_SET)
    assert (change.sets, change.attempt) == ({"hold": "POISON"}, row.attempt)
    assert change.timer is not None
    assert change.timer.last_error == "ValueError: bad"


@pytest.mark.parametrize("phase", LIVE)
def test_a_row_without_a_connector_is_held_and_burns_nothing(phase: Phase) -> None:
    row = make_claimed(phase)
    change = decide(row, Unloaded(), NOW, make_policies(), Random(1))
    assert (change.phase, change.sets) == (phase, {"hold": "CONNECTOR_MISSING"})
    assert (change.attempt, change.then) == (row.attempt, None)
    assert change.due_at == NOW + 60_000_000
    held = row._replace(hold="CONNECTOR_MISSING")
    again = decide(held, Unloaded(), NOW, make_policies(), Random(1))
    assert again.cause is None, "a second look writes no history"
