"""Rules of RUNNING: what a poll's answer means, or its lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator._clock import duration_to_us
from orchestrator._phase import (
    REMOTE_WAITING,
    AbortReason,
    Cause,
    Hold,
    RemotePhase,
)
from orchestrator._records import Call, CallFailed, Change, Failure

if TYPE_CHECKING:
    from orchestrator._machine._case import Case
    from orchestrator._records import Got

_FORWARD = {
    str(phase): rank
    for rank, phase in enumerate(
        (
            RemotePhase.QUEUED,
            RemotePhase.WAITING_FOR_RESOURCES,
            RemotePhase.INITIALIZING,
            RemotePhase.RUNNING,
        )
    )
}

_CAUSES = {
    AbortReason.USER: Cause.ABORT_REQUESTED,
    AbortReason.DEADLINE: Cause.DEADLINE_EXCEEDED,
    AbortReason.RUN_TIMEOUT: Cause.RUN_TIMEOUT,
    AbortReason.QUEUED_TIMEOUT: Cause.QUEUED_TIMEOUT,
    AbortReason.POLL_BUDGET: Cause.POLL_BUDGET_SPENT,
    AbortReason.REJECTED: Cause.GET_REJECTED,
}


def due(case: Case) -> Change:
    """Return the abort that presses, else a poll."""
    reason = case.pressing()
    if reason is None:
        return case.go_on(Call.GET)
    return _abort(case, reason, case.reason_text(reason))


def _abort(
    case: Case,
    reason: AbortReason,
    message: str,
    **more: Any,
) -> Change:
    sets = {"end_reason": str(reason), "end_message": message}
    return case.move(
        _CAUSES[reason], sets=sets, then=Call.DELETE, message=message, **more
    )


def got(case: Case, answer: Got) -> Change:
    """Return what the service's answer means."""
    match answer.phase:
        case RemotePhase.SUCCEEDED:
            return succeeded(case, answer, Cause.REMOTE_SUCCEEDED)
        case RemotePhase.FAILED:
            if case.policies.policy.retry_on_failed and case.can_retry():
                return case.polled().retry(
                    Cause.REMOTE_FAILED_RETRY, answer.message, None
                )
            return _failed(case, answer, Cause.REMOTE_FAILED, "REMOTE_FAILED")
        case RemotePhase.ABORTED:
            return _failed(case, answer, Cause.REMOTE_ABORTED, "REMOTE_ABORTED")
        case RemotePhase.RETRYABLE_FAILED:
            if case.row.abort_requested_at is not None:
                return _failed(case, answer, Cause.ENDED_BEFORE_ABORT, "ABORTED")
            if case.can_retry():
                return case.polled().retry(
                    Cause.REMOTE_RETRYABLE_FAILED, answer.message, None
                )
            return _failed(case, answer, Cause.RETRIES_EXHAUSTED, "RETRIES_EXHAUSTED")
        case _:
            return _still_running(case, answer)


def succeeded(case: Case, answer: Got, cause: Cause) -> Change:
    """Return the end of a job that succeeded, if its outputs fit."""
    case = case.polled()
    if answer.outputs_problem is not None:
        return case.end(
            Cause.OUTPUTS_REJECTED,
            code="OUTPUTS_REJECTED",
            message=answer.outputs_problem,
            sets=_told(answer),
        )
    sets = _told(answer) | {
        "message": answer.message,
        "outputs": answer.outputs,
        "outputs_json": answer.outputs_json,
    }
    return case.end(cause, message=answer.message, sets=sets)


def _failed(case: Case, answer: Got, cause: Cause, code: str) -> Change:
    message = answer.message or f"the service says {answer.phase}"
    return case.polled().end(cause, code=code, message=message, sets=_told(answer))


def _told(answer: Got) -> dict[str, Any]:
    """Return the columns that repeat the service's words; None says nothing new."""
    sets: dict[str, Any] = {"remote_phase": str(answer.phase)}
    if answer.message is not None:
        sets["message"] = answer.message
    if answer.log_links is not None:
        sets["log_links"] = answer.log_links
    if answer.custom_info is not None:
        sets["custom_info"] = answer.custom_info
    return sets


def _still_running(case: Case, answer: Got) -> Change:
    row = case.row
    sets = _told(answer)
    started = answer.phase not in REMOTE_WAITING
    known = answer.phase is not RemotePhase.UNDEFINED
    if row.run_started_at is None and started and known:
        sets["run_started_at"] = case.now
        sets["queued_us"] = case.queued_us()
    if not known:
        sets.pop("remote_phase")  # no news: what was told before stands
    changed = known and answer.phase != row.remote_phase
    forward = changed and _rank(answer.phase) > _rank(row.remote_phase)
    step = 0 if forward else case.timer.step + 1
    timer = case.timer._replace(
        polls=case.timer.polls + 1,
        step=step,
        errors=0,
        errors_since=None,
        budget_us=0,
        called_at=case.now,
        last_error=None,
    )
    next_due = case.now + case.policies.poll_delay(step, case.rng)
    if row.hold is not None:
        cause = Cause.HOLD_RELEASED
        sets["hold"] = None
    elif case.timer.errors:
        cause = Cause.ERRORS_ENDED
    elif changed:
        cause = Cause.REMOTE_PHASE_CHANGED
    else:
        return case.note(due=next_due, sets=sets, timer=timer)
    return case.move(
        cause, sets=sets, due=next_due, timer=timer, message=answer.message
    )


def _rank(phase: str | None) -> int:
    """Return how far a job has come; only going forward brings polls near again."""
    return _FORWARD.get(phase or "", -1)


def get_failed(case: Case, failed: CallFailed) -> Change:
    """Return what a failed poll means: never, by itself, the job's failure."""
    polled = case.polled()
    policy = case.policies.policy
    match failed.failure:
        case Failure.UNAUTHORIZED:
            return polled.hold(Hold.UNAUTHORIZED, failed.message)
        case Failure.SECRET:
            return polled.hold(Hold.SECRET_UNRESOLVED, failed.message)
        case Failure.META:
            return polled.hold(Hold.META_UNREADABLE, failed.message)
        case Failure.PERMANENT:
            timer = polled.failed_timer(failed)
            return _abort(polled, AbortReason.REJECTED, failed.message, timer=timer)
        case Failure.GONE:
            return _lost(polled, failed) if case.listed() else polled.later(failed)
    timer = polled.failed_timer(failed)
    if timer.errors >= policy.poll_budget_errors and timer.budget_us >= duration_to_us(
        policy.poll_budget
    ):
        message = f"{timer.errors} polls in a row failed: {failed.message}"
        return _abort(polled, AbortReason.POLL_BUDGET, message, timer=timer)
    return polled.later(failed)


def _lost(case: Case, failed: CallFailed) -> Change:
    if case.row.abort_requested_at is not None:
        return case.end(
            Cause.ENDED_BEFORE_ABORT, code="ABORTED", message=failed.message
        )
    # A job that was attached and never seen was no job: nobody pays for another one.
    never_was = case.row.creates == 0 and case.row.remote_phase is None
    if case.can_retry() and not never_was:
        return case.retry(Cause.JOB_LOST_RETRY, failed.message, None)
    return case.end(Cause.JOB_LOST, code="LOST", message=failed.message)
