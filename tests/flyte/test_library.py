"""Without gRPC: everything else works, and what does not says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from flyteidl2.core import literals_pb2

from orchestrator._extras import how_to_install
from orchestrator.flyte._msgpack import from_flyte, pack, to_flyte
from tests.api.project import ROOT
from tests.support.without import without

if TYPE_CHECKING:
    from pathlib import Path

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


MADE_FOR_99 = """
from google.protobuf.runtime_version import Domain, ValidateProtobufRuntimeVersion
ValidateProtobufRuntimeVersion(Domain.PUBLIC, 99, 0, 0, "", "made.proto")
"""


def serve_with(package: str, folder: Path) -> subprocess.Popen[str]:
    """Start ``connectors serve`` with a *package* that wants a newer protobuf."""
    home = folder / package / "v1"
    home.mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    (home / "__init__.py").touch()
    (home / "health.py").write_text(MADE_FOR_99)
    (folder / package / "v1alpha.py").write_text(MADE_FOR_99)
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "connectors", "serve", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_protobuf_that_is_too_old_is_told_with_what_fits(tmp_path: Path) -> None:
    """In one line: pip then takes the libraries that were made for that protobuf.

    Red when ``connectors serve`` died of protobuf's own error.
    """
    with serve_with("grpc_health", tmp_path) as process:
        said = process.communicate(timeout=60)[1].strip()
    there = f"protobuf=={version('protobuf')}"
    assert process.returncode == 2
    assert len(said.splitlines()) == 1
    assert f"newer protobuf than {there}" in said
    assert said.endswith(f"{how_to_install('grpc')} {there}")


def test_reflection_that_cannot_be_used_is_left_out(tmp_path: Path) -> None:
    """It is optional: jobs are served without it."""
    with serve_with("grpc_reflection", tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving on ")
        process.terminate()
        process.communicate(timeout=60)


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
