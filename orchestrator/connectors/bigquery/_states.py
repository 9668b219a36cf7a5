"""BigQuery's job states, and the reasons for which a job ends, as Flyte's phases."""

from __future__ import annotations

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors._states import States

DONE = "DONE"

STATES = States(
    "BigQuery",
    {
        "PENDING": TaskExecution.QUEUED,
        "RUNNING": TaskExecution.RUNNING,
        DONE: TaskExecution.SUCCEEDED,
    },
)
"""What ``status.state`` means; DONE only without an ``errorResult``."""

_RETRY = TaskExecution.RETRYABLE_FAILED
_FAILED = TaskExecution.FAILED

REASONS: dict[str, TaskExecution.Phase] = {
    "stopped": TaskExecution.ABORTED,
    # The service's own troubles, or a limit that is free again later: a retry of the
    # task may succeed.
    "backendError": _RETRY,
    "internalError": _RETRY,
    "jobBackendError": _RETRY,
    "jobInternalError": _RETRY,
    "jobRateLimitExceeded": _RETRY,
    "quotaExceeded": _RETRY,
    "rateLimitExceeded": _RETRY,
    "resourcesExceeded": _RETRY,
    "tableUnavailable": _RETRY,
    "timeout": _RETRY,
    # The query, its data or the rights have to change first.
    "accessDenied": _FAILED,
    "billingNotEnabled": _FAILED,
    "billingTierLimitExceeded": _FAILED,
    "blocked": _FAILED,
    "bytesBilledLimitExceeded": _FAILED,
    "duplicate": _FAILED,
    "invalid": _FAILED,
    "invalidQuery": _FAILED,
    "invalidUser": _FAILED,
    "notFound": _FAILED,
    "notImplemented": _FAILED,
    "resourceInUse": _FAILED,
    "responseTooLarge": _FAILED,
}
"""What ``status.errorResult.reason`` of an ended job means; another one is FAILED."""


def phase_of(state: str, reason: str | None = None) -> TaskExecution.Phase:
    """Return the phase of a job in *state*, ended by *reason* if there is one.

    A job that is DONE with a reason has ended: an unknown reason is no news that could
    be waited for, but a failure.
    """
    if state == DONE and reason is not None:
        return REASONS.get(reason, _FAILED)
    return STATES.phase(state)
