"""Rules of ABORTING: delete, then get with backoff, until the job is gone or ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator._clock import duration_to_us
from orchestrator._machine._case import CODES
from orchestrator._phase import (
    REMOTE_TERMINAL,
    AbortReason,
    Cause,
    Cleanup,
    Hold,
    RemotePhase,
)
from orchestrator._records import Call, Failure

if TYPE_CHECKING:
    from orchestrator._machine._case import Case
    from orchestrator._records import CallFailed, Change, Got

_STRENGTH = list(AbortReason)
_TIMEOUTS = (
    AbortReason.DEADLINE,
    AbortReason.RUN_TIMEOUT,
    AbortReason.QUEUED_TIMEOUT,
)


def due(case: Case) -> Change:
    """Return the end if the clean-up took too long, else another delete."""
    row = case.row
    stronger = case.pressing()
    reason = _reason(case)
    if stronger is not None and _STRENGTH.index(stronger) < _STRENGTH.index(reason):
        text = case.reason_text(stronger)
        sets = {"end_reason": str(stronger), "end_message": text}
        return case.move(
            Cause.REASON_STRENGTHENED, sets=sets, then=Call.DELETE, message=text
        )
    deadline = row.phase_at + duration_to_us(case.policies.policy.cleanup_deadline)
    tried = case.timer.called_at
    if (
        case.believed(row.phase_at) >= deadline
        and tried is not None
        and tried >= deadline
    ):
        # Not before a try that came after the deadline: nobody may have been there
        # to make one before.
        return _end(case, Cleanup.ABANDONED)
    return case.go_on(Call.DELETE)


def deleted(case: Case) -> Change:
    """Return the end if a returned delete is final, else a look at the job."""
    if case.policies.delete_is_final:
        return _end(case, Cleanup.DONE)
    return case.go_on(Call.GET)


def got(case: Case, answer: Got) -> Change:
    """Return the end if the job has ended, whichever way; else wait."""
    case = case.polled()
    row, timer = case.row, case.timer
    if answer.phase is RemotePhase.SUCCEEDED and answer.outputs_problem is None:
        return case.end(
            Cause.FINISHED_FIRST,
            message="the job had succeeded before the delete took effect",
            sets={
                "remote_phase": str(answer.phase),
                "outputs": answer.outputs,
                "outputs_json": answer.outputs_json,
            },
            cleanup=Cleanup.DONE,
        )
    if answer.phase in REMOTE_TERMINAL:
        # Outputs that do not fit are never retried, whatever the reason to abort.
        again = answer.phase is not RemotePhase.SUCCEEDED
        return _end(case, Cleanup.DONE, remote=answer.phase, again=again)
    # A job that still answers does not end a streak of failed deletes: else each
    # round would be history, and the error lost to the one who has to clean up.
    step = timer.step + 1
    timer = timer._replace(step=step, called_at=case.now)
    sets: dict[str, object] = {"remote_phase": str(answer.phase)}
    due_at = case.now + case.policies.poll_delay(step, case.rng)
    if row.hold is not None:
        sets["hold"] = None
        return case.move(Cause.HOLD_RELEASED, sets=sets, due=due_at, timer=timer)
    return case.note(due=due_at, sets=sets, timer=timer)


def call_failed(case: Case, failed: CallFailed) -> Change:
    """Return what a failed delete or get means: later, confirmed, or on hold."""
    if failed.call is Call.GET:
        case = case.polled()
    match failed.failure:
        # A young job that a get does not list may run all the same; what delete
        # itself does not know is believed to be gone.
        case Failure.GONE if failed.call is Call.DELETE or case.listed():
            return _end(case, Cleanup.DONE)
        case Failure.UNAUTHORIZED:
            return case.hold(Hold.UNAUTHORIZED, failed.message)
        case Failure.SECRET:
            return case.hold(Hold.SECRET_UNRESOLVED, failed.message)
        case Failure.META:
            return case.hold(Hold.META_UNREADABLE, failed.message)
    if failed.call is Call.DELETE:
        # Some services refuse to delete what has ended: the job itself knows.
        change = case.later(failed)
        change.then = Call.GET
        return change
    return case.later(failed)


def _reason(case: Case) -> AbortReason:
    return AbortReason(case.row.end_reason or AbortReason.USER)


def _end(
    case: Case,
    cleanup: Cleanup,
    *,
    remote: RemotePhase | None = None,
    again: bool = True,
) -> Change:
    reason = _reason(case)
    message = case.row.end_message or case.reason_text(reason)
    abandoned = cleanup is Cleanup.ABANDONED
    if abandoned:
        told = case.timer.last_error or "it never ended"
        message = f"{message}; the job could not be confirmed deleted: {told}"
    if reason is AbortReason.USER:
        cause = Cause.ABORT_ABANDONED if abandoned else Cause.ABORT_CONFIRMED
    elif reason in _TIMEOUTS:
        again = again and not abandoned and reason is not AbortReason.DEADLINE
        if again and case.can_retry():
            return case.retry(Cause.TIMEOUT_RETRY, message, cleanup)
        cause = Cause.TIMEOUT_ABANDONED if abandoned else Cause.TIMEOUT_CONFIRMED
    else:
        cause = Cause.FAILURE_ABANDONED if abandoned else Cause.FAILURE_CONFIRMED
    sets = {"remote_phase": str(remote)} if remote is not None else None
    return case.end(
        cause, code=CODES[reason], message=message, sets=sets, cleanup=cleanup
    )
