"""Schedulers that lack a rule of the protocol, to show what the rule is there for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator._phase import AbortReason, Cause, Cleanup, Phase
from orchestrator._records import Call
from tests.model.rules import Change, Event, decide, end_of

if TYPE_CHECKING:
    from tests.model.rules import Givens, Row, Seen

_UNMARKED = {
    AbortReason.USER: (Cause.ABORT_REQUESTED, Cause.ABORT_CONFIRMED),
    AbortReason.POLL_BUDGET: (Cause.POLL_BUDGET_SPENT, Cause.FAILURE_CONFIRMED),
}


def no_intent(row: Row, seen: Seen, givens: Givens) -> Change:
    """Call create first, and write the intent together with its answer."""
    if row.phase is not Phase.QUEUED or row.aborted:
        created = row.phase is Phase.QUEUED and seen.event is Event.CREATED
        if not created:
            return decide(row, seen, givens)
    match seen.event:
        case Event.CREATED:
            change = decide(row._replace(phase=Phase.CREATING), seen, givens)
            return change._replace(causes=(Cause.CREATE_INTENT, *change.causes))
        case Event.DUE:
            return Change((), Call.CREATE)
    return Change()


def no_mark(row: Row, seen: Seen, givens: Givens) -> Change:
    """Call delete first, and write ABORTING together with its success."""
    if row.phase is not Phase.RUNNING:
        return decide(row, seen, givens)
    match seen.event:
        case Event.DELETED:
            reason = AbortReason.USER if row.aborted else AbortReason.POLL_BUDGET
            causes = _UNMARKED[reason]
            return Change(causes, cleanup=Cleanup.DONE, reason=reason)
        case Event.DELETE_FAILED:
            return Change()
    change = decide(row, seen, givens)
    return Change((), Call.DELETE) if change.then is Call.DELETE else change


def delete_error_logged(row: Row, seen: Seen, givens: Givens) -> Change:
    """Take a delete that failed for one that worked."""
    if seen.event is Event.DELETE_FAILED:
        return end_of(row, Cleanup.DONE, givens)
    return decide(row, seen, givens)


def get_errors_fail(row: Row, seen: Seen, givens: Givens) -> Change:
    """End the row when the poll budget is spent, and leave the job alone."""
    if row.phase is Phase.RUNNING and seen.event is Event.GET_FAILED:
        return Change((Cause.JOB_LOST,))
    return decide(row, seen, givens)


def abort_unadopted(row: Row, seen: Seen, givens: Givens) -> Change:
    """End an aborted row whose create is unknown, where the ledger knows no job."""
    asked = row.phase is Phase.CREATE_UNKNOWN and seen.event is Event.RECORDED
    if asked and row.aborted and seen.job is None:
        return Change((Cause.ABORTED_UNSUBMITTED,))
    return decide(row, seen, givens)


def refusal_believed(row: Row, seen: Seen, givens: Givens) -> Change:
    """Take what a repeated create asserts for the truth about the first one, too."""
    if seen.event is Event.CREATE_REFUSED:
        return decide(row._replace(creates=1), seen, givens)
    return decide(row, seen, givens)


def retry_at_once(row: Row, seen: Seen, givens: Givens) -> Change:
    """Begin the next attempt when the time is up, and delete the job never."""
    again = row.attempt < givens.attempts and not row.aborted
    if row.phase is Phase.RUNNING and seen.event is Event.LIMIT and again:
        return Change((Cause.RUN_TIMEOUT, Cause.TIMEOUT_RETRY))
    return decide(row, seen, givens)
