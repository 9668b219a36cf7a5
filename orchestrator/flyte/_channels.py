"""Channels to a connector service: opened on first use, one set per event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import grpc
import grpc.aio
from flyteidl2.connector import connector_pb2, service_pb2_grpc

from orchestrator._clock import SystemClock
from orchestrator.errors import AuthError, ConfigurationError, TransientError
from orchestrator.flyte._auth import HEADER, bearer
from orchestrator.flyte._codes import REMEMBERED_KEY, error_of
from orchestrator.flyte._target import is_header_value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from datetime import timedelta

    from orchestrator.flyte._target import RemoteService

_RECONNECT_MIN_MS, _RECONNECT_MAX_MS = 500, 10_000
_KEEPALIVE_TIMEOUT_MS = 10_000
_REMEMBERED_MAX_S = 100 * 365 * 24 * 3600
_DIGITS_MAX = 20


class Peer(NamedTuple):
    """One endpoint, connected or about to be."""

    target: str
    channel: grpc.aio.Channel
    jobs: Any
    about: Any


class _Pool:
    """The endpoints of one event loop, and whose turn it is."""

    def __init__(self, peers: list[Peer]) -> None:
        self._peers = peers
        self._turn = 0

    def in_turn(self) -> list[Peer]:
        """Return all endpoints, each call beginning with another one."""
        start, self._turn = self._turn, (self._turn + 1) % len(self._peers)
        return self._peers[start:] + self._peers[:start]

    async def close(self) -> None:
        for peer in self._peers:
            await peer.channel.close(None)


class Channels:
    """Calls to one service from any event loop.

    A loop's channels are closed by `close`, else when the loop shuts down its
    asynchronous generators, as ``asyncio.run`` does.
    """

    def __init__(self, service: RemoteService) -> None:
        """Talk to *service*; nothing is opened yet."""
        self._service = service
        self._clock = SystemClock()
        self._lives: WeakKeyDictionary[
            asyncio.AbstractEventLoop, AsyncGenerator[_Pool, None]
        ] = WeakKeyDictionary()
        self._opening: WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Task[_Pool]
        ] = WeakKeyDictionary()

    async def close(self) -> None:
        """Close the running loop's channels; a later call opens new ones."""
        loop = asyncio.get_running_loop()
        self._opening.pop(loop, None)
        life = self._lives.pop(loop, None)
        if life is not None:
            await life.aclose()

    async def create(
        self, request: connector_pb2.CreateTaskRequest, token: str | None
    ) -> connector_pb2.CreateTaskResponse:
        """Create a job at one endpoint, with one request.

        Raises:
            TransientError: No endpoint could be connected to: nothing was sent.
            Exception: As `error_of`.
        """
        peer = await self._connected()
        limit = self._service.create_timeout
        try:
            answer: connector_pb2.CreateTaskResponse = await peer.jobs.CreateTask(
                request, **self._call(limit, token)
            )
        except grpc.aio.AioRpcError as error:
            raise _error("create", error) from error
        return answer

    async def read(
        self, operation: str, method: str, request: Any, token: str | None
    ) -> Any:
        """Make a call that may be repeated: at the next endpoint if one is away.

        Raises:
            Exception: As `error_of`; of the last endpoint that was tried.
        """
        last: grpc.aio.AioRpcError | None = None
        for peer in (await self._pool()).in_turn():
            call = getattr(peer.jobs, method)
            try:
                return await call(request, **self._call(self._service.timeout, token))
            except grpc.aio.AioRpcError as error:
                last = error
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    break
        assert last is not None  # noqa: S101 - there is at least one endpoint
        raise _error(operation, last) from last

    async def logs(
        self, request: connector_pb2.GetTaskLogsRequest, token: str | None
    ) -> AsyncIterator[connector_pb2.GetTaskLogsResponse]:
        """Read a stream of logs.

        Raises:
            Exception: As `error_of`.
        """
        peer = (await self._pool()).in_turn()[0]
        limit = self._service.logs_timeout
        stream = peer.jobs.GetTaskLogs(request, **self._call(limit, token))
        try:
            async for page in stream:
                yield page
        except grpc.aio.AioRpcError as error:
            raise _error("logs", error) from error
        finally:
            stream.cancel()  # of no effect on one that has ended

    async def list_connectors(
        self, token: str | None
    ) -> tuple[list[connector_pb2.Connector], int | None]:
        """Return what the service has, and for how many seconds it knows a create.

        Raises:
            Exception: As `error_of`.
        """
        request = connector_pb2.ListConnectorsRequest()
        last: grpc.aio.AioRpcError | None = None
        for peer in (await self._pool()).in_turn():
            limit = self._service.timeout
            call = peer.about.ListConnectors(request, **self._call(limit, token))
            try:
                answer = await call
                told = _texts(await call.initial_metadata()).get(REMEMBERED_KEY, "")
            except grpc.aio.AioRpcError as error:
                last = error
                continue
            return list(answer.connectors), _seconds(told)
        assert last is not None  # noqa: S101 - there is at least one endpoint
        raise _error("list", last) from last

    def _call(self, limit: timedelta, token: str | None) -> dict[str, Any]:
        metadata = list(self._service.metadata.items())
        if token is not None:
            metadata.append((HEADER, _sendable(bearer(token))))
        return {"timeout": limit.total_seconds(), "metadata": metadata}

    async def _connected(self) -> Peer:
        """Return an endpoint that is connected now.

        Raises:
            TransientError: There is none; nothing was sent.
        """
        peers = (await self._pool()).in_turn()
        for peer in peers:
            peer.channel.get_state(try_to_connect=True)
        for peer in peers:
            try:
                async with self._clock.limit(
                    self._service.connect_timeout.total_seconds()
                ):
                    if await _is_ready(peer.channel):
                        return peer
            except TimeoutError:
                continue
        names = ", ".join(peer.target for peer in peers)
        raise TransientError(f"no connection to {names}: nothing was sent")

    async def _pool(self) -> _Pool:
        loop = asyncio.get_running_loop()
        opening = self._opening.get(loop)
        if opening is None or (
            opening.done() and (opening.cancelled() or opening.exception() is not None)
        ):
            life = self._lives[loop] = self._live()
            opening = self._opening[loop] = loop.create_task(anext(life))
        return await asyncio.shield(opening)

    async def _live(self) -> AsyncGenerator[_Pool, None]:
        credentials = await self._credentials()
        pool = _Pool([self._peer(t, credentials) for t in self._service.targets])
        try:
            while True:
                yield pool
        finally:
            await pool.close()

    def _peer(self, target: str, credentials: grpc.ChannelCredentials | None) -> Peer:
        options = channel_options(self._service)
        if credentials is None:
            channel = grpc.aio.insecure_channel(target, options=options)
        else:
            channel = grpc.aio.secure_channel(target, credentials, options=options)
        jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
        about = service_pb2_grpc.ConnectorMetadataServiceStub(channel)
        return Peer(target, channel, jobs, about)

    async def _credentials(self) -> grpc.ChannelCredentials | None:
        service = self._service
        if not service.encrypted:
            return None
        parts: list[bytes | None] = []
        for name in ("ca_file", "key_file", "cert_file"):
            path = getattr(service, name)
            try:
                read: Callable[[], bytes] | None = path and Path(path).read_bytes
                parts.append(await asyncio.to_thread(read) if read else None)
            except OSError as error:
                # The engine holds the job until somebody has put the file there.
                raise AuthError(f"{name}: {error}") from error
        ca, key, chain = parts
        try:
            return grpc.ssl_channel_credentials(ca, key, chain)
        except Exception as error:
            raise ConfigurationError(f"certificates: {error}") from error


