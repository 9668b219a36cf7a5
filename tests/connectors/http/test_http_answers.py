"""Answers that are meant to harm."""

from __future__ import annotations

import gzip
import subprocess
import sys
from contextlib import closing

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors.http import HttpConnector
from orchestrator.connectors.http._client import unpacked
from orchestrator.errors import ThrottledError
from tests.api.project import ROOT
from tests.connectors.http.api import Api, batches, submit
from tests.connectors.http.test_http_auth import OAUTH, oauth
from tests.support.busy import busy_host

BOMB = """
import asyncio, gzip, resource
from orchestrator.connectors.http import HttpConnector
from orchestrator.errors import TransientError
from tests.connectors.http.api import batches

bomb = gzip.compress(gzip.compress(bytes(400 << 20), 9), 9)  # a few KiB
assert len(bomb) < 20_000

async def serve(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Encoding: gzip, gzip\\r\\n"
                 b"Content-Length: %d\\r\\n\\r\\n" % len(bomb) + bomb)
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connector = HttpConnector(batches(f"http://127.0.0.1:{port}"))
    meta = connector.metadata_type("b1", f"127.0.0.1:{port}", "", "t")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        await connector.get(meta)
    except TransientError as error:
        print("refused", error)
    print("GREW", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)

asyncio.run(main())
"""


def test_a_compressed_bomb_costs_no_more_than_answer_bytes() -> None:
    """A few KiB on the wire, 400 MiB in memory, and the limit is checked after."""
    done = subprocess.run(
        [sys.executable, "-c", BOMB],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "GREW" in done.stdout, done.stderr
    assert int(done.stdout.rsplit(None, 1)[1]) < 150


HUGE_DATES = (
    "Mon, 20 Nov 1995 19:12:08 +99999999999999",
    "Mon, 20 Nov 99999999999 00:00:00 GMT",
)


@pytest.mark.parametrize("wait", HUGE_DATES)
async def test_a_wait_that_is_no_date_asks_for_nothing(api: Api, wait: str) -> None:
    """429 is proof that no job was made, whatever stands beside it."""
    api.script("POST", 429, body={"error": "later"}, headers={"Retry-After": wait})
    with pytest.raises(ThrottledError):
        await submit(HttpConnector(batches(api.url)))


@pytest.mark.parametrize("wait", HUGE_DATES)
async def test_a_job_is_polled_whatever_wait_is_asked_for(api: Api, wait: str) -> None:
    connector = HttpConnector(batches(api.url))
    meta = await submit(connector)
    body = {"job": {"status": {"lifecycle": "ACTIVE"}}}
    api.script("GET", 200, body=body, headers={"Retry-After": wait})
    await connector.get(meta)


async def test_a_token_may_live_for_any_number_of_seconds(api: Api) -> None:
    """Nothing was submitted: no reason for an outcome that nobody knows."""
    connector = oauth(api)
    body = {"access_token": "access-token-1-of-this-service", "expires_in": 10**400}
    api.script("POST /oauth", 200, body=body)
    api.require("Bearer access-token-1-of-this-service")
    await submit(connector, secrets=OAUTH)


async def test_a_host_program_that_fills_its_threads_stops_no_answer(api: Api) -> None:
    """A large one is read in a thread of the connector's own."""
    connector = HttpConnector(batches(api.url))
    meta = await submit(connector)
    body = {"status": {"lifecycle": "ACTIVE"}, "filler": "x" * 300_000}
    api.script("GET", 200, body={"job": body})
    with busy_host(), closing(connector):
        resource = await connector.get(meta)
    assert resource.phase == TaskExecution.RUNNING


def test_one_layer_of_gzip_is_read() -> None:
    """Some proxies compress whatever they were asked for; that is harmless."""
    data = gzip.compress(b'{"a": 1}')
    assert unpacked(data, "gzip", 100) == b'{"a": 1}'
    for broken in (data[:-9], b"no gzip"):
        with pytest.raises(ValueError, match="gzip"):
            unpacked(broken, "gzip", 100)
    with pytest.raises(ValueError, match="larger than 100"):
        unpacked(gzip.compress(bytes(10**6)), "gzip", 100)
    with pytest.raises(ValueError, match="br"):
        unpacked(b"", "br", 100)
