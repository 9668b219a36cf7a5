"""Connector services in processes of their own, and plain calls to them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import grpc

from tests.api.project import ROOT
from tests.flyte.cases import Case, response_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECTOR = "tests.flyte.real_connector"
STOP_S = 20.0
CALL_S = 20.0


@dataclass(frozen=True)
class Running:
    """A service that was started."""

    process: subprocess.Popen[str]
    told: Mapping[str, Any]

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.told['port']}"


@contextmanager
def service(*arguments: str, **environ: str) -> Iterator[Running]:
    """Run ``connectors serve`` with the test's connector until the block ends."""
    words = (arguments) if "--connectors" in arguments else ("--connectors", CONNECTOR)
    more = () if words is arguments else arguments
    with child(
        *("-m", "orchestrator", "connectors", "serve", "--json", *words, *more),
        **environ,
    ) as running:
        yield running


@contextmanager
def child(*arguments: str, **environ: str) -> Iterator[Running]:
    """Run Python, which says in one line of JSON that it is ready, and where."""
    if "orchestrator" in arguments and "--port" not in arguments:
        arguments += ("--port", "0")
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("{"):
                process.kill()
                raise RuntimeError(f"it did not start: {line} {process.stderr.read()}")  # type: ignore[union-attr]
            yield Running(process, json.loads(line))
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


async def answered(channel: grpc.aio.Channel, case: Case, **options: Any) -> Case:
    """Return *case* as the other side of *channel* answers it, byte for byte."""
    kind = response_type(case.method)
    streams = case.method == "GetTaskLogs"
    make = channel.unary_stream if streams else channel.unary_unary
    call: Any = make(
        case.path,
        request_serializer=lambda m: m.SerializeToString(deterministic=True),
        response_deserializer=kind.FromString,
    )
    try:
        if streams:
            pages = [page async for page in call(case.request, timeout=CALL_S)]
            return replace(case, responses=tuple(pages))
        answer = await call(case.request, timeout=CALL_S, **options)
    except grpc.aio.AioRpcError as error:
        return replace(case, status=f"{error.code().name}\n{error.details()}\n")
    return replace(case, responses=(answer,))


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a child prints."""
    assert process.stdout is not None
    return process.stdout.readline()


async def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line that a child prints, without blocking the loop."""
    return await asyncio.to_thread(line_of, process)
