"""The one table: (phase, cause) -> phase. Nothing else may name a next phase.

The chart in the documentation, the CHECK constraints and the audits are made
from it or tested against it.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from orchestrator._phase import LIVE, TERMINAL, Cause, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

_P, _C = Phase, Cause

_EDGES: dict[Phase | None, dict[Phase, tuple[Cause, ...]]] = {
    None: {_P.QUEUED: (_C.SUBMITTED,), _P.RUNNING: (_C.ATTACHED,)},
    _P.QUEUED: {
        _P.CREATING: (_C.CREATE_INTENT,),
        _P.ABORTED: (_C.ABORTED_UNSUBMITTED,),
        _P.TIMED_OUT: (_C.DEADLINE_UNSUBMITTED, _C.QUEUED_TIMEOUT_UNSUBMITTED),
        _P.FAILED: (_C.OPERATOR_FAILED,),
    },
    _P.CREATING: {
        _P.RUNNING: (_C.CREATED,),
        _P.CREATE_UNKNOWN: (
            _C.CREATE_TIMED_OUT,
            _C.CREATE_ERROR,
            _C.CREATE_INTERRUPTED,
            _C.REPLAY_REFUSED,
        ),
        _P.QUEUED: (
            _C.CREATE_THROTTLED,
            _C.CREATE_TRANSIENT,
            _C.CREATE_UNAUTHORIZED,
            _C.CREATE_UNPREPARED,
            _C.NOT_CREATED_RETRY,
        ),
        _P.FAILED: (_C.CREATE_REJECTED, _C.NOT_CREATED, _C.CREATE_BUDGET_SPENT),
        _P.ABORTING: (_C.ABORT_REQUESTED, _C.DEADLINE_EXCEEDED),
        _P.ABORTED: (_C.ABORTED_UNSUBMITTED,),
        _P.TIMED_OUT: (_C.DEADLINE_UNSUBMITTED,),
    },
    _P.CREATE_UNKNOWN: {
        _P.RUNNING: (_C.ADOPTED,),
        _P.CREATING: (_C.REPLAYED, _C.KNOWN_ABSENT, _C.CREATE_AGAIN),
        _P.QUEUED: (_C.KNOWN_ABSENT_DELAYED,),
        _P.ABORTING: (_C.ABORT_REQUESTED, _C.DEADLINE_EXCEEDED),
        _P.ABORTED: (_C.ABORTED_UNSUBMITTED,),
        _P.TIMED_OUT: (_C.DEADLINE_UNSUBMITTED,),
        _P.FAILED: (_C.CREATE_OUTCOME_UNKNOWN, _C.GIVEN_UP),
    },
    _P.RUNNING: {
        _P.RUNNING: (_C.REMOTE_PHASE_CHANGED,),
        _P.SUCCEEDED: (_C.REMOTE_SUCCEEDED,),
        _P.FAILED: (
            _C.REMOTE_FAILED,
            _C.RETRIES_EXHAUSTED,
            _C.OUTPUTS_REJECTED,
            _C.JOB_LOST,
        ),
        _P.ABORTED: (_C.REMOTE_ABORTED, _C.ENDED_BEFORE_ABORT),
        _P.QUEUED: (
            _C.REMOTE_FAILED_RETRY,
            _C.REMOTE_RETRYABLE_FAILED,
            _C.JOB_LOST_RETRY,
        ),
        _P.ABORTING: (
            _C.ABORT_REQUESTED,
            _C.DEADLINE_EXCEEDED,
            _C.RUN_TIMEOUT,
            _C.QUEUED_TIMEOUT,
            _C.POLL_BUDGET_SPENT,
            _C.GET_REJECTED,
        ),
    },
    _P.ABORTING: {
        _P.ABORTING: (_C.REASON_STRENGTHENED,),
        _P.ABORTED: (_C.ABORT_CONFIRMED, _C.ABORT_ABANDONED),
        _P.TIMED_OUT: (_C.TIMEOUT_CONFIRMED, _C.TIMEOUT_ABANDONED),
        _P.FAILED: (_C.FAILURE_CONFIRMED, _C.FAILURE_ABANDONED),
        _P.QUEUED: (_C.TIMEOUT_RETRY,),
        _P.SUCCEEDED: (_C.FINISHED_FIRST,),
    },
}

MARKS = (
    Cause.WISH_RECORDED,
    Cause.HOLD_SET,
    Cause.HOLD_RELEASED,
    Cause.ERRORS_BEGAN,
    Cause.ERRORS_ENDED,
)
"""Causes that every live phase knows and that leave it where it is."""


def _table() -> dict[tuple[Phase | None, Cause], Phase]:
    edges: dict[tuple[Phase | None, Cause], Phase] = {
        (phase, mark): phase for phase in LIVE for mark in MARKS
    }
    for source, targets in _EDGES.items():
        for target, causes in targets.items():
            for cause in causes:
                if (source, cause) in edges:
                    msg = f"{source}, {cause} has two successors"
                    raise AssertionError(msg)
                edges[source, cause] = target
    return edges


TRANSITIONS: Mapping[tuple[Phase | None, Cause], Phase] = _table()

INTENTS = frozenset(
    cause
    for (_, cause), target in TRANSITIONS.items()
    if target is Phase.CREATING and cause not in MARKS
)
"""Causes that commit, each, that ``create`` is about to be called."""

NEXT_ATTEMPT = frozenset(
    {
        Cause.NOT_CREATED_RETRY,
        Cause.REMOTE_FAILED_RETRY,
        Cause.REMOTE_RETRYABLE_FAILED,
        Cause.JOB_LOST_RETRY,
        Cause.TIMEOUT_RETRY,
    }
)
"""Causes that spend a retry: the last transition of one attempt begins the next."""


class IllegalTransition(AssertionError):  # noqa: N818 - a bug, never an outcome
    """The engine asked for a step that the table does not have."""


def successor(phase: Phase | None, cause: Cause) -> Phase:
    """Return where *cause* leads from *phase*; None is "not yet submitted".

    Raises:
        IllegalTransition: The table has no such pair: a bug in the engine.
    """
    try:
        return TRANSITIONS[phase, cause]
    except KeyError:
        msg = f"no transition from {phase} by {cause}"
        raise IllegalTransition(msg) from None


def chart() -> str:
    """Return the table as a Mermaid state diagram, marks left out."""
    lines = ["stateDiagram-v2"]
    edges = sorted(
        (str(source or "[*]"), str(target), str(cause))
        for (source, cause), target in TRANSITIONS.items()
        if cause not in MARKS
    )
    for (source, target), group in groupby(edges, key=lambda edge: edge[:2]):
        causes = "<br/>".join(cause for _, _, cause in group)
        lines.append(f"    {source} --> {target}: {causes}")
    lines.extend(f"    {phase} --> [*]" for phase in Phase if phase in TERMINAL)
    return "\n".join(lines)
