"""Flyte's two services: every RPC, measured, with errors made fit for the wire."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flyteidl2.connector import connector_pb2
from flyteidl2.connector.connector_pb2 import TaskCategory

from orchestrator._secrets import Redactor, get_logger
from orchestrator.errors import ConnectorNotFoundError
from orchestrator.flyte._codes import REMEMBERED_KEY, status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import grpc.aio

    from orchestrator._registry import Registry
    from orchestrator.flyte._metrics import Metrics

    Context = grpc.aio.ServicerContext[Any, Any]

Q = TypeVar("Q")
A = TypeVar("A")

logger = get_logger(__name__)

_UNREGISTERED = "(not registered)"
"""Metrics' label of all task types that nothing here runs: anybody can invent some."""


class Backend(Protocol):
    """What answers the requests: a connector, or an engine."""

    remembered_s: int | None
    """So long a repeated create makes no second job; None for not at all."""
    redactor: Redactor
    """Knows the secrets of this process that were used."""

    async def create(
        self, request: connector_pb2.CreateTaskRequest
    ) -> connector_pb2.CreateTaskResponse:
        """Submit a job."""
        ...

    async def get(
        self, request: connector_pb2.GetTaskRequest
    ) -> connector_pb2.GetTaskResponse:
        """Tell how a job does."""
        ...

    async def delete(
        self, request: connector_pb2.DeleteTaskRequest
    ) -> connector_pb2.DeleteTaskResponse:
        """Cancel a job."""
        ...

    async def metrics(
        self, request: connector_pb2.GetTaskMetricsRequest
    ) -> connector_pb2.GetTaskMetricsResponse:
        """Tell a job's metrics."""
        ...

    def logs(
        self, request: connector_pb2.GetTaskLogsRequest
    ) -> AsyncIterator[connector_pb2.GetTaskLogsResponse]:
        """Tell a job's logs, page by page."""
        ...

    async def close(self) -> None:
        """End what was started for the calls."""
        ...


class AsyncConnectorService:
    """The service that creates, looks at and deletes jobs."""

    def __init__(self, backend: Backend, registry: Registry, metrics: Metrics) -> None:
        """Let *backend* answer; tell *metrics*, by the task types of *registry*."""
        self._backend = backend
        self._registry = registry
        self._metrics = metrics

    async def CreateTask(  # noqa: N802 - the RPC's name
        self, request: connector_pb2.CreateTaskRequest, context: Context
    ) -> connector_pb2.CreateTaskResponse:
        """Submit a job; answer its resource meta."""
        template = request.template
        asked = TaskCategory(name=template.type, version=template.task_type_version)
        self._metrics.inputs(self._label(asked), request.inputs.ByteSize())
        return await self._answer(
            self._backend.create, "create", asked, request, context
        )

    async def GetTask(  # noqa: N802
        self, request: connector_pb2.GetTaskRequest, context: Context
    ) -> connector_pb2.GetTaskResponse:
        """Tell how a job does."""
        asked = request.task_category
        return await self._answer(self._backend.get, "get", asked, request, context)

    async def DeleteTask(  # noqa: N802
        self, request: connector_pb2.DeleteTaskRequest, context: Context
    ) -> connector_pb2.DeleteTaskResponse:
        """Cancel a job."""
        asked = request.task_category
        return await self._answer(
            self._backend.delete, "delete", asked, request, context
        )

    async def GetTaskMetrics(  # noqa: N802
        self, request: connector_pb2.GetTaskMetricsRequest, context: Context
    ) -> connector_pb2.GetTaskMetricsResponse:
        """Tell a job's metrics."""
        asked = request.task_category
        return await self._answer(
            self._backend.metrics, "metrics", asked, request, context
        )

    async def GetTaskLogs(  # noqa: N802
        self, request: connector_pb2.GetTaskLogsRequest, context: Context
    ) -> AsyncIterator[connector_pb2.GetTaskLogsResponse]:
        """Tell a job's logs, page by page."""
        asked = request.task_category
        label = self._label(asked)
        with self._metrics.timed(label, "logs"):
            try:
                async for page in self._backend.logs(request):
                    yield page
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - a connector may raise anything
                await self._end(error, "logs", asked, request, context)
        self._metrics.succeeded(label, "logs")

    async def _answer(
        self,
        call: Callable[[Q], Awaitable[A]],
        operation: str,
        asked: TaskCategory,
        request: Q,
        context: Context,
    ) -> A:
        label = self._label(asked)
        with self._metrics.timed(label, operation):
            try:
                answer = await call(request)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                await self._end(error, operation, asked, request, context)
                raise
        self._metrics.succeeded(label, operation)
        return answer

    def _label(self, asked: TaskCategory) -> str:
        """Return the task type as metrics tell it."""
        known = (asked.name, asked.version) in self._registry
        return asked.name if known else _UNREGISTERED

    async def _end(
        self,
        error: Exception,
        operation: str,
        asked: TaskCategory,
        request: Any,
        context: Context,
    ) -> None:
        """Answer an error: always raises."""
        own = Redactor()  # a caller's secrets are known for one request only
        connection = getattr(request, "connection", None)
        own.register(dict(connection.secrets) if connection is not None else {})
        shared = self._backend.redactor

        def redact(text: str) -> str:
            return shared.redact(own.redact(text))

        status = status_of(error, operation, asked.name, redact)
        self._metrics.failed(self._label(asked), operation, status.code)
        logger.warning("%s: %s", status.code.name, status.details)
        await context.abort(status.code, status.details, status.trailing)


class ConnectorMetadataService:
    """The service that tells which connectors there are."""

    def __init__(self, registry: Registry, backend: Backend) -> None:
        """Tell of *registry*, and what *backend* promises."""
        self._registry = registry
        self._remembered_s = backend.remembered_s

    async def GetConnector(  # noqa: N802 - the RPC's name
        self, request: connector_pb2.GetConnectorRequest, context: Context
    ) -> connector_pb2.GetConnectorResponse:
        """Describe one connector."""
        try:
            found = self._registry.get_connector_metadata(request.name)
        except ConnectorNotFoundError:
            import grpc  # noqa: PLC0415 - an extra

            details = f"Cannot find connector for name: {request.name}."
            await context.abort(grpc.StatusCode.NOT_FOUND, details)
            raise
        return connector_pb2.GetConnectorResponse(connector=found)

    async def ListConnectors(  # noqa: N802
        self, request: connector_pb2.ListConnectorsRequest, context: Context
    ) -> connector_pb2.ListConnectorsResponse:
        """Describe all connectors; initial metadata tells what a create promises."""
        del request
        if self._remembered_s is not None:
            promise = ((REMEMBERED_KEY, str(self._remembered_s)),)
            await context.send_initial_metadata(promise)
        found = self._registry.list_connectors()
        return connector_pb2.ListConnectorsResponse(connectors=found)
