"""Rules of CREATING and CREATE_UNKNOWN: what a create's answer means, or its lack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator._clock import duration_to_us
from orchestrator._machine._case import CODES
from orchestrator._phase import AbortReason, Cause, Hold, Phase, Resolution, WaitingOn
from orchestrator._records import Call, Failure, Refused, Sweep, Timer

if TYPE_CHECKING:
    from orchestrator._machine._case import Case
    from orchestrator._records import CallFailed, Change, NewJob

_CREATE_HOLDS = {
    Failure.UNAUTHORIZED: (Cause.CREATE_UNAUTHORIZED, Hold.UNAUTHORIZED),
    Failure.SECRET: (Cause.CREATE_UNAUTHORIZED, Hold.SECRET_UNRESOLVED),
    Failure.META: (Cause.CREATE_UNPREPARED, Hold.POISON),
}
"""Refusals that a person has to mend: the same attempt waits, nothing is burnt."""

_ABORTING = {
    AbortReason.USER: Cause.ABORT_REQUESTED,
    AbortReason.DEADLINE: Cause.DEADLINE_EXCEEDED,
}


def adopt(case: Case, cause: Cause, job: NewJob) -> Change:
    """Return what follows when the attempt's job is known: it is polled, or ended."""
    sets = {
        "meta": job.meta,
        "meta_version": job.meta_version,
        "job_key": job.job_key,
        "created_at": case.now,
        "hold": None,
        "waiting_on": None,
    }
    if case.phase is Phase.CREATE_UNKNOWN:
        sets["resolution"] = None  # what a user said was about this unknown alone
    timer = Timer(polls=case.timer.polls, called_at=case.now)
    reason = case.pressing()
    if reason is not None:
        sets |= {"end_reason": str(reason), "end_message": case.reason_text(reason)}
        return case.move(
            _ABORTING[reason],
            sets=sets,
            then=Call.DELETE,
            timer=timer,
            message=case.reason_text(reason),
            job=job,
        )
    due = case.now + case.policies.poll_delay(0, case.rng)
    return case.move(cause, sets=sets, due=due, timer=timer, job=job)


def create_failed(case: Case, failed: CallFailed) -> Change:
    """Return what a failed create means: only an assertion means "not created"."""
    match failed.failure:
        case Failure.TIMEOUT:
            return _unknown(case, Cause.CREATE_TIMED_OUT, failed)
        case Failure.ERROR | Failure.GONE:
            return _unknown(case, Cause.CREATE_ERROR, failed)
        case _ if case.row.creates > 1:
            # An earlier call of this attempt may have made the job: what this
            # call asserts is about itself alone.
            permanent = failed.failure in (Failure.PERMANENT, Failure.NOT_CREATED)
            refused = case.row.refused | (Refused.REPLAY if permanent else 0)
            return _unknown(case, Cause.REPLAY_REFUSED, failed, refused=refused)
        case _:
            return _not_created(case, failed)


def _unknown(
    case: Case, cause: Cause, failed: CallFailed, *, refused: int | None = None
) -> Change:
    timer = case.failed_timer(failed)
    row = case.row
    ruled_out = row.refused if refused is None else refused
    return case.move(
        cause,
        sets={"refused": ruled_out, "hold": None},
        due=case.now
        if ruled_out != row.refused
        else case.now + case.error_delay(failed, timer.errors),
        timer=timer,
        message=failed.message,
    )


def _not_created(case: Case, failed: CallFailed) -> Change:
    message = failed.message
    reason = case.pressing()
    if reason is not None:
        return case.end_unsubmitted() or case.go_on(Call.LOOKUP)
    match failed.failure:
        case Failure.PERMANENT:
            return case.end(
                Cause.CREATE_REJECTED, code="CREATE_REJECTED", message=message
            )
        case Failure.NOT_CREATED:
            if case.can_retry():
                return case.retry(Cause.NOT_CREATED_RETRY, message, None)
            return case.end(Cause.NOT_CREATED, code="NOT_CREATED", message=message)
    timer = case.failed_timer(failed)
    sets: dict[str, object] = {"creates": 0, "create_called_at": None, "hold": None}
    if failed.failure in _CREATE_HOLDS:
        cause, hold = _CREATE_HOLDS[failed.failure]
        delay = duration_to_us(case.policies.policy.hold_delay)
        # Outside every budget: the streak is kept only to be seen.
        timer = case.timer._replace(called_at=case.now, last_error=message)
        return case.move(
            cause,
            sets=sets | {"hold": str(hold)},
            due=case.now + delay,
            timer=timer,
            message=message,
        )
    if timer.budget_us >= duration_to_us(case.policies.policy.create_budget):
        return case.end(
            Cause.CREATE_BUDGET_SPENT, code="CREATE_BUDGET_SPENT", message=message
        )
    throttled = failed.failure is Failure.THROTTLED
    return case.move(
        Cause.CREATE_THROTTLED if throttled else Cause.CREATE_TRANSIENT,
        sets=sets | {"waiting_on": str(WaitingOn.SERVICE)},
        due=case.now + case.error_delay(failed, timer.errors),
        timer=timer,
        message=message,
    )


def wished(case: Case) -> Change | None:
    """Return what a user's wish means while the create is unknown, None without.

    An abort cannot be carried out yet: it is recorded once, and what is found is
    deleted.
    """
    row = case.row
    change = resolved(case)
    if change is not None or row.abort_requested_at is None or row.end_reason:
        return change
    text = case.reason_text(AbortReason.USER)
    return case.move(
        Cause.WISH_RECORDED,
        sets={"end_reason": str(AbortReason.USER), "end_message": text},
        due=case.now,
        then=Call.LOOKUP,
        message=text,
    )


