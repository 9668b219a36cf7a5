"""A small HTTP client with keep-alive: an honest transport.

It never repeats a request and never hides how one ended: a connection that cannot
be opened is a ``NotSentError``, everything after the first byte was written is
whatever the connection raises, and means "nobody knows".
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any


class NotSentError(ConnectionError):
    """No connection: the request certainly did not reach the server."""


class CutError(ConnectionError):
    """The connection ended before the answer was complete."""


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class JobClient:
    """Requests to one server, over as many connections as are in use at once.

    Connections belong to the event loop that opened them; ``aclose`` closes the
    running loop's.
    """

    def __init__(self, host: str, port: int) -> None:
        """Remember the address; nothing is opened yet."""
        self._host = host
        self._port = port
        self._idle: dict[asyncio.AbstractEventLoop, list[_Connection]] = {}

    async def request(self, method: str, path: str, body: object = None) -> Answer:
        """Send one request and return its answer, whatever its status.

        Raises:
            NotSentError: The server could not be reached; nothing was sent.
            ConnectionError: Nobody knows whether the request was executed.
        """
        idle = self._idle.setdefault(asyncio.get_running_loop(), [])
        reader, writer = await self._connection(idle)
        done = False
        try:
            payload = b"" if body is None else json.dumps(body).encode()
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n"
                f"Content-Length: {len(payload)}\r\n\r\n"
            )
            writer.write(head.encode() + payload)
            answer = await _read(reader)
            done = True
        finally:
            if done:
                idle.append((reader, writer))
            else:  # half a conversation: nothing more can be said on it
                writer.transport.abort()
        return answer

    async def _connection(self, idle: list[_Connection]) -> _Connection:
        while idle:
            reader, writer = idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        try:
            return await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            msg = f"no connection to {self._host}:{self._port}: {error}"
            raise NotSentError(msg) from error

    async def aclose(self) -> None:
        """Close the idle connections of the running loop."""
        for _reader, writer in self._idle.pop(asyncio.get_running_loop(), []):
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Answer:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError as error:
        msg = "the connection was cut before the answer was complete"
        raise CutError(msg) from error
    return Answer(int(first.split(" ")[1]), headers, json.loads(raw or b"{}"))
