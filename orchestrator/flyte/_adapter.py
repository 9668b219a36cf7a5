"""One of Flyte's connectors, as a connector of ours, with its known faults healed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._connector import AsyncConnector, Resource
from orchestrator._registry import IDEMPOTENCY_TOKEN, accepted
from orchestrator._secrets import ConnectorSecretsMixin, get_logger
from orchestrator.errors import TransientError
from orchestrator.flyte._plugins import (
    connection_name,
    plugin_of,
    unrecognized_state,
)
from orchestrator.flyte._values import values_to_flyte, values_to_ours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flyteidl2.core.tasks_pb2 import TaskTemplate

logger = get_logger(__name__)

_OURS = (
    "create_is_idempotent",
    "delete_is_final",
    "find",
    "job_key",
    "not_created_errors",
    "on_unknown_create",
    "policy",
)
"""Optional members of this library, which a connector of Flyte's may have too."""


class FlyteConnector(ConnectorSecretsMixin, AsyncConnector[Any]):
    """Runs a connector that was written for ``flyte.connectors``.

    It runs in a thread of its own, since plugins block in ``async def``. Metas are
    stored as Flyte encodes them. Where the connector's class has optional members of
    this library (``find``, ``job_key``, ``create_is_idempotent``, ...), they count.

    Attributes:
        flyte_connector: The connector itself.
    """

    runs_in = "thread"

    def __init__(self, flyte_connector: Any) -> None:
        """Adapt *flyte_connector*, an instance."""
        own = getattr(flyte_connector, "secrets", None)
        secrets = own if isinstance(own, list) else []
        super().__init__(secrets={s.key: s.as_env_var for s in secrets})
        self.flyte_connector = flyte_connector
        self.name = flyte_connector.name
        self.task_type_name = flyte_connector.task_type_name
        self.task_type_version = flyte_connector.task_type_version
        self.metadata_type = flyte_connector.metadata_type
        self._plugin = plugin_of(flyte_connector)
        self._reported: set[str] = set()
        self._connection: str | None = None
        self.create_is_idempotent = self._plugin.create_is_idempotent
        if self._plugin.job_key is not None:
            self._adopt("job_key", self._plugin.job_key)
        for member in _OURS:
            if hasattr(flyte_connector, member):
                self._adopt(member, getattr(flyte_connector, member))
        for member in ("get_logs", "get_metrics"):
            if _has_own(flyte_connector, member):
                self._adopt(member, getattr(flyte_connector, member))

    def _adopt(self, member: str, value: Any) -> None:
        """Have *member* as the instance's own, which is how an optional one counts."""
        setattr(self, member, value)

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        task_execution_metadata: Any = None,
        idempotency_token: str = "",
        **kwargs: Any,
    ) -> Any:
        """Create the job with what the connector's ``create`` takes of this."""
        if self._plugin.sign is not None and idempotency_token:
            task_template = self._plugin.sign(task_template, idempotency_token)
        if self._plugin.create_apart is not None and self._connection:
            task_template = self._plugin.create_apart(task_template, self._connection)
        given = {
            **kwargs,
            "task_template": task_template,
            "output_prefix": output_prefix,
            "inputs": values_to_flyte(inputs or {}),
            "task_execution_metadata": task_execution_metadata,
            IDEMPOTENCY_TOKEN: idempotency_token,
        }
        create = self.flyte_connector.create
        try:
            return await create(**accepted(create, given))
        except Exception as error:
            not_sent = self._plugin.not_sent
            if not_sent is None or not not_sent.search(str(error)):
                raise
            self._connection = connection_name()
            raise TransientError(str(error)) from error

    async def get(self, resource_meta: Any, **kwargs: Any) -> Resource:
        """Tell how the job does; a state that nobody knows is no news."""
        get = self.flyte_connector.get
        if self._plugin.apart is not None and self._connection:
            resource_meta = self._plugin.apart(resource_meta, self._connection)
        given = {**kwargs, "resource_meta": resource_meta}
        try:
            found = await get(**accepted(get, given))
        except ValueError as error:
            state = unrecognized_state(error)
            if state is None:
                raise
            return Resource(phase=self._phase(state), message=state)
        if found.phase == TaskExecution.FAILED and self._contact_lost(found.message):
            self._connection = connection_name()  # the lost one would stay cached
            raise TransientError(found.message)
        outputs = found.outputs
        if isinstance(outputs, dict):
            outputs = values_to_ours(outputs)
        return Resource(
            phase=found.phase,
            message=found.message,
            log_links=found.log_links,
            outputs=outputs,
            custom_info=found.custom_info,
        )

    async def delete(self, resource_meta: Any, **kwargs: Any) -> Any:
        """Cancel the job, on a connection that this call may close."""
        if self._plugin.apart is not None:
            resource_meta = self._plugin.apart(resource_meta, connection_name())
        delete = self.flyte_connector.delete
        given = {**kwargs, "resource_meta": resource_meta}
        return await delete(**accepted(delete, given))

    def _phase(self, state: str) -> TaskExecution.Phase:
        """Return the phase of a state that Flyte's mapping raised for."""
        phase = self._plugin.states.get(state.lower())
        if phase is not None:
            return phase
        if state not in self._reported:
            self._reported.add(state)
            what = "%s: state %r is unknown here; its jobs are polled on"
            logger.warning(what, self.name, state)
        return TaskExecution.UNDEFINED

    def _contact_lost(self, message: str | None) -> bool:
        """Tell whether FAILED only means that the service was not reached."""
        pattern = self._plugin.contact_lost
        return pattern is not None and pattern.search(message or "") is not None


def _has_own(connector: object, member: str) -> bool:
    """Tell whether a Flyte connector implements an optional member of Flyte's."""
    found = getattr(type(connector), member, None)
    return found is not None and not found.__module__.startswith("flyte.connectors")
