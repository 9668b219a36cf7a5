"""Crash and resume: kill -9 the orchestrator, start it again, pay once.

A child process submits a command and is killed while it runs. The command, a
detached job, goes on; this process finds its execution in the database and sees it
to its end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from orchestrator import Orchestrator, Policy, RemotePhase
from orchestrator.connectors import ConnectorRegistry
from orchestrator.connectors.process import ProcessConnector, ProcessTask
from orchestrator.errors import WaitTimeoutError

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")

connector = ProcessConnector()
connector.policy = Policy(
    poll_delay_min=timedelta(milliseconds=100),
    poll_delay_max=timedelta(milliseconds=300),
)
ConnectorRegistry.register(connector)

invoice = ProcessTask(
    "send_invoice",
    command=[
        "sh",
        "-c",
        'echo "sent by $$" >>"$1"; sleep "$2"; echo "invoice sent"',
        "send_invoice",
        "{{.inputs.outbox}}",
        "{{.inputs.seconds}}",
    ],
    inputs={"outbox": str, "seconds": float},
    outputs={"stdout": str},
)


async def child(outbox: str, seconds: float, key: str) -> None:
    """Submit, tell the parent once the command runs, and wait to be killed."""
    async with Orchestrator(DATABASE) as orch:
        handle = await orch.submit(
            invoice, {"outbox": outbox, "seconds": seconds}, idempotency_key=key
        )
        while True:
            try:
                await handle.wait(timeout=0.1)
            except WaitTimeoutError:
                if (await handle.get()).remote_phase == RemotePhase.RUNNING:
                    print("running", flush=True)


async def resume(outbox: str, seconds: float, key: str) -> None:
    """Submit the same again: the key leads to the execution that is there."""
    async with Orchestrator(DATABASE) as orch:
        handle = await orch.submit(
            invoice, {"outbox": outbox, "seconds": seconds}, idempotency_key=key
        )
        print(f"resumed {handle.id}, which was there before: {handle.existing}")
        result = await handle.result(timeout=20)
        print(f"result: {result.strip()}")
        for row in await handle.history():
            print(f"  {row.to_phase:<10} {row.cause:<22} node {(row.node or '-')[:6]}")


def main() -> None:
    """Play both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--child", metavar="KEY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    key = options.child or f"invoice-of-{os.getpid()}"
    outbox = Path(f"outbox-{key}.txt").absolute()
    if options.child:
        asyncio.run(child(str(outbox), options.seconds, key))
        return
    command = [sys.executable, __file__, "--child", key]
    command += ["--seconds", str(options.seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        if process.stdout is None or "running" not in process.stdout.readline():
            raise SystemExit("the child did not start")
        print(f"the command runs; kill -9 of the orchestrator (process {process.pid})")
        process.kill()
    asyncio.run(resume(str(outbox), options.seconds, key))
    sent = outbox.read_text().splitlines()
    outbox.unlink()
    print(f"invoices sent: {len(sent)}")


if __name__ == "__main__":
    main()
