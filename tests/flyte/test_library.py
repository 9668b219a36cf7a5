"""Without gRPC: everything else works, and what does not says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flyteidl2.core import literals_pb2

from orchestrator.flyte._msgpack import from_flyte, pack, to_flyte
from tests.api.project import ROOT

WITHOUT = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"grpc", "grpc_health", "prometheus_client"}:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Nothing())
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
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, used],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install 'orchestrator[grpc]'" in done.stdout, done.stderr


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
    foreign = literals_pb2.Literal()
    foreign.scalar.binary.tag, foreign.scalar.binary.value = "msgpack", b"\xc4\x01a"
    from_flyte(foreign, again)
    assert again == foreign
