"""Snowflake's query statuses, and the codes with which a query fails, as phases."""

from __future__ import annotations

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors._states import States

NO_DATA, DISCONNECTED = "NO_DATA", "DISCONNECTED"
SUCCESS, FAILED_WITH_ERROR = "SUCCESS", "FAILED_WITH_ERROR"

_RETRY = TaskExecution.RETRYABLE_FAILED

STATES = States(
    "Snowflake",
    {
        "QUEUED": TaskExecution.QUEUED,
        "RESUMING_WAREHOUSE": TaskExecution.INITIALIZING,
        "QUEUED_REPARING_WAREHOUSE": TaskExecution.INITIALIZING,  # sic, of the service
        "QUEUED_REPAIRING_WAREHOUSE": TaskExecution.INITIALIZING,
        "RUNNING": TaskExecution.RUNNING,
        "BLOCKED": TaskExecution.RUNNING,
        "RESTARTED": TaskExecution.RUNNING,
        "ABORTING": TaskExecution.RUNNING,
        SUCCESS: TaskExecution.SUCCEEDED,
        FAILED_WITH_ERROR: TaskExecution.FAILED,
        "FAILED_WITH_INCIDENT": _RETRY,
        "ABORTED": TaskExecution.ABORTED,
        DISCONNECTED: _RETRY,
        NO_DATA: TaskExecution.RUNNING,  # as Snowflake's client counts it
    },
)
"""What a status means; DISCONNECTED and NO_DATA only if the history has no other."""

BAD_ENDS = frozenset({FAILED_WITH_ERROR, "FAILED_WITH_INCIDENT", "ABORTED"})
DOUBTFUL = frozenset({NO_DATA, DISCONNECTED})
"""Statuses that the client also makes up, so that the history is asked."""

CODES: dict[int, TaskExecution.Phase] = {
    604: TaskExecution.ABORTED,  # SQL execution canceled
    603: _RETRY,  # SQL execution internal error
    625: _RETRY,  # a lock was waited for in vain
}
"""What the error code of a query that FAILED_WITH_ERROR means; another is FAILED."""


def phase_of(status: str, code: int | None = None) -> TaskExecution.Phase:
    """Return the phase of a query in *status*, failed with *code* if there is one."""
    if status == FAILED_WITH_ERROR and code in CODES:
        return CODES[code]
    return STATES.phase(status)
