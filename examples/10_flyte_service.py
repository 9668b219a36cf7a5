"""A service that speaks Flyte's protocol, driven durably: RemoteConnector.

The service is this library's own, in another process; any other one (Python, Go) is
used the same way. Needs the extra ``grpc``. Run it without arguments;
``serve`` is what the other process runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import _missing  # noqa: F401 - without its library it ends in one line
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Orchestrator, Policy, TaskTemplate
from orchestrator.connectors import (
    AsyncConnector,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from orchestrator.flyte import RemoteConnector, ServerOptions, serve
from orchestrator.models import NativeInterface

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")
QUICK = Policy(poll_delay_min=timedelta(milliseconds=50))


@dataclass
class WordsMeta(ResourceMeta):
    """All that this job is."""

    text: str


class WordsConnector(AsyncConnector[WordsMeta]):
    """Counts words: stands for whatever a service does."""

    name = "Words Connector"
    task_type_name = "words"
    metadata_type = WordsMeta

    async def create(  # type: ignore[override, unused-ignore]
        self,
        task_template: Any,  # noqa: ARG002 - Flyte's TaskTemplate as protobuf
        output_prefix: str,  # noqa: ARG002 - a place for large results
        inputs: dict[str, Any] | None = None,
        **_: Any,
    ) -> WordsMeta:
        """Take the text."""
        return WordsMeta(str((inputs or {})["text"]))

    async def get(self, resource_meta: WordsMeta, **_: Any) -> Resource:
        """Tell how many words it has."""
        words = len(resource_meta.text.split())
        return Resource(
            TaskExecution.SUCCEEDED, "counted at the service", outputs={"words": words}
        )

    async def delete(self, resource_meta: WordsMeta, **_: Any) -> None:
        """Forget the job; nothing is left of it anyway."""


async def be_the_service() -> None:
    """Serve, on a free port that the first line tells, until a signal comes."""
    ConnectorRegistry.register(WordsConnector())
    await serve(
        ServerOptions(port=0),
        ready=lambda server: print(json.dumps({"port": server.port}), flush=True),
    )


async def count(endpoint: str) -> None:
    """Use whatever the service has, as if its connectors were here."""
    for connector in await RemoteConnector.discover(endpoint, policy=QUICK):
        kind = f"{connector.task_type_name} ({connector.task_type_version})"
        print(f"{endpoint} has {connector.name}: {kind}")
    task = TaskTemplate(
        name="count_words",
        interface=NativeInterface(inputs={"text": str}, outputs={"words": int}),
        task_type="words",
    )
    async with Orchestrator(DATABASE) as orch:
        handle = await orch.submit(task, {"text": "one row for each execution"})
        print(f"words: {await handle.result()}")
        print(f"said: {(await handle.get()).message}")


async def main() -> None:
    """Start the service, count, and let it end."""
    service = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "serve", stdout=asyncio.subprocess.PIPE
    )
    try:
        if service.stdout is None:
            raise RuntimeError("the service has no output")
        told = json.loads(await service.stdout.readline())
        await count(f"127.0.0.1:{told['port']}")
    finally:
        service.terminate()
        print(f"the service ended with {await service.wait()}")


if __name__ == "__main__":
    asyncio.run(be_the_service() if sys.argv[1:] == ["serve"] else main())
