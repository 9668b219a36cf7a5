"""Pass-through: each request is one call of the connector, as in Flyte's service."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from flyteidl2.connector import connector_pb2

from orchestrator._clock import SystemClock
from orchestrator._registry import IDEMPOTENCY_TOKEN, accepted
from orchestrator._secrets import (
    RESERVED_KEYWORDS,
    ConnectorSecretsMixin,
    Redactor,
    Secrets,
    reference,
)
from orchestrator._tasks import TOKEN_LABEL
from orchestrator.errors import InvalidInputError
from orchestrator.flyte._wire import (
    connection_values,
    native_inputs,
    resource_proto,
    token_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from flyteidl2.core.security_pb2 import Connection

    from orchestrator._connector import AsyncConnector
    from orchestrator._registry import Registry
    from orchestrator._secrets import SecretProvider


class Direct:
    """Calls connectors, and remembers nothing.

    Secrets come with the request's Connection; those of ``ConnectorSecretsMixin``
    that it does not bring are looked up by providers, as the engine does it.
    """

    remembered_s: int | None = None

    def __init__(self, registry: Registry, providers: Sequence[SecretProvider]) -> None:
        """Look connectors up in *registry*, their own secrets with *providers*."""
        self._registry = registry
        self._sources = Secrets(providers, SystemClock())
        self.redactor = Redactor()

    async def create(
        self, request: connector_pb2.CreateTaskRequest
    ) -> connector_pb2.CreateTaskResponse:
        """Submit the job."""
        template = request.template
        connector = self._registry.get_connector(
            template.type, template.task_type_version
        )
        metadata = connector_pb2.TaskExecutionMetadata()
        metadata.CopyFrom(request.task_execution_metadata)
        kwargs = await self._secrets(connector, request.connection) | {
            "task_template": template,
            "inputs": native_inputs(template, request.inputs),
            "output_prefix": request.output_prefix,
            "task_execution_metadata": metadata,
        }
        token = token_of(metadata)
        if token is not None:
            metadata.labels[TOKEN_LABEL] = token
            kwargs[IDEMPOTENCY_TOKEN] = token
        meta = await connector.create(**accepted(connector.create, kwargs))
        return connector_pb2.CreateTaskResponse(resource_meta=meta.encode())

    async def get(
        self, request: connector_pb2.GetTaskRequest
    ) -> connector_pb2.GetTaskResponse:
        """Look at the job."""
        connector, kwargs = self._called(request)
        kwargs |= await self._secrets(connector, request.connection)
        resource = await connector.get(**accepted(connector.get, kwargs))
        return connector_pb2.GetTaskResponse(resource=resource_proto(resource))

    async def delete(
        self, request: connector_pb2.DeleteTaskRequest
    ) -> connector_pb2.DeleteTaskResponse:
        """Cancel the job."""
        connector, kwargs = self._called(request)
        kwargs |= await self._secrets(connector, request.connection)
        await connector.delete(**accepted(connector.delete, kwargs))
        return connector_pb2.DeleteTaskResponse()

    async def metrics(
        self, request: connector_pb2.GetTaskMetricsRequest
    ) -> connector_pb2.GetTaskMetricsResponse:
        """Read the job's metrics; Flyte hands on nothing but the meta."""
        connector, kwargs = self._called(request)
        kwargs |= await self._secrets(connector)
        return await connector.get_metrics(**accepted(connector.get_metrics, kwargs))

    async def logs(
        self, request: connector_pb2.GetTaskLogsRequest
    ) -> AsyncIterator[connector_pb2.GetTaskLogsResponse]:
        """Read the job's logs, in either of the shapes that they may have."""
        connector, kwargs = self._called(request)
        kwargs |= {**await self._secrets(connector), "token": request.token}
        answer = connector.get_logs(**accepted(connector.get_logs, kwargs))
        if inspect.isawaitable(answer):
            yield await answer
            return
        async for page in answer:
            yield page

    def _called(self, request: Any) -> tuple[AsyncConnector[Any], dict[str, Any]]:
        category = request.task_category
        connector = self._registry.get_connector(category.name, category.version)
        meta = connector.metadata_type.decode(request.resource_meta)
        return connector, {"resource_meta": meta}

    async def _secrets(
        self, connector: AsyncConnector[Any], connection: Connection | None = None
    ) -> dict[str, Any]:
        """Return the keyword arguments that a request's Connection brings, and ours.

        Raises:
            InvalidInputError: One is called like a parameter of the connector's.
            SecretNotFoundError: One of the connector's own has no value.
        """
        given = {} if connection is None else connection_values(connection)
        for name in given:
            if name in RESERVED_KEYWORDS:
                problem = "is a parameter of the connector's methods"
                raise InvalidInputError(f"connection.{name}", problem)
        self.redactor.register(given)
        if not isinstance(connector, ConnectorSecretsMixin):
            return dict(given)
        values = await self._sources.resolve(
            {
                own.key: reference(own.key, own.group, own.as_env_var)
                for own in connector.secrets
                if own.key not in given
            }
        )
        self.redactor.register(values)
        return {**values, **given}
