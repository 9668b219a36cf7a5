"""Against Flyte's own package: its service and our connector, and the reverse.

    python -m tests.flyte.real --python PATH [--record]

PATH is a Python that has ``flyte[connector]`` installed. The command ``c0`` beside
it is started with the connector of tests/flyte/real_connector.py; every stored
message is sent to it, and every RPC is driven through an Orchestrator by
RemoteConnector. Then Flyte's generated client, run by that Python, calls our
service. A table shows every RPC; exit code 1 if one of them differs. ``--record``
stores what Flyte's service answers as the golden messages.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from orchestrator import Orchestrator, Policy, Registry, TaskTemplate
from orchestrator._clock import SystemClock
from orchestrator.flyte import RemoteConnector
from orchestrator.models import NativeInterface
from tests.api.project import ROOT
from tests.flyte.cases import API_KEY, requests, store, stored
from tests.flyte.support import CONNECTOR, answered, service

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_S = 120.0
QUICK = Policy(
    poll_delay_min=timedelta(milliseconds=50),
    poll_delay_max=timedelta(milliseconds=200),
    error_delay_min=timedelta(milliseconds=50),
)
Row = tuple[str, str, str]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def flyte_service(python: Path) -> Iterator[str]:
    """Run Flyte's own service until the block ends."""
    port = free_port()
    command = [python, python.with_name("c0"), "--port", port, "--prometheus_port"]
    command += [free_port(), "--modules", CONNECTOR]
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


async def compare(endpoint: str, *, record: bool) -> list[Row]:
    """Send every message to Flyte's service; tell where it answers otherwise."""
    rows: list[Row] = []
    known = {case.name: case for case in stored()}
    async with grpc.aio.insecure_channel(endpoint) as channel:
        async with SystemClock().limit(READY_S):
            await channel.channel_ready()
        for case in requests():
            told = await answered(channel, case)
            if record:
                store(told)
                rows.append(("flyte's service", case.name, "stored"))
                continue
            same = told == known.get(case.name)
            verdict = "as stored" if same else f"DIFFERS: {told}"
            rows.append(("flyte's service", case.name, verdict))
    return rows


def task(phase: str = "SUCCEEDED") -> TaskTemplate:
    """Return a task for the connector, in any service."""
    interface = NativeInterface(
        inputs={"phase": (str, phase), "count": (int, 0)},
        outputs={"text": str, "whole": int, "real": float, "yes": bool},
    )
    return TaskTemplate(
        name="real", interface=interface, task_type="phase", task_type_version=1
    )


async def drive(endpoint: str, folder: Path) -> list[Row]:
    """Drive every RPC of Flyte's service through an Orchestrator."""
    registry = Registry()
    [connector] = await RemoteConnector.discover(
        endpoint, registry=registry, secrets={"api_key": "API_KEY"}, policy=QUICK
    )
    rows = [_row("ListConnectors", connector.name, "Phase Connector")]
    try:
        async with Orchestrator(folder / "real.db", registry=registry) as orch:
            handle = await orch.submit(task(), {})
            values = await handle.result(60)
            rows.append(_row("CreateTask, GetTask", values, ("é", 7, 0.5, True)))
            told = (await handle.get()).message
            rows.append(_row("Connection", told, f"key of {len(API_KEY)} characters"))
            lines = [line async for line in orch.logs(handle.id)]
            pages = ["SUCCEEDED page 0", "SUCCEEDED page 1"]
            rows.append(_row("GetTaskLogs", lines, pages))
            metric = (await orch.metrics(handle.id)).results[0].metric
            rows.append(_row("GetTaskMetrics", metric, "cpu of SUCCEEDED"))
            refused = await (await orch.submit(task("RAISE"), {})).wait(60)
            unknown = "CREATE_OUTCOME_UNKNOWN"
            rows.append(_row("CreateTask raises", refused.error_code, unknown))
            going_on = await orch.submit(task("RUNNING"), {})
            while (await going_on.get()).polls == 0:
                await SystemClock().sleep(0.05)
            await going_on.abort()
            rows.append(_row("DeleteTask", await _deleted(orch, going_on.id), "called"))
    finally:
        await connector.aclose()
    return rows


def _row(what: str, told: object, expected: object) -> Row:
    verdict = str(told) if told == expected else f"DIFFERS: {told}, not {expected}"
    return ("RemoteConnector", what, verdict)


async def _deleted(orch: Orchestrator, execution_id: str) -> str:
    """Wait until delete was called; the connector's job never ends by it."""
    while (await orch.get(execution_id)).phase != "ABORTING":
        await SystemClock().sleep(0.05)
    polls = (await orch.get(execution_id)).polls
    while (execution := await orch.get(execution_id)).polls <= polls:
        if execution.terminal:
            return f"it ended {execution.phase}"
        await SystemClock().sleep(0.05)
    return execution.last_error or "called"


def client_calls(python: Path, *arguments: str) -> list[Row]:
    """Let Flyte's generated client call our service."""
    mode = "durable" if "--durable" in arguments else "pass-through"
    with service(*arguments, "--port", "0", API_KEY=API_KEY) as running:
        done = subprocess.run(
            [python, "-m", "tests.flyte.real_client", running.endpoint, mode],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    rows = [(f"our service, {mode}", line[0], line[1]) for line in lines]
    if done.returncode != 0:
        rows.append((f"our service, {mode}", "client", f"DIFFERS: {done.stderr}"))
    return rows


def main() -> int:
    """Run it all, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.flyte.real")
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    os.environ["API_KEY"] = API_KEY
    python = options.python.absolute()
    with tempfile.TemporaryDirectory() as name, flyte_service(python) as endpoint:
        rows = asyncio.run(compare(endpoint, record=options.record))
        rows += asyncio.run(drive(endpoint, Path(name)))
        rows += client_calls(python)
        database = str(Path(name) / "durable.db")
        rows += client_calls(python, "--durable", "--database", database)
    for side, what, verdict in rows:
        print(f"{side:<26} {what:<24} {verdict}")
    wrong = sum("DIFFERS" in verdict for _, _, verdict in rows)
    print(f"{len(rows)} rows, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
