"""A process that creates one job and is killed, at a named point or afterwards.

``python -m tests.connectors.process_creator ROOT TOKEN POINT COMMAND``: it leads a
group of its own. With the point ``never`` it creates the job, says so on standard
output, and waits to be killed.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from orchestrator.connectors.process import ProcessConnector
from tests.connectors.process_kit import Killer, create, shell


async def main(root: str, token: str, point: str, command: str) -> None:
    """Create the job, then wait for the end that comes from outside."""
    connector = ProcessConnector(root, faults=Killer(point))
    await create(connector, shell(command), token=token)
    print("created", flush=True)  # noqa: T201 - the test waits for this line
    signal.pause()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
