"""ABORTING: delete and look until confirmed; who wins, and what is given up."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._machine import decide
from orchestrator._phase import AbortReason, Cleanup, Phase, RemotePhase
from orchestrator._records import (
    Call,
    Change,
    Deleted,
    Due,
    Failure,
    Got,
    Observation,
    Timer,
)
from tests.support.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    after,
    failed,
    make_claimed,
    make_policies,
    seconds,
    succeeded,
)

if TYPE_CHECKING:
    from orchestrator._policies import Policies
    from orchestrator._records import Claimed

PLAIN = make_policies()
WISHED: dict[str, Any] = {
    "abort_requested_at": NOW - SECOND,
    "abort_reason": "superseded",
}
ENDED = (RemotePhase.FAILED, RemotePhase.RETRYABLE_FAILED, RemotePhase.ABORTED)
GOING = sorted(set(RemotePhase) - {*ENDED, RemotePhase.SUCCEEDED})

# reason -> phase and cause when confirmed, phase and cause when given up, error code
ENDS = {
    "USER": ("ABORTED", "ABORT_CONFIRMED", "ABORT_ABANDONED", "ABORTED"),
    "DEADLINE": (
        "TIMED_OUT",
        "TIMEOUT_CONFIRMED",
        "TIMEOUT_ABANDONED",
        "DEADLINE_EXCEEDED",
    ),
    "RUN_TIMEOUT": (
        "TIMED_OUT",
        "TIMEOUT_CONFIRMED",
        "TIMEOUT_ABANDONED",
        "RUN_TIMEOUT",
    ),
    "QUEUED_TIMEOUT": (
        "TIMED_OUT",
        "TIMEOUT_CONFIRMED",
        "TIMEOUT_ABANDONED",
        "QUEUED_TIMEOUT",
    ),
    "POLL_BUDGET": (
        "FAILED",
        "FAILURE_CONFIRMED",
        "FAILURE_ABANDONED",
        "POLL_BUDGET_SPENT",
    ),
    "REJECTED": ("FAILED", "FAILURE_CONFIRMED", "FAILURE_ABANDONED", "GET_REJECTED"),
}


def _decide(
    row: Claimed,
    observation: Observation,
    policies: Policies = PLAIN,
    now: int = NOW,
) -> Change:
    return decide(row, observation, now, policies, Random(1))


def _aborting(reason: str = "USER", **changes: Any) -> Claimed:
    return make_claimed(Phase.ABORTING, end_reason=reason, end_message="why", **changes)


def test_an_aborting_step_deletes_then_looks() -> None:
    delete = _decide(_aborting(), Due())
    assert (delete.writes, delete.then) == (False, Call.DELETE)
    look = _decide(_aborting(), Deleted())
    assert (look.writes, look.then) == (False, Call.GET)


def test_a_returned_delete_confirms_only_where_the_connector_says_so() -> None:
    final = _decide(_aborting(), Deleted(), make_policies(delete_is_final=True))
    assert (final.phase, final.cleanup) == (Phase.ABORTED, Cleanup.DONE)


@pytest.mark.parametrize("remote", GOING)
def test_a_job_that_goes_on_is_looked_at_again_with_backoff(
    remote: RemotePhase,
) -> None:
    row = _aborting()
    delays = []
    for _ in range(4):
        change = _decide(row, Got(remote))
        assert (change.phase, change.then) == (Phase.ABORTING, None)
        assert change.due_at is not None
        delays.append(change.due_at - NOW)
        row = after(row, change)
    assert delays == sorted(delays)
    assert delays[0] < delays[-1]


@pytest.mark.parametrize("reason", AbortReason)
@pytest.mark.parametrize("remote", ENDED)
def test_an_ended_job_confirms_and_the_stored_reason_decides(
    reason: AbortReason, remote: RemotePhase
) -> None:
    phase, cause, _, code = ENDS[reason]
    change = _decide(_aborting(reason), Got(remote))
    assert (change.phase, change.cause, change.cleanup) == (phase, cause, "DONE")
    assert change.sets["error_code"] == code
    assert change.sets["error_message"] == "why"
    assert change.sets["remote_phase"] == remote


@pytest.mark.parametrize("reason", AbortReason)
def test_a_job_that_had_succeeded_is_paid_for(reason: AbortReason) -> None:
    """Whatever was the reason to abort, the row ends SUCCEEDED with the outputs."""
    row = _aborting(reason, **(WISHED if reason is AbortReason.USER else {}))
    change = _decide(row, succeeded(), make_policies(retries=3))
    assert (change.phase, change.cause) == (Phase.SUCCEEDED, "FINISHED_FIRST")
    assert change.sets["outputs"] == b"out"
    assert change.sets["error_code"] is None
    assert change.cleanup is Cleanup.DONE


@pytest.mark.parametrize("call", [Call.GET, Call.DELETE])
def test_gone_confirms(call: Call) -> None:
    row = _aborting(created_at=NOW - HOUR)
    change = _decide(row, failed(call, Failure.GONE))
    assert (change.phase, change.cleanup) == (Phase.ABORTED, Cleanup.DONE)


@pytest.mark.parametrize("reason", ["RUN_TIMEOUT", "QUEUED_TIMEOUT"])
def test_a_timeout_spends_a_retry_once_the_job_is_confirmed(reason: str) -> None:
    row, policies = _aborting(reason), make_policies(retries=1)
    change = _decide(row, Got(RemotePhase.ABORTED), policies)
    assert (change.phase, change.attempt) == (Phase.QUEUED, 2)
    assert change.cleanup is Cleanup.DONE
    last = _decide(row._replace(attempt=2), Got(RemotePhase.ABORTED), policies)
    assert (last.phase, last.cause) == (Phase.TIMED_OUT, "TIMEOUT_CONFIRMED")


@pytest.mark.parametrize("reason", ["USER", "DEADLINE", "POLL_BUDGET", "REJECTED"])
def test_no_other_reason_is_retried(reason: str) -> None:
    policies = make_policies(retries=5)
    change = _decide(_aborting(reason), Got(RemotePhase.ABORTED), policies)
    assert change.phase == ENDS[reason][0]


def test_a_wish_forbids_the_retry_of_a_timeout() -> None:
    row = _aborting("RUN_TIMEOUT", **WISHED)
    change = _decide(row, Got(RemotePhase.ABORTED), make_policies(retries=5))
    assert change.phase is Phase.TIMED_OUT


@pytest.mark.parametrize("reason", AbortReason)
def test_the_strongest_reason_wins(reason: AbortReason) -> None:
    """User over deadline over everything else; a weaker one changes nothing."""
    row = _aborting(reason)
    wished = _decide(row._replace(**WISHED), Due())
    late = _decide(row._replace(deadline_at=NOW), Due())
    if reason is AbortReason.USER:
        assert (wished.cause, late.cause) == (None, None)
        return
    assert wished.cause == "REASON_STRENGTHENED"
    assert wished.sets == {"end_reason": "USER", "end_message": "superseded"}
    assert (wished.phase, wished.then) == (Phase.ABORTING, Call.DELETE)
    if reason is AbortReason.DEADLINE:
        assert late.cause is None
    else:
        assert late.sets["end_reason"] == "DEADLINE"


def test_the_order_of_reasons_is_that_of_the_design() -> None:
    assert list(AbortReason) == [
        "USER",
        "DEADLINE",
        "RUN_TIMEOUT",
        "QUEUED_TIMEOUT",
        "POLL_BUDGET",
        "REJECTED",
    ]


def test_a_stronger_reason_does_not_restart_the_cleanup_deadline() -> None:
    row = _aborting("DEADLINE", phase_at=NOW - HOUR, **WISHED)
    assert "phase_at" not in _decide(row, Due()).sets


@pytest.mark.parametrize("reason", AbortReason)
def test_after_the_cleanup_deadline_the_job_is_abandoned(reason: AbortReason) -> None:
    """The row takes its terminal phase, the ledger entry an alert; no retry."""
    phase, _, cause, code = ENDS[reason]
    timer = Timer(errors=3, last_error="403 forbidden", called_at=NOW)
    row = _aborting(reason, phase_at=NOW - HOUR, timer=timer)
    policies = make_policies(cleanup_deadline=seconds(3600), retries=5)
    change = _decide(row, Due(), policies)
    assert (change.phase, change.cause, change.cleanup) == (phase, cause, "ABANDONED")
    assert change.sets["error_code"] == code
    assert "403 forbidden" in change.sets["error_message"]
    young = _decide(row._replace(phase_at=NOW - HOUR + 1), Due(), policies)
    assert young.then is Call.DELETE
    away = timer._replace(called_at=NOW - 1)
    late = _decide(row._replace(timer=away), Due(), policies)
    assert late.then is Call.DELETE, "whoever was away tries before giving up"


def test_nothing_is_abandoned_without_a_try_after_the_deadline() -> None:
    """The engine was down meanwhile: it tries once more before it gives up."""
    policies = make_policies(cleanup_deadline=seconds(3600))
    before = Timer(called_at=NOW - HOUR - 1)
    for timer in (Timer(), before):
        row = _aborting(phase_at=NOW - 2 * HOUR, timer=timer)
        assert _decide(row, Due(), policies).then is Call.DELETE
        failure = failed(Call.DELETE, Failure.TRANSIENT)
        row = after(row, _decide(row, failure, policies))
        assert _decide(row, Due(), policies).cleanup is Cleanup.ABANDONED


def test_a_delete_that_keeps_failing_is_one_streak_with_its_error_kept() -> None:
    """A get that answers in between neither hides it nor writes history each time."""
    row, now, causes = _aborting(), NOW, list[str]()
    change = _decide(row, Due())
    policies = make_policies(cleanup_deadline=seconds(600))
    for _ in range(1000):
        change = _decide(row, Due(), policies, now)
        if change.phase is not Phase.ABORTING:
            break
        for observation in (
            failed(Call.DELETE, Failure.PERMANENT, "403 forbidden"),
            Got(RemotePhase.RUNNING),
        ):
            change = _decide(row, observation, policies, now)
            causes += [change.cause] if change.cause else []
            row = after(row, change)
        assert change.due_at is not None
        now = change.due_at
    assert causes == ["ERRORS_BEGAN"]
    assert change.cleanup is Cleanup.ABANDONED
    assert "403 forbidden" in change.sets["error_message"]


def test_a_hold_in_aborting_ends_when_the_service_answers() -> None:
    row = _aborting(hold="UNAUTHORIZED")
    change = _decide(row, Got(RemotePhase.RUNNING))
    assert (change.cause, change.sets["hold"]) == ("HOLD_RELEASED", None)
    assert _decide(row, Got(RemotePhase.ABORTED)).sets["hold"] is None


def test_a_wish_before_anything_was_submitted_ends_at_once() -> None:
    change = _decide(make_claimed(ready_at=NOW + HOUR, **WISHED), Due())
    assert (change.phase, change.cause) == (Phase.ABORTED, "ABORTED_UNSUBMITTED")
    assert change.sets["error_code"] == "ABORTED"
    assert change.sets["finished_at"] == NOW


def test_a_running_job_is_deleted_for_the_strongest_reason_that_presses() -> None:
    policies = make_policies(run_timeout_us=SECOND)
    row = make_claimed(Phase.RUNNING, run_started_at=NOW - MINUTE)
    reasons = []
    pressings: list[dict[str, Any]] = [
        {},
        {"deadline_at": NOW},
        {"deadline_at": NOW, **WISHED},
    ]
    for pressing in pressings:
        change = _decide(row._replace(**pressing), Due(), policies)
        assert (change.phase, change.then) == (Phase.ABORTING, Call.DELETE)
        reasons.append(change.sets["end_reason"])
    assert reasons == ["RUN_TIMEOUT", "DEADLINE", "USER"]


def test_a_job_that_ends_while_an_abort_is_wished_has_ended_by_itself() -> None:
    """SUCCEEDED is SUCCEEDED; a failure that would be retried ends ABORTED."""
    row, policies = make_claimed(Phase.RUNNING, **WISHED), make_policies(retries=3)
    assert _decide(row, succeeded(), policies).phase is Phase.SUCCEEDED
    change = _decide(row, Got(RemotePhase.RETRYABLE_FAILED), policies)
    assert (change.phase, change.cause) == (Phase.ABORTED, "ENDED_BEFORE_ABORT")
    assert change.cleanup is None
