"""What the model's scheduler decides: causes by name, phases from the real table.

An independent, timeless telling of the rules: what takes time in the engine (a
settled search, a spent budget, an expired clean-up) is here an event that may or may
not have happened. `test_agreement.py` holds each decision against the real machine.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from orchestrator._machine import successor
from orchestrator._phase import (
    AbortReason,
    Cause,
    Cleanup,
    Phase,
    RemotePhase,
    Resolution,
)
from orchestrator._records import Call

ADOPTING = frozenset({Phase.QUEUED, Phase.CREATING, Phase.CREATE_UNKNOWN})
"""Phases in which the attempt may still adopt a job that the ledger knows."""

RETRIES = frozenset({Cause.REMOTE_RETRYABLE_FAILED, Cause.TIMEOUT_RETRY})
"""Causes with which the next attempt begins."""


class Kind(StrEnum):
    """What a service knows of the token that came with a create."""

    IDEMPOTENT = "I"
    """A second create with it returns the first job, for ever."""
    FORGETFUL = "forgetful"
    """As I, but only while the job runs; its connector claims to be of class I."""
    LISTED = "L"
    """Jobs can be found by token, some time after they were made."""
    NEITHER = "N"
    """Nobody can find a job by its token."""


class Event(StrEnum):
    """The outcome of one call, or that nothing was called."""

    DUE = "due"
    LIMIT = "due, and its time limit has passed"
    CREATED = "created"
    CREATE_LOST = "create timed out"
    CREATE_REFUSED = "create refused, to be tried later"
    RECORDED = "the ledger has"
    FOUND = "find returns"
    GOT = "get says"
    GET_FAILED = "get failed, and with it the poll budget"
    DELETED = "delete returned"
    DELETE_FAILED = "delete failed"


class Seen(NamedTuple):
    """Event with what it told."""

    event: Event
    job: int | None = None
    remote: RemotePhase | None = None


class Row(NamedTuple):
    """The columns that the protocol needs; `creates` is counted up to two."""

    phase: Phase
    attempt: int = 1
    job: int | None = None
    creates: int = 0
    reason: AbortReason | None = None
    aborted: bool = False
    """The wish: set by the API, read by the scheduler that claims."""
    resolution: Resolution | None = None
    held: bool = False
    unknown: bool = False
    """Ended without knowing: listed as a possible orphan."""


class Change(NamedTuple):
    """What a step writes, and the call that follows; no causes: nothing to write."""

    causes: tuple[Cause, ...] = ()
    then: Call | None = None
    job: int | None = None
    """The job to adopt."""
    cleanup: Cleanup | None = None
    """What becomes of the attempt's own entry in the ledger."""
    reason: AbortReason | None = None


class Givens(NamedTuple):
    """What of connector and template matters."""

    kind: Kind = Kind.IDEMPOTENT
    on_unknown: str = "fail"
    attempts: int = 1


_LATER = Change()

_SAID = {
    Resolution.ABSENT: Cause.KNOWN_ABSENT_DELAYED,
    Resolution.GIVE_UP: Cause.GIVEN_UP,
}
_TOLD = {
    RemotePhase.SUCCEEDED: Cause.REMOTE_SUCCEEDED,
    RemotePhase.FAILED: Cause.REMOTE_FAILED,
    RemotePhase.ABORTED: Cause.REMOTE_ABORTED,
}


def decide(row: Row, seen: Seen, givens: Givens) -> Change:
    """Return what *seen* means for *row*."""
    match row.phase:
        case Phase.QUEUED:
            if row.aborted:
                return Change((Cause.ABORTED_UNSUBMITTED,))
            return Change((Cause.CREATE_INTENT,), Call.CREATE)
        case Phase.CREATING:
            return _creating(row, seen)
        case Phase.CREATE_UNKNOWN:
            return _unknown(row, seen, givens)
        case Phase.RUNNING:
            return _running(row, seen, givens)
        case Phase.ABORTING:
            return _aborting(row, seen, givens)
    raise AssertionError(f"{row.phase} is never claimed")


def _creating(row: Row, seen: Seen) -> Change:
    match seen.event:
        case Event.DUE:
            return Change((Cause.CREATE_INTERRUPTED,), Call.LOOKUP)
        case Event.CREATED:
            return _adopt(row, Cause.CREATED, seen.job)
        case Event.CREATE_LOST:
            return Change((Cause.CREATE_TIMED_OUT,))
        case Event.CREATE_REFUSED if row.creates > 1:
            # It speaks for itself: the call before may have made the job.
            return Change((Cause.REPLAY_REFUSED,))
        case Event.CREATE_REFUSED if row.aborted:
            return Change((Cause.ABORTED_UNSUBMITTED,))
        case Event.CREATE_REFUSED:
            return Change((Cause.CREATE_TRANSIENT,))
    raise AssertionError(f"{seen} in {row.phase}")


def _adopt(row: Row, cause: Cause, job: int | None) -> Change:
    if row.aborted:
        why = AbortReason.USER
        return Change((Cause.ABORT_REQUESTED,), Call.DELETE, job, reason=why)
    return Change((cause,), job=job)


def _unknown(row: Row, seen: Seen, givens: Givens) -> Change:
    match seen:
        case Seen(Event.DUE):
            said = row.resolution
            return Change((), Call.LOOKUP) if said is None else Change((_SAID[said],))
        case Seen(Event.RECORDED | Event.FOUND, job) if job is not None:
            return _adopt(row, Cause.ADOPTED, job)
        case Seen(Event.FOUND) if row.aborted:
            return Change((Cause.ABORTED_UNSUBMITTED,))
        case Seen(Event.FOUND):
            return Change((Cause.KNOWN_ABSENT,), Call.CREATE)
        case Seen(Event.RECORDED):
            return _recover(row, givens)
    raise AssertionError(f"{seen} in {row.phase}")


