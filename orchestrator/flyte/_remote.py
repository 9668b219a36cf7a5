"""A connector whose jobs live at a Flyte connector service, reached over gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from flyteidl2.connector import connector_pb2
from flyteidl2.core.security_pb2 import Connection

from orchestrator._connector import (
    AsyncConnector,
    Resource,
    ResourceMeta,
    check_decodable,
)
from orchestrator._engine import clean
from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator._secrets import ConnectorSecretsMixin, environment_value
from orchestrator.errors import ConfigurationError, InvalidInputError, TransientError
from orchestrator.errors import PermanentError as Permanent
from orchestrator.flyte._channels import Channels
from orchestrator.flyte._target import RemoteService
from orchestrator.flyte._wire import inputs_proto, resource_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator._config import Policy
    from orchestrator._registry import Registry

TOKEN_KEYWORD = "connector_service_token"  # noqa: S105 - the name of an argument
"""Keyword under which the engine hands over the value of ``RemoteService.token``."""

_FORMER_DEFAULT = "flyte"
"""``RemoteMeta.service`` of version 1 for every service without a name."""
_NAME_MAX = 200


@dataclass
class RemoteMeta(ResourceMeta):
    """The handle of a job at a connector service.

    Attributes:
        resource_meta: The service's own meta; nobody here looks into it.
        task_type: Of the task, as the service calls it.
        task_version: Likewise.
        service: ``RemoteService.identity`` of the service that has the job. Empty for
            a job of the time when all services without a name had the same one.
        output_prefix: What ``create`` was given; Flyte wants to hear it again.
    """

    schema_version = 2

    resource_meta: bytes
    task_type: str
    task_version: int = 0
    service: str = ""
    output_prefix: str = ""

    @classmethod
    def upcast(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        """Turn the name that version 1 gave to services without one into none."""
        if from_version == 1 and data.get("service") == _FORMER_DEFAULT:
            data["service"] = ""
        return data


class RemoteConnector(ConnectorSecretsMixin, AsyncConnector[RemoteMeta]):
    """Runs one task type at a Flyte connector service.

    `discover` makes one for each task type that a service has. Promise: none by
    default (a create whose answer is lost ends as CREATE_OUTCOME_UNKNOWN); with
    *create_is_idempotent* a lost create is repeated with the same token, which a
    durable service of this library answers with the job that it has.

    The secrets of a task and of *secrets* travel in the request's ``Connection``, in
    the call only. Channels are opened by the first call, one set per event loop, and
    closed with the loop, or by `aclose`.

    Args:
        service: Where the service is; endpoints alone are taken for a RemoteService
            with its defaults, or with *settings*.
        task_type: The task type to run.
        task_version: Its version.
        name: Shown to humans; None for the service's name or endpoints.
        create_is_idempotent: How long the service surely remembers the token in
            ``task_execution_metadata`` (or the task execution id); True for ever.
        secrets: Keyword to environment variable, for every job of this connector.
        policy: None for the defaults.
        **settings: Fields of RemoteService, if *service* is not one.

    Raises:
        ConfigurationError: A setting cannot be used.
    """

    name = "Remote Connector"
    metadata_type = RemoteMeta

    def __init__(
        self,
        service: RemoteService | str | Sequence[str],
        task_type: str,
        task_version: int = 0,
        *,
        name: str | None = None,
        create_is_idempotent: bool | timedelta = False,
        secrets: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        **settings: Any,
    ) -> None:
        self._service = service_of(service, settings)
        references = dict(secrets or {})
        if TOKEN_KEYWORD in references:
            raise ConfigurationError(f"secrets: {TOKEN_KEYWORD!r} is taken")
        if self._service.token is not None:
            references[TOKEN_KEYWORD] = self._service.token
        super().__init__(secrets=references)
        self.name = name or f"Remote Connector ({self._service.identity})"
        self.task_type_name = task_type
        self.task_type_version = task_version
        self.create_is_idempotent = create_is_idempotent
        self.policy = policy
        self._channels = Channels(self._service)

    @classmethod
    async def discover(
        cls,
        service: RemoteService | str | Sequence[str],
        *,
        registry: Registry | None = None,
        register: bool = True,
        override: bool = False,
        create_is_idempotent: bool | timedelta | None = None,
        secrets: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        **settings: Any,
    ) -> list[Self]:
        """Ask a service what it has; return a connector for each task type.

        Args:
            service: As for the class.
            registry: Where they are registered; None for ``ConnectorRegistry``'s.
            register: False only returns them.
            override: As ``Registry.register``.
            create_is_idempotent: As for the class; None believes what the service
                says of itself, which Flyte's own says nothing about.
            secrets: As for the class.
            policy: As for the class.
            **settings: As for the class.

        Raises:
            TransientError: The service is away.
            AuthError: It wants another token or certificate.
            ConnectorAlreadyRegisteredError: A task type is taken; none is registered.
            ConfigurationError: A task type has a name that nobody could use.
        """
        service = service_of(service, settings)
        channels = Channels(service)
        token = None
        if service.token is not None:
            token = environment_value(service.token)
        found, remembered_s = await channels.list_connectors(token)
        promise: bool | timedelta = False
        if create_is_idempotent is not None:
            promise = create_is_idempotent
        elif remembered_s:
            promise = timedelta(seconds=remembered_s)
        connectors = [
            cls(
                service,
                category.name,
                category.version,
                name=name,
                create_is_idempotent=promise,
                secrets=secrets,
                policy=policy,
            )
            for category, name in _categories(found)
        ]
        for connector in connectors:
            connector._channels = channels  # noqa: SLF001 - one set of channels for all
        if register:
            where = DEFAULT_REGISTRY if registry is None else registry
            where.register_all(connectors, override)
        return connectors

    async def aclose(self) -> None:
        """Close the running loop's channels; a later call opens new ones."""
        await self._channels.close()

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: connector_pb2.TaskExecutionMetadata | None = None,
        **kwargs: Any,
    ) -> RemoteMeta:
        """Submit the job with one request, to an endpoint that is connected."""
        token = kwargs.pop(TOKEN_KEYWORD, None)
        try:
            encoded = inputs_proto(task_template, inputs)
        except InvalidInputError as error:
            raise Permanent(str(error)) from error
        request = connector_pb2.CreateTaskRequest(
            inputs=encoded,
            template=task_template,
            output_prefix=output_prefix,
            task_execution_metadata=task_execution_metadata,
            connection=self._connection(kwargs),
        )
        answer = await self._channels.create(request, token)
        return RemoteMeta(
            resource_meta=answer.resource_meta,
            task_type=self.task_type_name,
            task_version=self.task_type_version,
            service=self._service.identity,
            output_prefix=output_prefix,
        )

    async def get(self, resource_meta: RemoteMeta, **kwargs: Any) -> Resource:
        """Tell how the job does."""
        token = kwargs.pop(TOKEN_KEYWORD, None)
        request = connector_pb2.GetTaskRequest(
            **self._job(resource_meta),
            output_prefix=resource_meta.output_prefix,
            connection=self._connection(kwargs),
        )
        answer = await self._channels.read("get", "GetTask", request, token)
        return resource_of(answer.resource)

    async def delete(self, resource_meta: RemoteMeta, **kwargs: Any) -> None:
        """Cancel the job."""
        token = kwargs.pop(TOKEN_KEYWORD, None)
        request = connector_pb2.DeleteTaskRequest(
            **self._job(resource_meta), connection=self._connection(kwargs)
        )
        await self._channels.read("delete", "DeleteTask", request, token)

    async def get_metrics(
        self, resource_meta: RemoteMeta, **kwargs: Any
    ) -> connector_pb2.GetTaskMetricsResponse:
        """Return the job's metrics."""
        token = kwargs.pop(TOKEN_KEYWORD, None)
        request = connector_pb2.GetTaskMetricsRequest(**self._job(resource_meta))
        answer: connector_pb2.GetTaskMetricsResponse = await self._channels.read(
            "metrics", "GetTaskMetrics", request, token
        )
        return answer

    async def get_logs(  # type: ignore[override, unused-ignore]
        self, resource_meta: RemoteMeta, token: str = "", **kwargs: Any
    ) -> AsyncIterator[connector_pb2.GetTaskLogsResponse]:
        """Yield the job's logs from the page *token* on."""
        request = connector_pb2.GetTaskLogsRequest(
            **self._job(resource_meta), token=token
        )
        pages = self._channels.logs(request, kwargs.pop(TOKEN_KEYWORD, None))
        async for page in pages:
            yield page

    def _job(self, meta: RemoteMeta) -> dict[str, Any]:
        """Return what names a job in a request.

        Raises:
            TransientError: It is at another service, which this one must not be asked
                for: "not found" would be taken for the job's end.
        """
        here = self._service.identity
        if meta.service:
            is_here = meta.service == here
        else:
            is_here = self._service.name in (None, _FORMER_DEFAULT)
        if not is_here:
            message = (
                f"the job is at the service {meta.service or _FORMER_DEFAULT!r}, and"
                f" this connector talks to {here!r}: if that is the same one, give it"
                " that name, else register the other one"
            )
            raise TransientError(message)
        category = connector_pb2.TaskCategory(
            name=meta.task_type, version=meta.task_version
        )
        return {"resource_meta": meta.resource_meta, "task_category": category}

    def _connection(self, secrets: dict[str, Any]) -> Connection | None:
        if not secrets:
            return None
        return Connection(task_type=self.task_type_name, secrets=secrets)


