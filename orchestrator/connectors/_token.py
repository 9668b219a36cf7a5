"""The attempt's token, as a connector's create is given it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator._ids import TOKEN
from orchestrator._tasks import TOKEN_LABEL

if TYPE_CHECKING:
    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata


def token_of(given: str, metadata: TaskExecutionMetadata | None) -> str:
    """Return the token: *given*, else the one in the labels of *metadata*.

    Raises:
        ValueError: There is none of the right form.
    """
    if not given and metadata is not None:
        given = metadata.labels.get(TOKEN_LABEL, "")
    if not TOKEN.fullmatch(given):
        raise ValueError(
            f"no usable token: {given[:80]!r} (label {TOKEN_LABEL!r} of"
            " task_execution_metadata)"
        )
    return given
