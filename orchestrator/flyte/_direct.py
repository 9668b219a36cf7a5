"""Pass-through: each request is one call of the connector, as in Flyte's service."""

from __future__ import annotations

import json
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from flyteidl2.connector import connector_pb2
from flyteidl2.core.execution_pb2 import TaskLog

from orchestrator._clock import SystemClock
from orchestrator._connector import Resource
from orchestrator._engine import (
    LINKS_MAX,
    Caller,
    info_json,
    links_shown,
    metrics,
    pages,
)
from orchestrator._policies import policy_of
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
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from datetime import timedelta

    from flyteidl2.core.security_pb2 import Connection

    from orchestrator._connector import AsyncConnector
    from orchestrator._registry import Registry
    from orchestrator._secrets import SecretProvider


class Given(NamedTuple):
    """What a request brings for the connector.

    Attributes:
        values: Keyword arguments.
        secrets: Those of them that nobody may quote.
    """

    values: dict[str, str]
    secrets: dict[str, str]


class Direct:
    """Calls connectors, and remembers no job.

    Secrets come with the request's Connection; those of ``ConnectorSecretsMixin``
    that it does not bring are looked up by providers, as the engine does it. Metrics
    and logs come without a Connection: what they quote is known from the calls
    before.
    """

    remembered_s: int | None = None

    def __init__(self, registry: Registry, providers: Sequence[SecretProvider]) -> None:
        """Look connectors up in *registry*, their own secrets with *providers*."""
        self._registry = registry
        self.redactor = Redactor()
        clock = SystemClock()
        self._caller = Caller(clock, self.redactor, Secrets(providers, clock))

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
        given = await self._given(connector, request.connection)
        kwargs = {
            "task_template": template,
            "inputs": native_inputs(template, request.inputs),
            "output_prefix": request.output_prefix,
            "task_execution_metadata": metadata,
        }
        token = token_of(metadata)
        if token is not None:
            metadata.labels[TOKEN_LABEL] = token
            kwargs[IDEMPOTENCY_TOKEN] = token
        # Nobody else would take a late answer: it is the only trace of the job.
        limit = policy_of(connector).create_hard_timeout
        meta = await self._ask(connector, connector.create, kwargs, given, limit)
        return connector_pb2.CreateTaskResponse(resource_meta=meta.encode())

    async def get(
        self, request: connector_pb2.GetTaskRequest
    ) -> connector_pb2.GetTaskResponse:
        """Look at the job."""
        connector, meta = self._called(request)
        given = await self._given(connector, request.connection)
        limit = policy_of(connector).get_timeout
        kwargs = {"resource_meta": meta}
        resource = await self._ask(connector, connector.get, kwargs, given, limit)
        shown = resource_proto(self._shown(resource))
        return connector_pb2.GetTaskResponse(resource=shown)

    async def delete(
        self, request: connector_pb2.DeleteTaskRequest
    ) -> connector_pb2.DeleteTaskResponse:
        """Cancel the job."""
        connector, meta = self._called(request)
        given = await self._given(connector, request.connection)
        limit = policy_of(connector).delete_timeout
        kwargs = {"resource_meta": meta}
        await self._ask(connector, connector.delete, kwargs, given, limit)
        return connector_pb2.DeleteTaskResponse()

    async def metrics(
        self, request: connector_pb2.GetTaskMetricsRequest
    ) -> connector_pb2.GetTaskMetricsResponse:
        """Read the job's metrics; Flyte hands on nothing but the meta."""
        connector, meta = self._called(request)
        given = await self._given(connector)
        return await metrics(self._caller, connector, meta, given.secrets)

    async def logs(
        self, request: connector_pb2.GetTaskLogsRequest
    ) -> AsyncIterator[connector_pb2.GetTaskLogsResponse]:
        """Read the job's logs, in either of the shapes that they may have."""
        connector, meta = self._called(request)
        given = await self._given(connector)
        told = pages(self._caller, connector, meta, request.token, given.secrets)
        async with aclosing(told) as answer:
            async for page in answer:
                yield page

    async def close(self) -> None:
        """End the threads of connectors."""
        await self._caller.stop()

    def _called(self, request: Any) -> tuple[AsyncConnector[Any], Any]:
        category = request.task_category
        connector = self._registry.get_connector(category.name, category.version)
        return connector, connector.metadata_type.decode(request.resource_meta)

    async def _ask(
        self,
        connector: AsyncConnector[Any],
        method: Callable[..., Awaitable[Any]],
        kwargs: dict[str, Any],
        given: Given,
        limit: timedelta,
    ) -> Any:
        """Return what *method* answers to a request.

        Raises:
            CallTimeoutError: Nothing, for so long; the call was cancelled.
            Exception: Whatever it raises.
        """
        taken = accepted(method, {**given.values, **kwargs})
        return await self._caller.ask(
            connector, method, taken, limit, secrets=given.secrets
        )

    async def _given(
        self, connector: AsyncConnector[Any], connection: Connection | None = None
    ) -> Given:
        """Return the keyword arguments that a request's Connection brings, and ours.

        Raises:
            InvalidInputError: One is called like a parameter of the connector's.
            SecretNotFoundError: One of the connector's own has no value.
        """
        values: dict[str, str] = {}
        secrets: dict[str, str] = {}
        if connection is not None:
            values, secrets = connection_values(connection), dict(connection.secrets)
        for name in values:
            if name in RESERVED_KEYWORDS:
                problem = "is a parameter of the connector's methods"
                raise InvalidInputError(f"connection.{name}", problem)
        own: dict[str, str] = {}
        if isinstance(connector, ConnectorSecretsMixin):
            own = await self._caller.secrets(
                {
                    secret.key: reference(secret.key, secret.group, secret.as_env_var)
                    for secret in connector.secrets
                    if secret.key not in values
                }
            )
        return Given({**own, **values}, {**own, **secrets})

    def _shown(self, resource: Resource) -> Resource:
        """Return *resource* with texts that may be shown, as the engine has them."""
        message, info = resource.message, resource.custom_info
        say, redact = self._caller.say, self.redactor.redact
        links = []
        for given in islice(resource.log_links or (), LINKS_MAX):
            [shown] = links_shown([{"name": given.name, "uri": given.uri}], say)
            link = TaskLog()
            link.CopyFrom(given)
            link.name, link.uri = shown["name"], shown["uri"]
            links.append(link)
        return Resource(
            phase=resource.phase,
            message=None if message is None else say(str(message)),
            log_links=links,
            outputs=resource.outputs,
            custom_info=None if info is None else json.loads(info_json(info, redact)),
        )
