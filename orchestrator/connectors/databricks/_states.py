"""Databricks' states, results and termination codes, as Flyte's phases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors._states import States

if TYPE_CHECKING:
    from collections.abc import Mapping

_RETRY = TaskExecution.RETRYABLE_FAILED
_FAILED = TaskExecution.FAILED

TERMINATED = "TERMINATED"

STATES = States(
    "Databricks",
    {
        "QUEUED": TaskExecution.QUEUED,
        "BLOCKED": TaskExecution.QUEUED,
        "PENDING": TaskExecution.INITIALIZING,
        "RUNNING": TaskExecution.RUNNING,
        # The run is not over: a task of it is tried again, or is cleaned up.
        "WAITING_FOR_RETRY": TaskExecution.RUNNING,
        "WAITING": TaskExecution.RUNNING,
        "TERMINATING": TaskExecution.RUNNING,
        # Another run of the job was active, and the service's own trouble.
        "SKIPPED": _RETRY,
        "INTERNAL_ERROR": _RETRY,
    },
)
"""What ``state.life_cycle_state`` and ``status.state`` mean, but for TERMINATED."""

RESULTS: dict[str, TaskExecution.Phase] = {
    "SUCCESS": TaskExecution.SUCCEEDED,
    "SUCCESS_WITH_FAILURES": TaskExecution.SUCCEEDED,
    "FAILED": _FAILED,
    "TIMEDOUT": _FAILED,
    "CANCELED": TaskExecution.ABORTED,
    "UPSTREAM_CANCELED": TaskExecution.ABORTED,
    "UPSTREAM_FAILED": _FAILED,
    "EXCLUDED": _FAILED,
    "DISABLED": _FAILED,
    "MAXIMUM_CONCURRENT_RUNS_REACHED": _RETRY,
}
"""What ``state.result_state`` of a TERMINATED run means; another one is FAILED."""

CODES: dict[str, TaskExecution.Phase] = {
    "SUCCESS": TaskExecution.SUCCEEDED,
    "SUCCESS_WITH_FAILURES": TaskExecution.SUCCEEDED,
    "USER_CANCELED": TaskExecution.ABORTED,
    "CANCELED": TaskExecution.ABORTED,
    # The service's or the cloud's own troubles, or a limit that is free again later:
    # a retry of the task may succeed.
    "BREAKING_CHANGE": _RETRY,
    "CLOUD_FAILURE": _RETRY,
    "CLUSTER_ERROR": _RETRY,
    "CLUSTER_REQUEST_LIMIT_EXCEEDED": _RETRY,
    "CLUSTER_TERMINATED_BY_USER": _RETRY,
    "DRIVER_ERROR": _RETRY,
    "INTERNAL_ERROR": _RETRY,
    "MAX_CONCURRENT_RUNS_EXCEEDED": _RETRY,
    "MAX_JOB_QUEUE_SIZE_EXCEEDED": _RETRY,
    "MAX_SPARK_CONTEXTS_EXCEEDED": _RETRY,
    "REPOSITORY_CHECKOUT_FAILED": _RETRY,
    "STORAGE_ACCESS_ERROR": _RETRY,
    "WORKSPACE_RUN_LIMIT_EXCEEDED": _RETRY,
    # The program, its configuration or the rights have to change first.
    "BUDGET_POLICY_LIMIT_EXCEEDED": _FAILED,
    "DISABLED": _FAILED,
    "FEATURE_DISABLED": _FAILED,
    "INVALID_CLUSTER_REQUEST": _FAILED,
    "INVALID_RUN_CONFIGURATION": _FAILED,
    "LIBRARY_INSTALLATION_ERROR": _FAILED,
    "RESOURCE_NOT_FOUND": _FAILED,
    "RUN_EXECUTION_ERROR": _FAILED,
    "SKIPPED": _FAILED,
    "UNAUTHORIZED_ERROR": _FAILED,
}
"""What ``status.termination_details.code`` means; of another one the type decides."""

TYPES: dict[str, TaskExecution.Phase] = {
    "SUCCESS": TaskExecution.SUCCEEDED,
    "CLIENT_ERROR": _FAILED,
    "CLOUD_FAILURE": _RETRY,
    "INTERNAL_ERROR": _RETRY,
}
"""What ``status.termination_details.type`` means beside a code that is unknown."""


def state_of(run: Mapping[str, Any]) -> str:
    """Return the run's (or task's) life-cycle state, "" if it tells none."""
    state, status = run.get("state") or {}, run.get("status") or {}
    return str(state.get("life_cycle_state") or status.get("state") or "")


def result_of(run: Mapping[str, Any]) -> str:
    """Return how the run (or task) ended in Databricks' words, "" before the end."""
    result = (run.get("state") or {}).get("result_state")
    return str(result or details_of(run).get("code") or "")


def details_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the termination details, empty if there are none."""
    return (run.get("status") or {}).get("termination_details") or {}


def phase_of(run: Mapping[str, Any]) -> TaskExecution.Phase:
    """Return the phase of a run as ``runs/get`` shows it.

    The deprecated ``state`` decides where it is there, and termination details tell
    which failures are worth a retry. A run that is over stays over: results and codes
    that nobody has heard of are failures, no news that could be waited for.
    """
    state = state_of(run)
    if state != TERMINATED:
        return STATES.phase(state)
    details = details_of(run)
    code = CODES.get(str(details.get("code")))
    if code is None:
        code = TYPES.get(str(details.get("type")), _FAILED)
    result = (run.get("state") or {}).get("result_state")
    if not result:
        return code if details else STATES.phase(state)
    phase = RESULTS.get(str(result), _FAILED)
    return _RETRY if phase == _FAILED and code == _RETRY else phase
