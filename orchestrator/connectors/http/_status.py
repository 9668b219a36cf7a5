"""What a status answer says, by a definition: phase, words, links, numbers, outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator._connector import Resource
from orchestrator.connectors._states import States
from orchestrator.connectors.http import _templates
from orchestrator.connectors.http._answers import (
    as_output,
    as_words,
    finds_nothing,
    search,
)
from orchestrator.connectors.http._build import job_scope

if TYPE_CHECKING:
    from orchestrator.connectors.http._definition import HttpDefinition, LogLink
    from orchestrator.connectors.http._meta import HttpMeta

_FAILED = (TaskExecution.FAILED, TaskExecution.RETRYABLE_FAILED)


class Status:
    """Reads the status answers of one definition's service."""

    def __init__(self, definition: HttpDefinition) -> None:
        """Look where *definition* says."""
        self._look = definition.status
        self._links = definition.log_links
        self._outputs = definition.outputs
        phases: dict[str, TaskExecution.Phase] = {
            state: getattr(TaskExecution, phase)
            for state, phase in definition.status.phases.items()
        }
        self.states = States(definition.task_type, phases)

    def resource(self, meta: HttpMeta, document: Any) -> Resource:
        """Return what *document* says of the job, its outputs left out.

        Raises:
            NonsenseError: A function of a path does not take what it was given.
        """
        look = self._look
        value = search(look.state, document)
        state = as_words(value)
        phase = self.states.phase(state)
        shown = self.states.words(state)
        if value is None and state not in self.states.table:
            shown += f": status.state: {finds_nothing(look.state, document)}"
        message, error, progress = (
            None if path is None else search(path, document)
            for path in (look.message, look.error, look.progress)
        )
        info = {name: search(path, document) for name, path in look.custom_info.items()}
        if look.progress is not None:
            info["progress"] = progress
        words = (error or message) if phase in _FAILED else message
        if words in (None, ""):
            said = shown
        elif state in self.states.table:
            said = as_words(words)
        else:
            said = f"{shown}: {as_words(words)}"
        links = [self._link(link, meta, document) for link in self._links]
        return Resource(
            phase,
            message=said,
            log_links=[link for link in links if link is not None],
            custom_info={"state": state, **info},
        )

    def add_outputs(self, resource: Resource, document: Any) -> None:
        """Add the outputs that *document* holds; the message tells of the others.

        The engine misses them, and shows the message with that.

        Raises:
            NonsenseError: A function of a path does not take what it was given.
        """
        found = {
            name: (output.type, search(output.path, document))
            for name, output in self._outputs.items()
        }
        resource.outputs = {
            name: as_output(kind, value)
            for name, (kind, value) in found.items()
            if value is not None or kind == "any"
        }
        missed = [
            f"outputs.{name}.path: {finds_nothing(output.path, document)}"
            for name, output in self._outputs.items()
            if name not in resource.outputs
        ]
        if missed:
            resource.message = "; ".join(missed)

    @staticmethod
    def _link(link: LogLink, meta: HttpMeta, document: Any) -> TaskLog | None:
        """Return a link for humans, None for one that is not there or no web page."""
        if link.url is not None:
            url: Any = _templates.fill_text(link.url, job_scope(meta))
        else:
            url = search(link.path or "", document)
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            return None
        return TaskLog(name=link.name, uri=url)
