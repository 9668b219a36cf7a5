"""A connector whose every call is a line in a file, and a durable service that dies.

Its jobs end when the file ``<ledger>.done`` is there. ``python -m
tests.flyte.counting --database PATH --port N --die-at POINT`` serves it, and kills
itself at a named point of the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Orchestrator, Policy, Registry
from orchestrator._clock import SystemClock
from orchestrator.connectors import (
    AsyncConnector,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from orchestrator.flyte import ConnectorServer, ServerOptions
from tests.flyte.real import QUICK


@dataclass
class CountedMeta(ResourceMeta):
    """What a job was told when it was made."""

    run: str
    prefix: str
    labels: dict[str, str]


class CountingConnector(AsyncConnector[CountedMeta]):
    """Writes a line per create and per delete to the file LEDGER."""

    name = "Counting Connector"
    task_type_name = "counted"
    metadata_type = CountedMeta
    policy: Policy | None = QUICK

    def __init__(self) -> None:
        self._ledger = Path(os.environ["LEDGER"])

    async def create(  # type: ignore[override, unused-ignore]
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: Any = None,
        **kwargs: Any,
    ) -> CountedMeta:
        """Count a job."""
        execution = task_execution_metadata.task_execution_id.node_execution_id
        await self._note("create")
        labels = dict(task_execution_metadata.labels)
        return CountedMeta(execution.execution_id.name, output_prefix, labels)

    async def get(self, resource_meta: CountedMeta, **kwargs: Any) -> Resource:
        """Tell the job as it was made."""
        done = await asyncio.to_thread(self._ledger.with_suffix(".done").exists)
        deleted = "delete" in await asyncio.to_thread(self._ledger.read_text)
        told = {"run": resource_meta.run, "prefix": resource_meta.prefix}
        if deleted:
            return Resource(TaskExecution.ABORTED, custom_info=told)
        if not done:
            return Resource(TaskExecution.RUNNING, custom_info=told)
        return Resource(TaskExecution.SUCCEEDED, custom_info=told)

    async def delete(self, resource_meta: CountedMeta, **kwargs: Any) -> None:
        """Count a deletion."""
        await self._note("delete")

    async def _note(self, what: str) -> None:
        def write() -> None:
            with self._ledger.open("a") as ledger:
                ledger.write(what + "\n")

        await asyncio.to_thread(write)


class Dying:
    """Kills the process at a named point."""

    def __init__(self, point: str) -> None:
        self._point = point

    def reach(self, name: str) -> None:
        """Die, if this is the point."""
        if name == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(options: argparse.Namespace) -> None:
    """Serve until a signal comes, or the point."""
    registry = Registry()
    registry.register(CountingConnector())
    faults = Dying(options.die_at)
    async with (
        Orchestrator(options.database, registry=registry, faults=faults) as orch,
        ConnectorServer(ServerOptions(port=options.port), orchestrator=orch) as server,
    ):
        print(json.dumps({"port": server.port}), flush=True)  # noqa: T201 - one line
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        async with SystemClock().limit(60):
            await ended.wait()
        await server.stop(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--die-at", default="")
    asyncio.run(main(parser.parse_args()))
elif "LEDGER" in os.environ:
    ConnectorRegistry.register(CountingConnector())
