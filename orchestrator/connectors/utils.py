"""Helpers for connectors: Flyte's own two functions, and what ours are made of.

``convert_to_flyte_phase`` and ``is_terminal_phase`` have Flyte's words and phases. They
matter only to a connector that calls them; the engine reads phases. For new connectors:

- `States`: a service's states as a table, in which an unknown one is no news;
- `Blocking`: threads of the connector's own for a client that blocks;
- `redacted`: what a service said, short, with no secret cut in two;
- `remember_secret`: a token that was got for a secret is redacted like one.
"""

from __future__ import annotations

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._secrets import current_redactor, remember_secret
from orchestrator.connectors._blocking import Blocking
from orchestrator.connectors._states import States

__all__ = [
    "Blocking",
    "States",
    "convert_to_flyte_phase",
    "is_terminal_phase",
    "redacted",
    "remember_secret",
]

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


def redacted(text: str, limit: int = 2000) -> str:
    """Return about *limit* characters of the start of *text*, secrets replaced.

    The engine redacts what a connector says, but cannot know the half of a secret: so
    what a service said is shortened by this, and not by a slice.
    """
    return current_redactor().redact_start(text, limit)
