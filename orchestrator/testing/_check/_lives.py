"""Checks of whole lives: an engine runs the task, crashes, is restarted, aborts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator._connector import implements
from orchestrator._phase import Hold, Phase
from orchestrator.testing._check._report import FindingError, NotCheckedError

if TYPE_CHECKING:
    from orchestrator.testing._check._bench import Bench, Life

CRASH_POINTS = (
    "intent.after_commit",
    "create.before_call",
    "create.after_call",
    "created.before_commit",
    "created.after_commit",
    "find.after_call",
    "get.before_call",
    "get.after_call",
    "end.before_commit",
    "abort.after_commit",
    "delete.before_call",
    "delete.after_call",
)
"""Where ``check_connector`` crashes the engine, in the order of a job's life."""

_NOTHING_MADE = {"intent.after_commit", "create.before_call"}
_OUTCOME_LOST = {*_NOTHING_MADE, "create.after_call", "created.before_commit"}
_WHILE_ABORTING = {"abort.after_commit", "delete.before_call", "delete.after_call"}
_SETTLED = timedelta(milliseconds=50)


async def run(bench: Bench) -> str:
    """Check that the task succeeds when nothing goes wrong."""
    life = await bench.live()
    if life.execution.phase is not Phase.SUCCEEDED:
        raise FindingError(
            f"the task did not succeed within {bench.timeout_s:g} s: {life.told()}",
            "give a task and inputs that succeed at your service, and a longer timeout="
            " if they take longer; create, get and the outputs are what can be wrong",
        )
    return f"the task succeeded after {life.execution.polls} polls"


async def abort(bench: Bench) -> str:
    """Check that an abort ends the job."""
    life = await bench.live(abort=True)
    return _aborted(bench, life)


def _aborted(bench: Bench, life: Life) -> str:
    if not life.execution.terminal:
        raise FindingError(
            f"the job did not end within {bench.timeout_s:g} s of the abort:"
            f" {life.told()}",
            "let delete cancel the job at the service, and get tell its end: ABORTED,"
            " or ResourceGoneError",
        )
    if life.execution.phase is Phase.SUCCEEDED:
        raise NotCheckedError(
            "the job had succeeded before its delete took effect",
            "give long_inputs= for a job that is at work for longer than the checks",
        )
    if life.execution.phase is not Phase.ABORTED:
        seen = f"the aborted execution ended {life.told()}"
        raise FindingError(seen, "give long_inputs= for a job that runs and succeeds")
    return "the job was deleted and its end confirmed"


async def crash(bench: Bench, point: str) -> str:
    """Check that a crash at *point* leaves one job, and that it is taken to its end."""
    finds = implements(bench.connector, "find")
    idempotent = bool(bench.connector.create_is_idempotent)
    points = [point]
    if point.startswith("find."):
        if idempotent or not finds:
            raise NotCheckedError("the engine does not ask find for this connector")
        points = ["create.after_call", point]
    # What was never sent is not listed late.
    settle = _SETTLED if point in _NOTHING_MADE else None
    aborting = point in _WHILE_ABORTING
    life = await bench.live(*points, abort=aborting, find_settle=settle)
    unknowable = point in _OUTCOME_LOST and not idempotent and not finds
    if life.missed:
        if not aborting or life.execution.phase is not Phase.SUCCEEDED:
            seen = f"the point was not reached: {life.told()}"
            raise FindingError(seen, "see what fails above")
        return _aborted(bench, life)
    again = unknowable and bench.connector.on_unknown_create == "create"
    await _one_job(bench, life, most=2 if again else 1)
    if unknowable and not again:
        return _unknown(life)
    if aborting:
        return _aborted(bench, life)
    if life.execution.phase is not Phase.SUCCEEDED:
        raise FindingError(
            f"after the restart the task did not succeed: {life.told()}",
            "keep nothing that get, delete or find need in the connector itself: all"
            " that a restarted process has is the stored handle and the token",
        )
    return "one job, taken to its end after the restart"


async def _one_job(bench: Bench, life: Life, *, most: int) -> None:
    keys = bench.notes.keys[life.token]
    count = await bench.count(life.token)
    if len(keys) <= most and (count is None or count <= most):
        return
    raise FindingError(
        f"{max(len(keys), count or 0)} jobs were made for one attempt",
        "the engine repeated create because create_is_idempotent is set, or because"
        " find said None: neither may hold for this service as it is written. Send the"
        " token as the service's own idempotency key, or raise Policy.find_settle",
    )


def _unknown(life: Life) -> str:
    execution = life.execution
    held = execution.hold == Hold.OUTCOME_UNKNOWN
    if held or execution.error_code == "CREATE_OUTCOME_UNKNOWN":
        return f"class N: nobody knows whether there is a job ({execution.phase})"
    raise FindingError(
        f"the execution ended {life.told()}",
        "a connector without create_is_idempotent and find ends as"
        " CREATE_OUTCOME_UNKNOWN here",
    )
