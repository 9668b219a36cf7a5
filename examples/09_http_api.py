"""A batch API of somebody else, used by declaration: ``batch.yaml`` beside this file.

The service is a job server of the test kit. Its first answer to a submit is lost after
the job was made; the definition says that the service remembers the token, so the
submit is repeated, and one job comes of it.

A definition needs no code, not even this program::

    BATCH_TOKEN=... orchestrator run examples/batch.yaml --input seconds=1
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import _missing  # noqa: F401 - without its library it ends in one line

from orchestrator import Orchestrator
from orchestrator.connectors import ConnectorRegistry
from orchestrator.connectors.http import HttpConnector, HttpTask
from orchestrator.testing import Fault, JobServer, JobSpec, Rule

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")
LOST = Rule(do=Fault.LOSE, verb="create", times=1)


async def run(task: HttpTask, service: JobServer) -> None:
    """Run one job, and show how it went."""
    async with Orchestrator(DATABASE) as orch:
        handle = await orch.submit(task, {"seconds": 0.2})
        token, polls = await handle.result()
        for row in await handle.history():
            print(f"{row.cause:<16} {row.from_phase or '-':<15} -> {row.to_phase}")
        print(f"outputs: token of {len(token)} characters, polls {polls}")
        print(f"submits: {len(service.calls('create'))}, jobs: {len(service.jobs())}")


def main() -> None:
    """Start the service, point the definition at it, and run."""
    os.environ.setdefault("BATCH_TOKEN", "kept-by-whoever-starts-the-program")
    declared = HttpConnector.load(Path(__file__).with_name("batch.yaml")).definition
    with JobServer(JobSpec(), (LOST,)) as service:
        # Yours has one address: HttpConnector.load("batch.yaml") would be all.
        here = declared.model_copy(update={"base_url": f"{service.url}/I"})
        ConnectorRegistry.register(HttpConnector(here))
        asyncio.run(run(HttpTask("nightly", here), service))


if __name__ == "__main__":
    main()
