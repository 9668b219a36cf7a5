"""What a service calls its states, as Flyte's phases: one table per connector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._secrets import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = get_logger(__name__)


class States:
    """A service's states and their phases.

    A state that the table lacks is UNDEFINED, which is no news: the job is polled on.
    It is reported once, and stands in what `words` gives for the message.
    """

    def __init__(self, service: str, table: Mapping[str, TaskExecution.Phase]) -> None:
        """Map the states of *service* by *table*."""
        self.service = service
        self.table = dict(table)
        self._reported: set[str] = set()

    def phase(self, state: str) -> TaskExecution.Phase:
        """Return the phase of *state*, UNDEFINED if nobody has heard of it."""
        phase = self.table.get(state)
        if phase is not None:
            return phase
        if state not in self._reported:
            self._reported.add(state)
            what = "%s: state %r is unknown here; its jobs are polled on"
            logger.warning(what, self.service, state)
        return TaskExecution.UNDEFINED

    def words(self, state: str) -> str:
        """Return *state* as a message for humans: an unknown one says that it is."""
        return state if state in self.table else f"unknown state {state!r}, polled on"
