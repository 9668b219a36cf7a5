"""`decide`: every rule of the state machine, as one pure and total function.

It reads a claimed row and one observation and answers with a `Change`: what to
write and which call to make next. It does no I/O and reads no clock. The phases
come from the table in ``orchestrator._machine._transitions``.

What an answer means:

=========================  ====================  ======================  ==========
answer                     create                get                     delete
=========================  ====================  ======================  ==========
TransientError, Throttled  same attempt, later   later, spends budget    later
AuthError, no secret       same attempt, hold    hold, outside budget    hold
ResourceGoneError          unknown               lost, after the grace   confirmed
PermanentError             attempt ends          ABORTING, then FAILED   later
anything else, timeout     unknown               later, spends budget    later
=========================  ====================  ======================  ==========
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from orchestrator._machine import _aborting, _creating, _running
from orchestrator._machine._case import Case
from orchestrator._machine._steps import Step, Steps
from orchestrator._machine._transitions import (
    INTENTS,
    MARKS,
    NEXT_ATTEMPT,
    TRANSITIONS,
    IllegalTransition,
    chart,
    successor,
)
from orchestrator._phase import Cause, Hold, Phase, Resolution, WaitingOn
from orchestrator._records import (
    Call,
    CallFailed,
    Change,
    Claimed,
    Created,
    Deleted,
    Due,
    Found,
    Got,
    Observation,
    Poisoned,
    Recorded,
    Unloaded,
)

if TYPE_CHECKING:
    from random import Random

    from orchestrator._policies import Policies

__all__ = [
    "INTENTS",
    "MARKS",
    "NEXT_ATTEMPT",
    "TRANSITIONS",
    "IllegalTransition",
    "Step",
    "Steps",
    "chart",
    "decide",
    "successor",
]

_NO_STEPS = Steps()


def decide(
    row: Claimed,
    observation: Observation,
    now: int,
    policies: Policies,
    rng: Random,
    *,
    steps: Steps = _NO_STEPS,
) -> Change:
    """Return what *observation* means for *row*.

    Args:
        row: A live execution under this node's claim.
        observation: The outcome of one connector call, or that the row came due.
        now: Microseconds UTC, of the app clock.
        policies: The connector's and the template's.
        rng: For jitter only.
        steps: How the wall clock was seen to step. No limit fires early, and no
            token counts as younger than it may be.

    Raises:
        IllegalTransition: The observation cannot belong to the phase: a bug.
    """
    case = Case(row, now, steps, policies, rng, row.timer)
    if isinstance(observation, Poisoned):
        return _needs_no_call(case) or case.hold(Hold.POISON, observation.message)
    if isinstance(observation, Unloaded):
        what = f"no connector for {row.task_type!r} version {row.task_version}"
        return _needs_no_call(case) or case.hold(
            Hold.CONNECTOR_MISSING, f"{what} is loaded"
        )
    match case.phase:
        case Phase.QUEUED:
            return _queued(case, observation)
        case Phase.CREATING:
            return _in_creating(case, observation)
        case Phase.CREATE_UNKNOWN:
            return _in_unknown(case, observation)
        case Phase.RUNNING:
            return _in_running(case, observation)
        case Phase.ABORTING:
            return _in_aborting(case, observation)
        case Phase.SUCCEEDED | Phase.FAILED | Phase.ABORTED | Phase.TIMED_OUT:
            msg = f"{row.id} is {row.phase}: a terminal row is never claimed"
            raise IllegalTransition(msg)
        case _:
            assert_never(case.phase)


def _queued(case: Case, observation: Observation) -> Change:
    if not isinstance(observation, Due):
        return _impossible(case, observation)
    row = case.row
    ended = _end_queued(case)
    if ended is not None:
        return ended
    if case.now < row.ready_at:
        waiting = row.waiting_on or WaitingOn.START_TIME
        return case.note(due=row.ready_at, sets={"waiting_on": waiting})
    return case.move(
        Cause.CREATE_INTENT,
        sets={
            "creates": row.creates + 1,
            "create_called_at": case.now,
            "waiting_on": None,
            "queued_us": case.queued_us(),
        },
        due=case.now,
        then=Call.CREATE,
    )


def _end_queued(case: Case) -> Change | None:
    if case.row.resolution == Resolution.GIVE_UP:
        return case.end(
            Cause.OPERATOR_FAILED,
            code="OPERATOR_FAILED",
            message="failed by an operator",
        )
    return case.end_unsubmitted()


def _in_creating(case: Case, observation: Observation) -> Change:
    match observation:
        case Due():
            return case.move(
                Cause.CREATE_INTERRUPTED,
                due=case.now,
                then=Call.LOOKUP,
                message="found CREATING without its caller",
            )
        case Created(job):
            return _creating.adopt(case, Cause.CREATED, job)
        case CallFailed(Call.CREATE):
            return _creating.create_failed(case, observation)
        case _:
            return _impossible(case, observation)


def _in_unknown(case: Case, observation: Observation) -> Change:
    match observation:
        case Due():
            return _creating.wished(case) or case.go_on(Call.LOOKUP)
        case Recorded(job, in_flight):
            if job is not None:
                return _creating.adopt(case, Cause.ADOPTED, job)
            return _creating.recover(case, in_flight=in_flight)
        case Found(job):
            if job is not None:
                return _creating.adopt(case, Cause.ADOPTED, job)
            return _creating.find_absent(case)
        case CallFailed(Call.FIND):
            return _creating.find_failed(case, observation)
        case _:
            return _impossible(case, observation)


def _in_running(case: Case, observation: Observation) -> Change:
    match observation:
        case Due():
            return _running.due(case)
        case Got():
            return _running.got(case, observation)
        case CallFailed(Call.GET):
            return _running.get_failed(case, observation)
        case _:
            return _impossible(case, observation)


def _in_aborting(case: Case, observation: Observation) -> Change:
    match observation:
        case Due():
            return _aborting.due(case)
        case Deleted():
            return _aborting.deleted(case)
        case Got():
            return _aborting.got(case, observation)
        case CallFailed(Call.DELETE | Call.GET):
            return _aborting.call_failed(case, observation)
        case _:
            return _impossible(case, observation)


def _needs_no_call(case: Case) -> Change | None:
    """Return what goes on also where the connector cannot be called."""
    if case.phase is Phase.QUEUED:
        return _end_queued(case)
    if case.phase is Phase.CREATE_UNKNOWN:
        return _creating.resolved(case)
    return None


def _impossible(case: Case, observation: Observation) -> Change:
    msg = f"{type(observation).__name__} cannot happen in {case.phase}"
    raise IllegalTransition(msg)
