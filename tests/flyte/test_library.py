"""Without gRPC: everything else works, and what does not says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flyteidl2.core import literals_pb2

from orchestrator._extras import how_to_install
from orchestrator.flyte._msgpack import from_flyte, pack, to_flyte
from tests.api.project import ROOT
from tests.support.without import without

USE = """
import orchestrator.connectors, orchestrator.flyte
from orchestrator.cli import main
from orchestrator.errors import ConfigurationError
assert "serve" in dir(orchestrator.flyte)
try:
    exec(sys.argv[1])
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "used",
    [
        "from orchestrator.flyte import RemoteConnector",
        "from orchestrator.flyte import serve",
        "from orchestrator.flyte import ServerOptions; ServerOptions()",
        "from orchestrator.connectors import ConnectorService; ConnectorService.run(0)",
    ],
)
def test_without_grpc_the_command_that_installs_it_is_named(used: str) -> None:
    """At the import or the constructor, not in the middle of a job."""
    code = without("grpc", "grpc_health", "prometheus_client") + USE
    done = subprocess.run(
        [sys.executable, "-c", code, used],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert how_to_install("grpc") in done.stdout, done.stderr


def test_structures_are_msgpack_on_the_wire_and_json_here() -> None:
    """Also inside lists, maps and unions; what is no JSON stays as it came."""
    stored = literals_pb2.Literal()
    inner = stored.collection.literals.add().map.literals["a"].scalar.union.value
    inner.scalar.binary.tag = "json"
    inner.scalar.binary.value = b'{"x": [1, "y", null]}'
    wire, again = literals_pb2.Literal(), literals_pb2.Literal()
    to_flyte(stored, wire)
    sent = wire.collection.literals[0].map.literals["a"].scalar.union.value.scalar
    assert sent.binary.tag == "msgpack"
    assert sent.binary.value == pack({"x": [1, "y", None]})
    from_flyte(wire, again)
    assert again == stored


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        ("msgpack", b"\xc4\x01a"),  # bytes
        ("msgpack", b"\xd4\x00\x00"),  # an extension
        ("msgpack", b"\xd6\xff\x00\x00\x00\x00"),  # a timestamp, also one
        ("msgpack", b"\x81\x01\x01"),  # a number as a key
        ("msgpack", b"\xa5ab"),  # a half
        ("msgpack", b""),
        ("json", b"[18446744073709551616]"),  # 65 bits
        ("json", b"[" * 2000 + b"]" * 2000),
    ],
    ids=range(8),
)
def test_what_the_other_cannot_say_stays_as_it_came(tag: str, data: bytes) -> None:
    """Whoever reads it says so; nothing is lost on the way."""
    foreign, copied = literals_pb2.Literal(), literals_pb2.Literal()
    foreign.scalar.binary.tag, foreign.scalar.binary.value = tag, data
    (from_flyte if tag == "msgpack" else to_flyte)(foreign, copied)
    assert copied == foreign
