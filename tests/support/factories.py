"""Factories: rows as a claim reads them, policies, answers, submissions."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from itertools import count
from typing import Any

from orchestrator._config import Policy
from orchestrator._phase import Phase, RemotePhase
from orchestrator._policies import Policies, TaskLimits
from orchestrator._records import (
    Call,
    CallFailed,
    Change,
    Claimed,
    Failure,
    Got,
    NewJob,
    Timer,
)
from orchestrator._storage import NewExecution
from orchestrator.testing import START_US

NOW = START_US
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

TASK_TYPE = "batch_job"
TEMPLATE = ("hash-of-template", b"template", '{"type": "batch_job"}')

_JOB_COLUMNS = {"meta": b"meta-1", "meta_version": 1, "job_key": "job-1"}
_BY_PHASE: dict[str, dict[str, Any]] = {
    Phase.QUEUED: {"creates": 0},
    Phase.CREATING: {"creates": 1, "create_called_at": NOW},
    Phase.CREATE_UNKNOWN: {"creates": 1, "create_called_at": NOW},
    Phase.RUNNING: {"creates": 1, "create_called_at": NOW, "created_at": NOW}
    | _JOB_COLUMNS,
    Phase.ABORTING: {"creates": 1, "create_called_at": NOW, "created_at": NOW}
    | {"end_reason": "USER"}
    | _JOB_COLUMNS,
}


def make_claimed(phase: str = Phase.QUEUED, **changes: Any) -> Claimed:
    """Return a row in *phase* that the schema would accept, with *changes*."""
    values: dict[str, Any] = dict.fromkeys(Claimed._fields)
    values |= {
        "id": "0" * 31 + "1",
        "task_type": TASK_TYPE,
        "task_version": 0,
        "name": "a task",
        "template_hash": TEMPLATE[0],
        "phase": str(phase),
        "version": 1 if phase == Phase.QUEUED else 2,
        "epoch": 1,
        "attempt": 1,
        "submitted_at": NOW,
        "ready_at": NOW,
        "phase_at": NOW,
        "queued_us": 0,
        "creates": 0,
        "refused": 0,
        "inputs": b"inputs",
        "due_at": NOW,
        "timer": Timer(),
    }
    return Claimed(**values | _BY_PHASE.get(phase, {}) | changes)


def make_policies(**changes: Any) -> Policies:
    """Return policies without jitter; *changes* go to whichever class has the name."""
    parts: dict[type, dict[str, Any]] = {Policy: {"jitter": 0.0}, TaskLimits: {}}
    own: dict[str, Any] = {}
    for name, value in changes.items():
        for part, values in parts.items():
            if name in {field.name for field in fields(part)}:
                values[name] = value
                break
        else:
            own[name] = value
    return Policies(
        policy=Policy(**parts[Policy]), limits=TaskLimits(**parts[TaskLimits]), **own
    )


def make_job(number: int = 1) -> NewJob:
    """Return a job with a key and a handle of its own."""
    return NewJob(b"meta-%d" % number, 1, f"job-{number}")


def failed(
    call: Call, failure: Failure, message: str = "no", *, after_s: float | None = None
) -> CallFailed:
    """Return a failed call; *after_s* is the service's ``retry_after``."""
    retry_after = None if after_s is None else round(after_s * SECOND)
    return CallFailed(call, failure, message, retry_after)


def succeeded() -> Got:
    """Return the answer of a job that succeeded with one output."""
    return Got(RemotePhase.SUCCEEDED, outputs=b"out", outputs_json='{"result": 1}')


def after(row: Claimed, change: Change) -> Claimed:
    """Return *row* as it stands after *change*, as a reader of the tables sees it."""
    values = {name: v for name, v in change.sets.items() if name in Claimed._fields}
    if change.cause is not None:
        values |= {
            "phase": str(change.phase),
            "version": row.version + 1,
            "attempt": change.attempt,
        }
    if change.timer is not None:
        values["timer"] = change.timer
    if change.then is None and change.due_at is not None:
        values["due_at"] = change.due_at
    return row._replace(**values)


def seconds(number: float) -> timedelta:
    """Return a duration."""
    return timedelta(seconds=number)


_numbers = count(1)


def make_new(**changes: Any) -> NewExecution:
    """Return a submission with an id of its own; *changes* go to row or submission."""
    number = next(_numbers)
    row = {
        "id": f"{number:032x}",
        "name": "a task",
        "task_type": TASK_TYPE,
        "task_version": 0,
        "template_hash": TEMPLATE[0],
        "phase": "QUEUED",
        "version": 1,
        "attempt": 1,
        "max_attempts": 3,
        "priority": 0,
        "labels": "{}",
        "submitted_at": NOW,
        "ready_at": NOW,
        "updated_at": NOW,
        "phase_at": NOW,
        "inputs": b"inputs",
        "inputs_json": "{}",
    }
    beside: dict[str, Any] = {"cause": "SUBMITTED", "template": TEMPLATE}
    for name, value in changes.items():
        target = beside if name in NewExecution._fields else row
        target[name] = value
    if "key" in beside:
        row["idempotency_key"] = beside["key"]
        beside.setdefault("request_hash", "request")
    return NewExecution(row=row, **beside)
