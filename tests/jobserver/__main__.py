"""Run a job server: ``python -m tests.jobserver --ledger FILE --port 0``.

Prints ``PORT <number>`` once it listens, and runs until it is told to stop: by
SIGTERM, SIGINT, or the end of its standard input with ``--until-stdin-closes``.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from orchestrator._clock import SystemClock
from orchestrator.testing._jobserver._server import Listener
from tests.jobserver.ledger import Ledger


async def serve(options: argparse.Namespace) -> None:
    """Serve until told to stop."""
    server = Listener(
        Ledger(options.ledger),
        SystemClock(),
        remember_s=options.remember_s,
        seed=options.seed,
    )
    port = await server.start(options.host, options.port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if options.until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), stopped.set)
    sys.stdout.write(f"PORT {port}\n")
    sys.stdout.flush()
    await stopped.wait()
    await server.stop()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.jobserver")
    parser.add_argument("--ledger", required=True, help="file of the ledger")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--seed", default="0", help="decides the rules' chances")
    parser.add_argument(
        "--remember-s",
        type=float,
        default=1.0,
        help="seconds for which class T remembers a token",
    )
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop when the process that started this one is gone",
    )
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
