"""One situation for each (phase, cause) that `decide` can choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator._phase import Cause, Hold, Phase, RemotePhase
from orchestrator._records import (
    Call,
    Claimed,
    Created,
    Due,
    Failure,
    Found,
    Got,
    Observation,
    Poisoned,
    Recorded,
    Timer,
    Unloaded,
)
from tests.support.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    failed,
    make_claimed,
    make_job,
    make_policies,
    seconds,
    succeeded,
)

if TYPE_CHECKING:
    from orchestrator._policies import Policies

_P, _C, _F = Phase, Cause, Failure
_WISHED: dict[str, Any] = {
    "abort_requested_at": NOW - SECOND,
    "abort_reason": "not needed",
}
_DEADLINE: dict[str, Any] = {"deadline_at": NOW - SECOND}
_RETRY = make_policies(retries=1)
_STREAK = Timer(errors=1, errors_since=NOW - HOUR, called_at=NOW - HOUR)


class Situation(NamedTuple):
    """A row, what was observed, and the cause that follows."""

    cause: Cause
    row: Claimed
    observation: Observation
    policies: Policies

    @property
    def name(self) -> str:
        """Return what tells this situation from the others."""
        return f"{self.row.phase}-{self.cause}"


def _situation(
    phase: Phase,
    cause: Cause,
    observation: Observation,
    policies: Policies | None = None,
    **row: Any,
) -> Situation:
    claimed = make_claimed(phase, **row)
    return Situation(cause, claimed, observation, policies or make_policies())


def _got(phase: RemotePhase, **more: Any) -> Got:
    return Got(phase, **more)


def _create(failure: Failure) -> Observation:
    return failed(Call.CREATE, failure)


def _get(failure: Failure) -> Observation:
    return failed(Call.GET, failure)


_QUEUED = [
    _situation(_P.QUEUED, _C.CREATE_INTENT, Due()),
    _situation(_P.QUEUED, _C.ABORTED_UNSUBMITTED, Due(), **_WISHED),
    _situation(_P.QUEUED, _C.DEADLINE_UNSUBMITTED, Due(), **_DEADLINE),
    _situation(
        _P.QUEUED,
        _C.QUEUED_TIMEOUT_UNSUBMITTED,
        Due(),
        make_policies(queued_timeout_us=SECOND),
        phase_at=NOW - MINUTE,
        ready_at=NOW - MINUTE,
    ),
    _situation(_P.QUEUED, _C.OPERATOR_FAILED, Due(), resolution="GIVE_UP"),
    _situation(_P.QUEUED, _C.HOLD_SET, Unloaded()),
]

_CREATING = [
    _situation(_P.CREATING, _C.CREATED, Created(make_job())),
    _situation(_P.CREATING, _C.ABORT_REQUESTED, Created(make_job()), **_WISHED),
    _situation(_P.CREATING, _C.DEADLINE_EXCEEDED, Created(make_job()), **_DEADLINE),
    _situation(_P.CREATING, _C.CREATE_TIMED_OUT, _create(_F.TIMEOUT)),
    _situation(_P.CREATING, _C.CREATE_ERROR, _create(_F.ERROR)),
    _situation(_P.CREATING, _C.CREATE_INTERRUPTED, Due()),
    _situation(_P.CREATING, _C.REPLAY_REFUSED, _create(_F.TRANSIENT), creates=2),
    _situation(_P.CREATING, _C.CREATE_THROTTLED, _create(_F.THROTTLED)),
    _situation(_P.CREATING, _C.CREATE_TRANSIENT, _create(_F.TRANSIENT)),
    _situation(_P.CREATING, _C.CREATE_UNAUTHORIZED, _create(_F.UNAUTHORIZED)),
    _situation(_P.CREATING, _C.CREATE_UNPREPARED, _create(_F.META)),
    _situation(_P.CREATING, _C.CREATE_REJECTED, _create(_F.PERMANENT)),
    _situation(
        _P.CREATING,
        _C.CREATE_BUDGET_SPENT,
        _create(_F.TRANSIENT),
        make_policies(create_budget=seconds(60)),
        timer=_STREAK._replace(budget_us=MINUTE),
    ),
    _situation(_P.CREATING, _C.NOT_CREATED, _create(_F.NOT_CREATED)),
    _situation(_P.CREATING, _C.NOT_CREATED_RETRY, _create(_F.NOT_CREATED), _RETRY),
    _situation(_P.CREATING, _C.ABORTED_UNSUBMITTED, _create(_F.TRANSIENT), **_WISHED),
    _situation(
        _P.CREATING, _C.DEADLINE_UNSUBMITTED, _create(_F.TRANSIENT), **_DEADLINE
    ),
    _situation(_P.CREATING, _C.HOLD_SET, Poisoned("a row like no other")),
]

_FINDS = make_policies(can_find=True, find_settle=seconds(30))
_LONG_AGO: dict[str, Any] = {"create_called_at": NOW - HOUR, "phase_at": NOW - HOUR}

_UNKNOWN = [
    _situation(_P.CREATE_UNKNOWN, _C.ADOPTED, Recorded(make_job())),
    _situation(
        _P.CREATE_UNKNOWN,
        _C.REPLAYED,
        Recorded(None),
        make_policies(idempotent_us=None),
    ),
    _situation(_P.CREATE_UNKNOWN, _C.KNOWN_ABSENT, Found(None), _FINDS, **_LONG_AGO),
    _situation(
        _P.CREATE_UNKNOWN,
        _C.CREATE_AGAIN,
        Recorded(None),
        make_policies(on_unknown_create="create"),
    ),
    _situation(_P.CREATE_UNKNOWN, _C.KNOWN_ABSENT_DELAYED, Due(), resolution="ABSENT"),
    _situation(_P.CREATE_UNKNOWN, _C.CREATE_OUTCOME_UNKNOWN, Recorded(None)),
    _situation(_P.CREATE_UNKNOWN, _C.GIVEN_UP, Due(), resolution="GIVE_UP"),
    _situation(_P.CREATE_UNKNOWN, _C.WISH_RECORDED, Due(), **_WISHED),
    _situation(_P.CREATE_UNKNOWN, _C.ABORT_REQUESTED, Recorded(make_job()), **_WISHED),
    _situation(
        _P.CREATE_UNKNOWN, _C.DEADLINE_EXCEEDED, Found(make_job()), _FINDS, **_DEADLINE
    ),
    _situation(
        _P.CREATE_UNKNOWN,
        _C.ABORTED_UNSUBMITTED,
        Found(None),
        _FINDS,
        **_WISHED,
        **_LONG_AGO,
    ),
    _situation(
        _P.CREATE_UNKNOWN,
        _C.DEADLINE_UNSUBMITTED,
        Found(None),
        _FINDS,
        **_DEADLINE,
        **_LONG_AGO,
    ),
    _situation(
        _P.CREATE_UNKNOWN,
        _C.HOLD_SET,
        Recorded(None),
        make_policies(on_unknown_create="hold"),
    ),
    _situation(
        _P.CREATE_UNKNOWN, _C.ERRORS_BEGAN, failed(Call.FIND, _F.TIMEOUT), _FINDS
    ),
]

_STARTED: dict[str, Any] = {"run_started_at": NOW - MINUTE, "remote_phase": "RUNNING"}

_RUNNING = [
    _situation(_P.RUNNING, _C.REMOTE_PHASE_CHANGED, _got(RemotePhase.RUNNING)),
    _situation(_P.RUNNING, _C.REMOTE_SUCCEEDED, succeeded()),
    _situation(_P.RUNNING, _C.REMOTE_FAILED, _got(RemotePhase.FAILED)),
    _situation(
        _P.RUNNING,
        _C.REMOTE_FAILED_RETRY,
        _got(RemotePhase.FAILED),
        make_policies(retries=1, retry_on_failed=True),
    ),
    _situation(
        _P.RUNNING,
        _C.REMOTE_RETRYABLE_FAILED,
        _got(RemotePhase.RETRYABLE_FAILED),
        _RETRY,
    ),
    _situation(_P.RUNNING, _C.RETRIES_EXHAUSTED, _got(RemotePhase.RETRYABLE_FAILED)),
    _situation(_P.RUNNING, _C.REMOTE_ABORTED, _got(RemotePhase.ABORTED)),
    _situation(
        _P.RUNNING,
        _C.ENDED_BEFORE_ABORT,
        _got(RemotePhase.RETRYABLE_FAILED),
        _RETRY,
        **_WISHED,
    ),
    _situation(
        _P.RUNNING,
        _C.OUTPUTS_REJECTED,
        _got(RemotePhase.SUCCEEDED, outputs_problem="result: not a str"),
    ),
    _situation(_P.RUNNING, _C.JOB_LOST, _get(_F.GONE), created_at=NOW - HOUR),
    _situation(
        _P.RUNNING, _C.JOB_LOST_RETRY, _get(_F.GONE), _RETRY, created_at=NOW - HOUR
    ),
    _situation(_P.RUNNING, _C.ABORT_REQUESTED, Due(), **_WISHED),
    _situation(_P.RUNNING, _C.DEADLINE_EXCEEDED, Due(), **_DEADLINE),
    _situation(
        _P.RUNNING,
        _C.RUN_TIMEOUT,
        Due(),
        make_policies(run_timeout_us=SECOND),
        **_STARTED,
    ),
    _situation(
        _P.RUNNING,
        _C.QUEUED_TIMEOUT,
        Due(),
        make_policies(queued_timeout_us=SECOND),
        created_at=NOW - MINUTE,
    ),
    _situation(
        _P.RUNNING,
        _C.POLL_BUDGET_SPENT,
        _get(_F.TIMEOUT),
        make_policies(poll_budget_errors=2, poll_budget=seconds(1)),
        timer=_STREAK,
    ),
    _situation(_P.RUNNING, _C.GET_REJECTED, _get(_F.PERMANENT)),
    _situation(_P.RUNNING, _C.HOLD_SET, _get(_F.UNAUTHORIZED)),
    _situation(
        _P.RUNNING,
        _C.HOLD_RELEASED,
        _got(RemotePhase.RUNNING),
        hold=str(Hold.UNAUTHORIZED),
    ),
    _situation(_P.RUNNING, _C.ERRORS_BEGAN, _get(_F.TRANSIENT)),
    _situation(_P.RUNNING, _C.ERRORS_ENDED, _got(RemotePhase.RUNNING), timer=_STREAK),
]

_ENDED = _got(RemotePhase.ABORTED)
_OVERDUE: dict[str, Any] = {"phase_at": NOW - 25 * HOUR, "timer": Timer(called_at=NOW)}

_ABORTING = [
    _situation(
        _P.ABORTING, _C.REASON_STRENGTHENED, Due(), end_reason="DEADLINE", **_WISHED
    ),
    _situation(_P.ABORTING, _C.ABORT_CONFIRMED, _ENDED),
    _situation(_P.ABORTING, _C.TIMEOUT_CONFIRMED, _ENDED, end_reason="DEADLINE"),
    _situation(_P.ABORTING, _C.TIMEOUT_RETRY, _ENDED, _RETRY, end_reason="RUN_TIMEOUT"),
    _situation(_P.ABORTING, _C.FAILURE_CONFIRMED, _ENDED, end_reason="POLL_BUDGET"),
    _situation(_P.ABORTING, _C.FINISHED_FIRST, succeeded()),
    _situation(_P.ABORTING, _C.ABORT_ABANDONED, Due(), **_OVERDUE),
    _situation(
        _P.ABORTING, _C.TIMEOUT_ABANDONED, Due(), end_reason="RUN_TIMEOUT", **_OVERDUE
    ),
    _situation(
        _P.ABORTING, _C.FAILURE_ABANDONED, Due(), end_reason="REJECTED", **_OVERDUE
    ),
    _situation(_P.ABORTING, _C.HOLD_SET, failed(Call.DELETE, _F.UNAUTHORIZED)),
    _situation(
        _P.ABORTING,
        _C.HOLD_RELEASED,
        _got(RemotePhase.RUNNING),
        hold=str(Hold.UNAUTHORIZED),
    ),
    _situation(_P.ABORTING, _C.ERRORS_BEGAN, failed(Call.DELETE, _F.TRANSIENT)),
]

SITUATIONS = [*_QUEUED, *_CREATING, *_UNKNOWN, *_RUNNING, *_ABORTING]


def situations_of(phase: str) -> list[Situation]:
    """Return the situations of rows in *phase*."""
    return [situation for situation in SITUATIONS if situation.row.phase == phase]


NEVER_DECIDED = {
    # Written with the row itself, by a submission.
    (None, Cause.SUBMITTED),
    (None, Cause.ATTACHED),
    # A wish has columns of its own; what follows from it has a cause of its own.
    *((p, Cause.WISH_RECORDED) for p in Phase if p is not Phase.CREATE_UNKNOWN),
    # Nothing is on hold here for a reason that a later step of the phase lifts:
    # the transition out of the phase does.
    (Phase.QUEUED, Cause.HOLD_RELEASED),
    (Phase.CREATING, Cause.HOLD_RELEASED),
    (Phase.CREATE_UNKNOWN, Cause.HOLD_RELEASED),
    # A refused create is a transition, and so is what comes after it.
    (Phase.QUEUED, Cause.ERRORS_BEGAN),
    (Phase.QUEUED, Cause.ERRORS_ENDED),
    (Phase.CREATING, Cause.ERRORS_BEGAN),
    (Phase.CREATING, Cause.ERRORS_ENDED),
    # A search that answers is followed by a transition, or waits for the settling.
    (Phase.CREATE_UNKNOWN, Cause.ERRORS_ENDED),
    # The end of the job ends the streak.
    (Phase.ABORTING, Cause.ERRORS_ENDED),
}
"""Pairs of the table that `decide` never chooses, and why."""