def resolved(case: Case) -> Change | None:
    """Return what a user's resolution of an unknown create means, None without."""
    match case.row.resolution:
        case Resolution.ABSENT:
            change = case.move(
                Cause.KNOWN_ABSENT_DELAYED,
                sets={
                    "resolution": None,
                    "creates": 0,
                    "create_called_at": None,
                    "refused": Refused.SEARCHED,
                    "hold": None,
                },
                timer=Timer(polls=case.timer.polls),
                message="resolved as absent by a user",
            )
            return _swept(case, change)
        case Resolution.GIVE_UP:
            return case.end(
                Cause.GIVEN_UP,
                code="CREATE_OUTCOME_UNKNOWN",
                message="given up by a user; the service may have the job",
            )
    return None


def recover(case: Case, *, in_flight: bool) -> Change:
    """Return how to learn of a job that the ledger does not know.

    In this order: a replay of the token where the service remembers it, a search
    for it, the connector's ``on_unknown_create``.
    """
    row, policies = case.row, case.policies
    called = row.create_called_at if row.create_called_at is not None else row.phase_at
    if policies.remembers(case.age_of(called)) and not row.refused & Refused.REPLAY:
        return _create_again(case, Cause.REPLAYED, creates=row.creates + 1)
    if in_flight:
        # The detached call may still answer, and its answer goes to the ledger.
        # It wakes the row, so that looking again may become rare.
        timer = case.timer._replace(step=case.timer.step + 1)
        wait = policies.poll_delay(case.timer.step, case.rng)
        return case.note(due=case.now + wait, timer=timer)
    if policies.can_find and not row.refused & Refused.FIND:
        return case.go_on(Call.FIND)
    return _by_policy(case)


def _by_policy(case: Case) -> Change:
    row = case.row
    choice = case.policies.on_unknown_create
    refused = row.refused & Refused.REPLAY
    if choice == "create" and not refused and case.pressing() is None:
        return _create_again(case, Cause.CREATE_AGAIN, creates=row.creates + 1)
    told = case.timer.last_error or "the process that called create ended"
    message = f"create was called and nobody knows its outcome: {told}"
    if choice == "hold":
        return case.hold(Hold.OUTCOME_UNKNOWN, message)
    return case.end(
        Cause.CREATE_OUTCOME_UNKNOWN, code="CREATE_OUTCOME_UNKNOWN", message=message
    )


def _create_again(case: Case, cause: Cause, *, creates: int) -> Change:
    sets: dict[str, object] = {"creates": creates, "hold": None, "resolution": None}
    if cause is Cause.KNOWN_ABSENT or case.row.create_called_at is None:
        # The age of a token counts from its first call, unless that is known void.
        sets["create_called_at"] = case.now
        sets["refused"] = case.row.refused | Refused.SEARCHED
    return case.move(cause, sets=sets, then=Call.CREATE)


def _swept(case: Case, change: Change) -> Change:
    """Let the token of a job that is taken for absent be searched for on.

    Only where jobs have names: a search that finds the attempt's own job must not
    take it for a second one.
    """
    policies = case.policies
    sweep_for = duration_to_us(policies.policy.sweep_for)
    if sweep_for and policies.can_find and policies.names_jobs:
        settle = duration_to_us(policies.policy.find_settle)
        change.sweep = Sweep(case.now + settle, case.now + sweep_for)
    return change


def find_absent(case: Case) -> Change:
    """Return what "no such token" means: nothing until ``find_settle`` has passed."""
    row = case.row
    # From the moment in which the last call was known to be over: it may have taken
    # effect until then.
    settled = row.phase_at + duration_to_us(case.policies.policy.find_settle)
    believed = case.believed(row.phase_at)
    if believed < settled:
        timer = case.timer._replace(errors=0, errors_since=None, budget_us=0)
        wait = settled - believed
        return case.note(due=case.now + wait, timer=timer)
    reason = case.pressing()
    if reason is AbortReason.USER:
        cause = Cause.ABORTED_UNSUBMITTED
    elif reason is AbortReason.DEADLINE:
        cause = Cause.DEADLINE_UNSUBMITTED
    else:
        return _swept(case, _create_again(case, Cause.KNOWN_ABSENT, creates=1))
    text = case.reason_text(reason)
    return _swept(case, case.end(cause, code=CODES[reason], message=text))


def find_failed(case: Case, failed: CallFailed) -> Change:
    """Return what a failed search means: later, on hold, or never again."""
    match failed.failure:
        case Failure.UNAUTHORIZED:
            return case.hold(Hold.UNAUTHORIZED, failed.message)
        case Failure.SECRET:
            return case.hold(Hold.SECRET_UNRESOLVED, failed.message)
        case Failure.META:
            return case.hold(Hold.META_UNREADABLE, failed.message)
        case Failure.PERMANENT:
            sets = {"refused": case.row.refused | Refused.FIND}
            return case.note(due=case.now, sets=sets, timer=case.failed_timer(failed))
    policy = case.policies.policy
    timer = case.failed_timer(failed)
    if timer.errors >= policy.poll_budget_errors and timer.budget_us >= duration_to_us(
        policy.poll_budget
    ):
        sets = {"refused": case.row.refused | Refused.FIND}
        return case.note(due=case.now, sets=sets, timer=timer)
    return case.later(failed)
