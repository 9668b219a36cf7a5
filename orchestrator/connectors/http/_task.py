"""HttpTask: a job of a declared HTTP service as a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator._tasks import AsyncConnectorExecutorMixin, TaskTemplate
from orchestrator.connectors.http import _load

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from orchestrator.connectors.http._definition import HttpDefinition


class HttpTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A job of the service that a definition declares.

    Its interface, task type and version are the definition's.

    Args:
        name: Name of the task.
        definition: An HttpDefinition, a dict of its fields, or a YAML or TOML file:
            the one that the connector was made of.
        **kwargs: Other fields of TaskTemplate, such as ``retries``, ``timeout`` and
            ``secrets`` (those named as in ``auth`` win over the definition's).

    Raises:
        ConfigurationError: The definition cannot be used; its fields are named.
    """

    def __init__(
        self,
        name: str,
        definition: HttpDefinition | Mapping[str, Any] | str | os.PathLike[str],
        **kwargs: Any,
    ) -> None:
        self.definition = definition = _load.as_definition(definition)
        super().__init__(
            name=name,
            interface=definition.interface,
            task_type=definition.task_type,
            task_type_version=definition.task_type_version,
            image=None,
            **kwargs,
        )