def _categories(
    found: Sequence[connector_pb2.Connector],
) -> list[tuple[connector_pb2.TaskCategory, str]]:
    """Return each task type that a service told once, with its connector's name.

    Raises:
        ConfigurationError: A task type is no plain text: cleaned, it would be another.
    """
    told: dict[tuple[str, int], tuple[connector_pb2.TaskCategory, str]] = {}
    for described in found:
        name = " ".join(clean(described.name, _NAME_MAX).split())
        for category in described.supported_task_categories:
            kind = category.name
            if not kind.isprintable():
                shown = clean(kind, _NAME_MAX)
                raise ConfigurationError(f"task type {shown!r} has control characters")
            told[kind, category.version] = (category, name)
    return list(told.values())


def service_of(
    given: RemoteService | str | Sequence[str], settings: dict[str, Any]
) -> RemoteService:
    """Return the service that a user gave in either way.

    Raises:
        ConfigurationError: Both ways at once, or an unknown setting.
    """
    if isinstance(given, RemoteService):
        if settings:
            names = ", ".join(sorted(settings))
            raise ConfigurationError(f"{names}: say it in the RemoteService")
        return given
    known = RemoteService.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise ConfigurationError(f"{name!r} is no setting of RemoteService")
    return RemoteService(endpoints=given, **settings)


# Here, at import, and not in the event loop of the first `discover`: it reads files.
check_decodable(RemoteMeta)
