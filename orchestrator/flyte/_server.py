"""A gRPC server of Flyte's connector services: its life from start to graceful stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio
from flyteidl2.connector import service_pb2, service_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer  # pyright: ignore[reportMissingImports] - the stubs lack it

from orchestrator._config import Config, load_config
from orchestrator._orchestrator import Orchestrator
from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator._secrets import Use, environment_value, get_logger, secret_providers
from orchestrator.errors import ConfigurationError
from orchestrator.flyte._auth import TokenInterceptor
from orchestrator.flyte._direct import Direct
from orchestrator.flyte._durable import Durable
from orchestrator.flyte._hosts import address
from orchestrator.flyte._library import require
from orchestrator.flyte._metrics import Metrics, MetricsPage, PrometheusMetrics
from orchestrator.flyte._options import ServerOptions
from orchestrator.flyte._service import AsyncConnectorService, ConnectorMetadataService

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from orchestrator._registry import Registry
    from orchestrator._secrets import SecretProvider
    from orchestrator.flyte._service import Backend

logger = get_logger(__name__)

SERVICES: tuple[str, ...] = tuple(
    service.full_name for service in service_pb2.DESCRIPTOR.services_by_name.values()
)
_PING_MIN_MS = 10_000
"""Clients may send keepalive pings this often; gRPC's default is five minutes."""