def _recover(row: Row, givens: Givens) -> Change:
    if givens.kind in (Kind.IDEMPOTENT, Kind.FORGETFUL):
        return Change((Cause.REPLAYED,), Call.CREATE)
    if givens.kind is Kind.LISTED:
        return Change((), Call.FIND)
    if givens.on_unknown == "create" and not row.aborted:
        return Change((Cause.CREATE_AGAIN,), Call.CREATE)
    if givens.on_unknown == "hold":
        return _LATER if row.held else Change((Cause.HOLD_SET,))
    return Change((Cause.CREATE_OUTCOME_UNKNOWN,))


def _running(row: Row, seen: Seen, givens: Givens) -> Change:
    match seen:
        case Seen(Event.DUE | Event.LIMIT) if row.aborted:
            return _abort(Cause.ABORT_REQUESTED, AbortReason.USER)
        case Seen(Event.DUE):
            return Change((), Call.GET)
        case Seen(Event.LIMIT):
            return _abort(Cause.RUN_TIMEOUT, AbortReason.RUN_TIMEOUT)
        case Seen(Event.GET_FAILED):
            return _abort(Cause.POLL_BUDGET_SPENT, AbortReason.POLL_BUDGET)
        case Seen(Event.GOT, _, RemotePhase.RETRYABLE_FAILED):
            return Change((_after_failure(row, givens),))
        case Seen(Event.GOT, _, remote) if remote is not None:
            return Change((_TOLD[remote],)) if remote in _TOLD else _LATER
    raise AssertionError(f"{seen} in {row.phase}")


def _after_failure(row: Row, givens: Givens) -> Cause:
    if row.aborted:
        return Cause.ENDED_BEFORE_ABORT
    if row.attempt < givens.attempts:
        return Cause.REMOTE_RETRYABLE_FAILED
    return Cause.RETRIES_EXHAUSTED


def _abort(cause: Cause, reason: AbortReason) -> Change:
    return Change((cause,), Call.DELETE, reason=reason)


def _aborting(row: Row, seen: Seen, givens: Givens) -> Change:
    match seen:
        case Seen(Event.DUE | Event.LIMIT) if row.aborted and (
            row.reason is not AbortReason.USER
        ):
            return _abort(Cause.REASON_STRENGTHENED, AbortReason.USER)
        case Seen(Event.LIMIT):
            return end_of(row, Cleanup.ABANDONED, givens)
        case Seen(Event.DUE):
            return Change((), Call.DELETE)
        case Seen(Event.DELETED | Event.DELETE_FAILED):
            return Change((), Call.GET)
        case Seen(Event.GOT, _, remote):
            return _gone_yet(row, remote, givens)
    raise AssertionError(f"{seen} in {row.phase}")


def _gone_yet(row: Row, remote: RemotePhase | None, givens: Givens) -> Change:
    if remote is RemotePhase.RUNNING:
        return _LATER
    if remote is RemotePhase.SUCCEEDED:
        return Change((Cause.FINISHED_FIRST,), cleanup=Cleanup.DONE)
    return end_of(row, Cleanup.DONE, givens)


_ENDS = {
    (AbortReason.USER, Cleanup.DONE): Cause.ABORT_CONFIRMED,
    (AbortReason.USER, Cleanup.ABANDONED): Cause.ABORT_ABANDONED,
    (AbortReason.POLL_BUDGET, Cleanup.DONE): Cause.FAILURE_CONFIRMED,
    (AbortReason.POLL_BUDGET, Cleanup.ABANDONED): Cause.FAILURE_ABANDONED,
    (AbortReason.RUN_TIMEOUT, Cleanup.DONE): Cause.TIMEOUT_CONFIRMED,
    (AbortReason.RUN_TIMEOUT, Cleanup.ABANDONED): Cause.TIMEOUT_ABANDONED,
}


def end_of(row: Row, cleanup: Cleanup, givens: Givens) -> Change:
    """Return how ABORTING ends, for the reason that *row* tells."""
    assert row.reason is not None
    cause = _ENDS[row.reason, cleanup]
    again = row.attempt < givens.attempts and not row.aborted
    if cause is Cause.TIMEOUT_CONFIRMED and again:
        cause = Cause.TIMEOUT_RETRY
    return Change((cause,), cleanup=cleanup)


def moved(row: Row, change: Change) -> Row:
    """Return *row* after *change*; the table says which phase, or that there is none.

    Raises:
        IllegalTransition: The table does not have the step.
    """
    for cause in change.causes:
        row = _moved_by(row, cause, change)
    return row


def _moved_by(row: Row, cause: Cause, change: Change) -> Row:
    phase = successor(row.phase, cause)
    if cause in RETRIES:
        return Row(phase, row.attempt + 1, aborted=row.aborted)
    creates = row.creates
    if change.then is Call.CREATE or cause is Cause.CREATE_INTENT:
        # A token that is known to be void counts anew.
        creates = 1 if cause is Cause.KNOWN_ABSENT else min(creates + 1, 2)
    elif phase is Phase.QUEUED:
        creates = 0
    ended = cause in (Cause.CREATE_OUTCOME_UNKNOWN, Cause.GIVEN_UP)
    asked = phase is row.phase is Phase.CREATE_UNKNOWN
    return row._replace(
        phase=phase,
        job=row.job if change.job is None else change.job,
        creates=creates,
        reason=change.reason or row.reason,
        resolution=row.resolution if asked else None,
        held=cause is Cause.HOLD_SET,
        unknown=row.unknown or ended,
    )
