"""Requests to a definition's own hosts, and to no other; the one user of httpx."""

from __future__ import annotations

import asyncio
import json
import ssl
import zlib
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from orchestrator.connectors._blocking import Blocking
from orchestrator.connectors.http._extra import need
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import httpx

    from orchestrator.connectors.http._definition import HttpDefinition

_IN_THREAD_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECTIONS = 100


class NotSentError(Exception):
    """No connection was made: the service has not seen the request."""


class BrokenError(ConnectionError):
    """The connection broke or timed out: the service may have seen the request."""


class NonsenseError(ValueError):
    """The answer is not what the definition says it would be."""


@dataclass(frozen=True)
class Answer:
    """What the service said."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    threads: Blocking = field(repr=False, compare=False)

    async def document(self) -> Any:
        """Return the body as JSON; None for an empty one.

        Raises:
            NonsenseError: It is no JSON.
        """
        if len(self.body) > _IN_THREAD_BYTES:
            return await self.threads.call(_parse, self.body)
        return _parse(self.body)


def _parse(body: bytes) -> Any:
    if not body.strip():
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NonsenseError(f"the answer is no JSON: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, ready to be sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    submits: bool = False


@dataclass
class _Shared:
    """The connections of one event loop, while anybody uses them."""

    client: httpx.AsyncClient
    users: int = 0


class Client:
    """Sends requests; knows nothing of jobs and little of credentials.

    Redirects are not followed on its own, proxies and .netrc of the environment do
    not count, and connections live only while requests are under way. Large and packed
    answers are read in threads.
    """

    def __init__(self, definition: HttpDefinition) -> None:
        """Prepare for the hosts and limits of *definition*.

        Raises:
            ConfigurationError: httpx is missing, or the CA file is unusable.
        """
        self._httpx: Any = need("httpx")
        with suppress(ImportError):
            # The client would import it in its first request, on the event loop.
            import_module("anyio._backends._asyncio")
        self._hosts = definition.hosts
        self._limits = definition.limits
        self._redirects = definition.redirects
        self._ssl = _context(definition)
        self._threads = Blocking("http")
        self._shared: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shared] = (
            WeakKeyDictionary()
        )

    def close(self) -> None:
        """Let the threads end."""
        self._threads.close()

    async def send(self, call: Call, credentials: Mapping[str, str]) -> Answer:
        """Send *call*, with *credentials* as more headers, to one of our hosts.

        Raises:
            NonsenseError: Its URL, or one that the service redirects to, is not on
                the definition's hosts; or the answer is too large.
            NotSentError: No connection was made.
            BrokenError: It broke afterwards.
        """
        url = self._checked(call.url)
        for left in range(self._redirects, -1, -1):
            answer = await self._once(call, url, {**call.headers, **credentials})
            location = answer.headers.get("location")
            follows = call.method == "GET" and answer.status in _REDIRECTS
            if not follows or not location or not left:
                return answer
            url = self._checked(self.joined(url, location))
        raise AssertionError("unreachable")

    async def send_elsewhere(self, call: Call) -> Answer:
        """Send a *call* that carries its own credentials to the host it names."""
        return await self._once(call, call.url, call.headers)

    def joined(self, base: str, url: str) -> str:
        """Return *url* as seen from *base*.

        Raises:
            NonsenseError: It is no URL.
        """
        try:
            return str(self._httpx.URL(base).join(url))
        except self._httpx.InvalidURL as error:
            raise NonsenseError(f"no usable URL: {error}") from None

    def _checked(self, url: str) -> str:
        try:
            return self._hosts.check(url)
        except ValueError as error:
            raise NonsenseError(str(error)) from None

    async def _once(self, call: Call, url: str, headers: Mapping[str, str]) -> Answer:
        httpx, limits = self._httpx, self._limits
        patience = limits.submit_answer if call.submits else limits.answer
        timeout = httpx.Timeout(
            patience.total_seconds(), connect=limits.connect.total_seconds()
        )
        try:
            async with (
                self._client(alone=call.submits) as client,
                client.stream(
                    call.method,
                    url,
                    headers={**_ALWAYS, **headers},
                    content=call.body,
                    timeout=timeout,
                ) as response,
            ):
                body = await self._read(response)
                packed = response.headers.get("content-encoding", "")
                if packed:
                    limit = limits.answer_bytes
                    body = await self._threads.call(unpacked, body, packed, limit)
                return Answer(
                    response.status_code, response.headers, body, self._threads
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotSentError(_words(error)) from error
        except httpx.HTTPError as error:
            raise BrokenError(_words(error)) from error
        except httpx.InvalidURL as error:
            raise NonsenseError(f"no usable URL: {error}") from None

    async def _read(self, response: httpx.Response) -> bytes:
        limit, body = self._limits.answer_bytes, bytearray()
        # As it was sent: the client's own decoders unpack without a limit.
        generator: Any = response.aiter_raw()
        # Closed here if it is left early, not at some time by the garbage collector.
        async with aclosing(generator) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > limit:
                    raise NonsenseError(f"the answer is larger than {limit} bytes")
        return bytes(body)

    @asynccontextmanager
    async def _client(self, *, alone: bool) -> AsyncIterator[httpx.AsyncClient]:
        """Lend this loop's client; a submit has a connection of its own.

        A kept connection may be closed by the service in the very moment in which a
        request is written, and nobody knows whether it was seen.
        """
        if alone:
            async with self._make() as client:
                yield client
            return
        loop = asyncio.get_running_loop()
        shared = self._shared.get(loop)
        if shared is None:
            shared = self._shared[loop] = _Shared(self._make())
        shared.users += 1
        try:
            yield shared.client
        finally:
            shared.users -= 1
            if not shared.users:
                del self._shared[loop]
                await shared.client.aclose()

    def _make(self) -> httpx.AsyncClient:
        limits = self._httpx.Limits(max_connections=_CONNECTIONS)
        client: httpx.AsyncClient = self._httpx.AsyncClient(
            verify=self._ssl, trust_env=False, follow_redirects=False, limits=limits
        )
        return client


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body that was compressed, though nobody asked for that.

    Raises:
        NonsenseError: It is larger than *limit* bytes, packed more than once, in a way
            that is not known, or broken.
    """
    name = encoding.strip().lower()
    if name == "identity":
        return body
    if name not in ("gzip", "x-gzip"):
        raise NonsenseError(f"the answer's Content-Encoding is {encoding[:80]!r}")
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        data = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise NonsenseError(f"the answer is no gzip: {error}") from None
    if len(data) > limit:
        raise NonsenseError(f"the answer is larger than {limit} bytes")
    if not unpacker.eof and body:
        raise NonsenseError("the answer is gzip without its end")
    return data


_ALWAYS = {"Accept": "application/json", "Accept-Encoding": "identity"}


def _context(definition: HttpDefinition) -> ssl.SSLContext:
    """Return whom to believe: made once, since it reads files."""
    ca_file = definition.tls.ca_file
    urls = (definition.base_url, getattr(definition.auth, "token_url", ""))
    if not definition.allowed_hosts and not any(u.startswith("https") for u in urls):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # believes nobody
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl's own errors are such
        reason = error.strerror or error
        raise ConfigurationError(f"tls.ca_file: {ca_file}: {reason}") from error


def _words(error: Exception) -> str:
    """Return an error as words: some of httpx's have none."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
