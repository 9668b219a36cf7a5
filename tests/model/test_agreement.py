"""The model decides as the machine does: all that the protocol's variants ask."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import _machine
from orchestrator._machine import _creating
from orchestrator._phase import TERMINAL, Cause, Phase, RemotePhase
from orchestrator._records import (
    Call,
    Created,
    Deleted,
    Due,
    Failure,
    Found,
    Got,
    Recorded,
    Timer,
)
from tests.model.explored import explored
from tests.model.rules import ADOPTING, Event, Givens, Kind, Row, Seen, moved
from tests.model.variants import PROTOCOL
from tests.support.factories import (
    DAY,
    HOUR,
    NOW,
    failed,
    make_claimed,
    make_job,
    make_policies,
    succeeded,
)

if TYPE_CHECKING:
    from orchestrator._policies import Policies
    from orchestrator._records import Change, Claimed, Observation
    from tests.model.rules import Change as Decision

LONG_AGO = NOW - 3 * DAY

ASKED_MIN = 60
"""So many different questions the variants ask at least, all together."""


def _policies(givens: Givens) -> Policies:
    claims = givens.kind in (Kind.IDEMPOTENT, Kind.FORGETFUL)
    return make_policies(
        idempotent_us=None if claims else 0,
        can_find=givens.kind is Kind.LISTED,
        on_unknown_create=givens.on_unknown,
        retries=givens.attempts - 1,
        run_timeout_us=HOUR,
    )


def _claimed(row: Row, seen: Seen) -> Claimed:
    """Return *row* as a claim reads it, at a time that fits what was seen."""
    limit = seen.event is Event.LIMIT
    reason = row.reason
    values: dict[str, Any] = {
        "attempt": row.attempt,
        "creates": row.creates,
        "resolution": row.resolution,
        "abort_requested_at": NOW if row.aborted else None,
        "hold": "OUTCOME_UNKNOWN" if row.held else None,
        "end_reason": None if reason is None else str(reason),
        "phase_at": LONG_AGO if limit or row.phase in ADOPTING else NOW - HOUR,
    }
    if row.phase in ADOPTING and row.phase is not Phase.QUEUED:
        values["create_called_at"] = LONG_AGO
    if row.phase is Phase.CREATE_UNKNOWN and row.aborted:
        values["end_reason"] = "USER"  # the wish is in the history already
    if row.job is not None:
        values |= {"created_at": LONG_AGO, "remote_phase": "RUNNING"}
        values["run_started_at"] = LONG_AGO if limit else NOW
    if seen.event is Event.GET_FAILED:
        values["timer"] = Timer(errors=99, errors_since=LONG_AGO, budget_us=DAY)
    elif limit:
        values["timer"] = Timer(called_at=NOW)
    return make_claimed(row.phase, **values)


_FAILURES = {
    Event.CREATE_LOST: failed(Call.CREATE, Failure.TIMEOUT),
    Event.CREATE_REFUSED: failed(Call.CREATE, Failure.TRANSIENT),
    Event.GET_FAILED: failed(Call.GET, Failure.TRANSIENT),
    Event.DELETE_FAILED: failed(Call.DELETE, Failure.TRANSIENT),
}


def _observation(seen: Seen) -> Observation:
    job = None if seen.job is None else make_job(seen.job)
    if seen.event in _FAILURES:
        return _FAILURES[seen.event]
    match seen:
        case Seen(Event.CREATED) if job is not None:
            return Created(job)
        case Seen(Event.RECORDED | Event.FOUND):
            return Recorded(job) if seen.event is Event.RECORDED else Found(job)
        case Seen(Event.GOT, _, remote) if remote is not None:
            return succeeded() if remote is RemotePhase.SUCCEEDED else Got(remote)
        case Seen(Event.DELETED):
            return Deleted()
    return Due()


def _by_machine(row: Row, seen: Seen, givens: Givens) -> dict[str, Any]:
    """Return what the engine's machine makes of it, in the model's terms."""
    claimed = _claimed(row, seen)
    policies = _policies(givens)
    change: Change = _machine.decide(
        claimed, _observation(seen), NOW, policies, Random(0)
    )
    after = claimed._asdict() | change.sets
    terminal = change.phase in TERMINAL
    aborting = change.phase is Phase.ABORTING
    return {
        # That a streak of errors began is history, and no decision.
        "cause": None if change.cause is Cause.ERRORS_BEGAN else change.cause,
        "then": change.then,
        "phase": change.phase,
        "attempt": change.attempt,
        "job": None if change.job is None else change.job.job_key,
        "cleanup": change.cleanup,
        "reason": after["end_reason"] if aborting else None,
        "creates": None if terminal else min(after["creates"], 2),
        "resolution": None if terminal else after["resolution"],
        "held": bool(after["hold"]),
    }


def _by_model(row: Row, decision: Decision) -> dict[str, Any]:
    """Return the same of the model's decision."""
    after = moved(row, decision)
    terminal = after.phase in TERMINAL
    aborting = after.phase is Phase.ABORTING
    assert len(decision.causes) <= 1
    job = decision.job
    return {
        "cause": decision.causes[0] if decision.causes else None,
        "then": decision.then,
        "phase": after.phase,
        "attempt": after.attempt,
        "job": None if job is None else make_job(job).job_key,
        "cleanup": decision.cleanup,
        "reason": after.reason if aborting else None,
        "creates": None if terminal else after.creates,
        "resolution": None if terminal else after.resolution,
        "held": after.held,
    }


@pytest.mark.parametrize("name", PROTOCOL)
def test_the_machine_decides_what_the_model_was_checked_with(name: str) -> None:
    """Cause, call, phase, attempt, adoption, clean-up: for every reachable question."""
    _, answers = explored(name)
    for (row, seen, givens), decision in answers.items():
        by_machine = _by_machine(row, seen, givens)
        assert by_machine == _by_model(row, decision), (row, seen)


def test_the_questions_are_many() -> None:
    """The agreement is about most phases and events, not about a few."""
    asked = {
        (row._replace(job=None), seen._replace(job=None))
        for name in PROTOCOL
        for row, seen, _ in explored(name)[1]
    }
    assert len(asked) >= ASKED_MIN
    assert {row.phase for row, _ in asked} == set(Phase) - TERMINAL
    assert {seen.event for _, seen in asked} == set(Event)


def test_a_machine_that_decides_otherwise_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Red when off: a machine that neither replays nor searches."""
    monkeypatch.setattr(
        _creating, "recover", lambda case, **_: _creating._by_policy(case)
    )
    _, answers = explored("class I: killed, a zombie, a lost or late create")
    assert any(
        _by_machine(row, seen, givens) != _by_model(row, decision)
        for (row, seen, givens), decision in answers.items()
    )