class ConnectorServer:
    """Flyte's services on one port; an async context manager.

    Args:
        options: Where and how to listen; None for the defaults.
        orchestrator: An open Orchestrator: the service is durable. None: every
            request is one call of a connector.
        registry: The connectors; None for those of the *orchestrator*, else for those
            of ``ConnectorRegistry``.
        secrets: Where the connectors' own secrets are looked up in pass-through, as
            for Orchestrator; None for the environment and mounted files.

    Raises:
        SecretNotFoundError: The token's variable is not set.
    """

    def __init__(
        self,
        options: ServerOptions | None = None,
        *,
        orchestrator: Orchestrator | None = None,
        registry: Registry | None = None,
        secrets: Sequence[SecretProvider] | None = None,
    ) -> None:
        self._options = options or ServerOptions()
        if registry is None:
            registry = DEFAULT_REGISTRY
            if orchestrator is not None:
                registry = orchestrator._registry  # noqa: SLF001 - one library
        self._registry = registry
        if secrets is None:
            secrets = secret_providers(Config().secrets)
        self._backend: Backend = (
            Direct(self._registry, secrets)
            if orchestrator is None
            else Durable(orchestrator, self._registry)
        )
        self._token: str | None = None
        if self._options.token is not None:
            self._token = environment_value(self._options.token)
            # Never over: it is redacted for as long as this process serves.
            self._token_use = Use(self._backend.redactor, [self._token])
        self._metrics = Metrics()
        self._page: MetricsPage | None = None
        if self._options.prometheus_port is not None:
            counted = PrometheusMetrics()
            host, port = self._options.prometheus_host, self._options.prometheus_port
            self._metrics, self._page = counted, MetricsPage(counted, host, port)
        self._server: Any = None
        self._health: Any = None
        self._closed = False
        self.port = 0

    @property
    def prometheus_port(self) -> int | None:
        """The port of the metrics page, None without one."""
        return None if self._page is None else self._page.port

    async def __aenter__(self) -> Self:
        """Start; see `start`."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; see `stop`."""
        await self.stop()

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            ConfigurationError: The port is taken, or a file cannot be read.
        """
        options = self._options
        credentials = await _credentials(options)
        interceptors = [] if self._token is None else [TokenInterceptor(self._token)]
        self._server = grpc.aio.server(
            interceptors=interceptors,
            maximum_concurrent_rpcs=options.calls_max,
            options=[
                ("grpc.max_receive_message_length", options.message_bytes_max),
                ("grpc.max_send_message_length", options.message_bytes_max),
                # A second server on the port is an error, not half of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", _PING_MIN_MS),
            ],
        )
        await self._add_services()
        where = address(options.host, options.port)
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(where)
            else:
                self.port = self._server.add_secure_port(where, credentials)
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {where}: {error}") from error
        if self._page is not None:
            try:
                await self._page.start()
            except OSError as error:
                message = f"prometheus_port: cannot listen: {error}"
                raise ConfigurationError(message) from error
        await self._server.start()
        for service in (*SERVICES, health.SERVICE_NAME, ""):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def _add_services(self) -> None:
        server, backend = self._server, self._backend
        service_pb2_grpc.add_AsyncConnectorServiceServicer_to_server(
            AsyncConnectorService(backend, self._registry, self._metrics), server
        )
        service_pb2_grpc.add_ConnectorMetadataServiceServicer_to_server(
            ConnectorMetadataService(self._registry, backend), server
        )
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            require("grpc_reflection.v1alpha.reflection")
        except ConfigurationError as error:
            logger.info("no reflection: %s", error)
            return
        from grpc_reflection.v1alpha import reflection  # noqa: PLC0415 - optional

        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)

    async def stop(self, grace_s: float | None = None) -> None:
        """Say NOT_SERVING, take no more calls, let those in flight end, close.

        Args:
            grace_s: Seconds to wait for calls in flight; None for ``options.grace``.
        """
        if self._server is None:
            return
        seconds = self._options.grace.total_seconds() if grace_s is None else grace_s
        if self._health is not None:
            await self._health.enter_graceful_shutdown()
        await self._server.stop(seconds)
        if self._page is not None:
            await self._page.stop()
        if not self._closed:
            self._closed = True
            await self._backend.close()

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._server.wait_for_termination()


async def _credentials(options: ServerOptions) -> grpc.ServerCredentials | None:
    if options.cert_file is None or options.key_file is None:
        return None
    chain = await read("cert_file", options.cert_file)
    key = await read("key_file", options.key_file)
    if options.client_ca_file is None:
        return grpc.ssl_server_credentials([(key, chain)])
    ca = await read("client_ca_file", options.client_ca_file)
    return grpc.ssl_server_credentials([(key, chain)], ca, require_client_auth=True)


async def read(field: str, path: str | os.PathLike[str]) -> bytes:
    """Return what is in a file, read by a thread.

    Raises:
        ConfigurationError: Names the setting.
    """
    try:
        return await asyncio.to_thread(Path(path).read_bytes)
    except OSError as error:
        raise ConfigurationError(f"{field}: {error}") from error


async def serve(
    options: ServerOptions | None = None,
    *,
    durable: bool = False,
    database: str | os.PathLike[str] | None = None,
    registry: Registry | None = None,
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    ready: Callable[[ConnectorServer], None] | None = None,
) -> None:
    """Serve connectors until a signal comes or the task is cancelled.

    Then the health service says NOT_SERVING, and calls in flight get
    ``options.grace`` to end. A second signal ends the wait.

    Args:
        options: Where and how to listen; None for the defaults.
        durable: Whether jobs are executions of an engine that runs here.
        database: The engine's; a path or URL, None for ``ORCHESTRATOR_DATABASE``,
            else ``./orchestrator.db``. Only with *durable*.
        registry: The connectors; None for those of ``ConnectorRegistry``.
        signals: What stops the server; none in a thread.
        ready: Called once the server listens.

    Raises:
        ConfigurationError: A setting cannot be used.
        StoreUnavailableError: The database cannot be opened.
    """
    if database is not None and not durable:
        raise ConfigurationError("database is for a durable service: say durable=True")
    options = options or ServerOptions()
    if not durable:
        config = await asyncio.to_thread(load_config)
        sources = secret_providers(config.secrets)
        server = ConnectorServer(options, registry=registry, secrets=sources)
        await _serve(server, signals, ready)
        return
    async with Orchestrator(database, registry=registry) as orchestrator:
        server = ConnectorServer(options, orchestrator=orchestrator, registry=registry)
        await _serve(server, signals, ready)


async def _serve(
    server: ConnectorServer,
    signals: Sequence[signal.Signals],
    ready: Callable[[ConnectorServer], None] | None,
) -> None:
    loop, stopped, hurried = (
        asyncio.get_running_loop(),
        asyncio.Event(),
        asyncio.Event(),
    )

    def on_signal() -> None:
        (hurried if stopped.is_set() else stopped).set()

    await server.start()
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        if ready is not None:
            ready(server)
        await stopped.wait()
        await _drain(server, hurried)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        await asyncio.shield(server.stop(0))


async def _drain(server: ConnectorServer, hurried: asyncio.Event) -> None:
    """Let calls in flight end, for as long as nobody is in a hurry."""
    draining = asyncio.ensure_future(server.stop())
    waiting = asyncio.ensure_future(hurried.wait())
    try:
        await asyncio.wait((draining, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if hurried.is_set():
            await server.stop(0)
        await draining
