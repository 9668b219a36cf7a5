"""Flyte's helpers for connectors: what a service's word for a state means.

The words and their phases are Flyte's. They matter only to a connector that calls
these functions; the engine reads phases.
"""

from __future__ import annotations

from flyteidl2.core.execution_pb2 import TaskExecution

__all__ = ["convert_to_flyte_phase", "is_terminal_phase"]

_PHASES: dict[str, TaskExecution.Phase] = {
    "failed": TaskExecution.FAILED,
    "timeout": TaskExecution.FAILED,
    "timedout": TaskExecution.FAILED,
    "canceled": TaskExecution.FAILED,
    "cancelled": TaskExecution.FAILED,
    "skipped": TaskExecution.FAILED,
    "internal_error": TaskExecution.RETRYABLE_FAILED,
    "done": TaskExecution.SUCCEEDED,
    "succeeded": TaskExecution.SUCCEEDED,
    "success": TaskExecution.SUCCEEDED,
    "completed": TaskExecution.SUCCEEDED,
    "running": TaskExecution.RUNNING,
    "terminating": TaskExecution.RUNNING,
    "pending": TaskExecution.INITIALIZING,
}


def convert_to_flyte_phase(state: str) -> TaskExecution.Phase:
    """Return the phase that a service's word for a state means.

    Case does not count. As in Flyte, a cancelled job is FAILED.

    Raises:
        ValueError: The word is unknown (Flyte's text). Raised by ``get`` it is shown,
            and the engine polls again later; it does not fail the job.
    """
    phase = _PHASES.get(state.lower())
    if phase is None:
        raise ValueError(f"Unrecognized state: {state}")
    return phase


def is_terminal_phase(phase: TaskExecution.Phase) -> bool:
    """Tell whether a job in *phase* has ended.

    Unlike Flyte's function of this name, this one counts RETRYABLE_FAILED: that job
    has ended too, and a loop that polls on would never stop.
    """
    return phase in (
        TaskExecution.SUCCEEDED,
        TaskExecution.ABORTED,
        TaskExecution.FAILED,
        TaskExecution.RETRYABLE_FAILED,
    )