def channel_options(service: RemoteService) -> list[tuple[str, Any]]:
    """Return gRPC's channel arguments: it must not repeat a call by itself."""
    options: list[tuple[str, Any]] = [
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_receive_message_length", service.message_bytes_max),
        ("grpc.max_send_message_length", service.message_bytes_max),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", _RECONNECT_MIN_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MS),
        ("grpc.enable_http_proxy", 0 if service.local else 1),
    ]
    if service.keepalive is not None:
        milliseconds = int(service.keepalive.total_seconds() * 1000)
        options.append(("grpc.keepalive_time_ms", milliseconds))
        options.append(("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS))
    if service.server_name is not None:
        options.append(("grpc.ssl_target_name_override", service.server_name))
    return options


async def _is_ready(channel: grpc.aio.Channel) -> bool:
    """Wait until *channel* is connected, or cannot be."""
    states = grpc.ChannelConnectivity
    state = channel.get_state(try_to_connect=True)
    while state is not states.READY:
        if state in (states.TRANSIENT_FAILURE, states.SHUTDOWN):
            return False
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return True


def _sendable(value: str) -> str:
    """Return a header's value.

    Raises:
        AuthError: gRPC could not send it; it is not quoted, since it is a secret.
    """
    if not is_header_value(value):
        what = "a line break, another control character or what is not ASCII"
        raise AuthError(f"unusable secret: the service's token holds {what}")
    return value


def _seconds(told: str) -> int | None:
    """Return a number of seconds that a service told, None for what is none."""
    if not told.isdecimal():
        return None
    # A longer text is no time, and more than Python reads.
    return min(int(told), _REMEMBERED_MAX_S) if len(told) < _DIGITS_MAX else None


def _error(operation: str, error: grpc.aio.AioRpcError) -> Exception:
    trailing = _texts(error.trailing_metadata())
    return error_of(operation, error.code(), error.details() or "", trailing)


def _texts(metadata: Any) -> dict[str, str]:
    return {k: v for k, v in metadata or () if isinstance(v, str)}
