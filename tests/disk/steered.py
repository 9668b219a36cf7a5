"""A worker that its parent steers: it submits when told, and survives refusals.

Reads from standard input ``SUBMIT batch`` (says ``ACK key id`` or ``REFUSED key``
for each, then ``SUBMITTED batch``) and ``FINISH`` (says ``TERMINAL`` when all is);
the end of input is the end. Says what ``tests.disk.worker`` says, too; warnings and
errors of the engine go to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from typing import TYPE_CHECKING

from orchestrator import Handle, Orchestrator
from orchestrator._registry import Registry
from orchestrator.errors import StoreUnavailableError
from orchestrator.testing import ServiceClass
from tests.crash.scenario import KINDS, Plan, batch
from tests.crash.worker import policy_of, say, task_of
from tests.disk.worker import say_commits
from tests.jobserver.client import JobClient
from tests.jobserver.connectors import JobServerI

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = ServiceClass.IDEMPOTENT
_TOO_LONG = ("never answered", "times out")
WITHOUT = tuple(
    name
    for name, kind in KINDS.items()
    if kind.abort_at or kind.give_up or name in _TOO_LONG
)
"""Kinds that need a user's hand, or whose end depends on how long the disk is away."""


def plans(number: int, jobs: int) -> list[Plan]:
    """Return what ``SUBMIT number`` submits."""
    return batch(SERVICE, number, jobs, 0, WITHOUT)


async def _orders() -> AsyncIterator[list[str]]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        yield line.decode().split()
    transport.close()


async def _submit(orchestrator: Orchestrator, plan: Plan) -> Handle | None:
    try:
        handle = await orchestrator.submit(
            task_of(plan, JobServerI.task_type_name),
            {"spec": json.dumps(plan.spec.to_json())},
            idempotency_key=plan.key,
        )
    except StoreUnavailableError as error:
        say("REFUSED", plan.key, str(error))
        return None
    say("ACK", plan.key, handle.id)
    return handle


async def work(options: argparse.Namespace) -> None:
    """Do what is ordered."""
    host, _, port = options.server.rpartition(":")
    client = JobClient(host, int(port))
    registry = Registry()
    registry.register(JobServerI(client, policy=policy_of(SERVICE)))
    handles: list[Handle | None] = []
    async with Orchestrator(options.database, registry=registry) as orchestrator:
        say("OPEN")
        async for order in _orders():
            match order:
                case ["SUBMIT", number]:
                    todo = plans(int(number), options.jobs)
                    handles += await asyncio.gather(
                        *(_submit(orchestrator, plan) for plan in todo)
                    )
                    say("SUBMITTED", number)
                case ["FINISH"]:
                    accepted = [handle for handle in handles if handle is not None]
                    await asyncio.gather(*(handle.wait() for handle in accepted))
                    say("TERMINAL")
    await client.aclose()
    say("DONE")


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="python -m tests.disk.steered")
    parser.add_argument("--database", required=True)
    parser.add_argument("--server", required=True, help="host:port of the job server")
    parser.add_argument("--jobs", type=int, default=20, help="jobs per batch")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    say_commits()
    asyncio.run(work(options))


if __name__ == "__main__":
    main()
