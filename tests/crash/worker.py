"""The process that is killed: submits its batches and runs until all is terminal.

Speaks on standard output, one line per fact, written before anything else happens:
``OPEN``, ``ACK key id`` (the submit returned), ``WISH id`` (the abort returned),
``TERMINAL`` and ``DONE``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import contextmanager, suppress
from datetime import timedelta
from inspect import Parameter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from orchestrator import Handle, Orchestrator
from orchestrator._config import Config, Policy
from orchestrator._faults import FAULT_POINTS
from orchestrator._registry import Registry
from orchestrator._tasks import RetryStrategy, TaskTemplate, Timeout
from orchestrator.models import NativeInterface
from tests.crash.board import Board
from tests.crash.scenario import CREATE_TIMEOUT_S, STAGES, Plan, batch
from tests.jobserver.client import JobClient
from tests.jobserver.connectors import CONNECTORS
from tests.jobserver.vocabulary import ServiceClass, execution_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_INTERFACE = NativeInterface(
    inputs={"spec": (str, Parameter.empty)}, outputs={"job_id": str, "token": str}
)
_CALL_TIMEOUT = timedelta(seconds=CREATE_TIMEOUT_S)
POLICY = Policy(
    poll_delay_min=timedelta(milliseconds=10),
    poll_delay_max=timedelta(milliseconds=40),
    error_delay_min=timedelta(milliseconds=10),
    error_delay_max=timedelta(milliseconds=40),
    hold_delay=timedelta(milliseconds=40),
    create_timeout=_CALL_TIMEOUT,
    create_hard_timeout=3 * _CALL_TIMEOUT,
    get_timeout=_CALL_TIMEOUT,
    delete_timeout=_CALL_TIMEOUT,
    find_timeout=_CALL_TIMEOUT,
    find_settle=timedelta(seconds=0.2),
)


def say(*words: str) -> None:
    """Write one line at once: no buffer may swallow an acknowledgement."""
    os.write(1, (" ".join(words) + "\n").encode())


class Killer:
    """The faults object: counts every named point and dies at the chosen one."""

    def __init__(self, board: Board, name: str, nth: int) -> None:
        """Die when *name* is reached for the *nth* time; an empty name never."""
        self._board = board
        self._name = name
        self._nth = nth

    def reach(self, name: str) -> None:
        """Take note that the engine is at *name*."""
        times = self._board.reached(name)
        if name == "writer.before_begin":
            self._board.set("commit", 1)
        elif name == "writer.after_commit":
            self._board.set("commit", 0)
        if name == self._name and times == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)


class Dice:
    """A faults object that dies at the n-th point reached, whatever its name."""

    def __init__(self, board: Board, seed: str) -> None:
        """Draw n from *seed*."""
        self._left = Random(seed).randint(1, 1500)
        self._inner = Killer(board, "", 0)

    def reach(self, name: str) -> None:
        """Count down."""
        self._inner.reach(name)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Aborter:
    """Wishes the aborts of the plan when their executions come to their stage."""

    def __init__(self, board: Board) -> None:
        """Mark the calls on *board*."""
        self._board = board
        self._stages: dict[str, int] = {}
        self._wanted: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.orchestrator: Orchestrator | None = None

    @contextmanager
    def around(self, verb: str, token: str) -> Iterator[None]:
        """See a connector's call."""
        execution_id = execution_of(token)
        with self._board.inside(verb):
            if verb == "create":
                self.passed(execution_id, "creating")
            elif verb == "get":
                self.passed(execution_id, "polled")
            yield
        if verb == "create":
            self.passed(execution_id, "created")

    def passed(self, execution_id: str, stage: str) -> None:
        """Note how far an execution has come, and wish its abort if it is time."""
        reached = max(STAGES.index(stage), self._stages.get(execution_id, 0))
        self._stages[execution_id] = reached
        if self._wanted.get(execution_id, len(STAGES)) <= reached:
            del self._wanted[execution_id]
            task = asyncio.get_running_loop().create_task(self._abort(execution_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def arm(self, execution_id: str, stage: str) -> None:
        """Abort *execution_id* as soon as it has come to *stage*."""
        self._wanted[execution_id] = STAGES.index(stage)
        self.passed(execution_id, "submitted")

    async def _abort(self, execution_id: str) -> None:
        assert self.orchestrator is not None
        await self.orchestrator.abort(execution_id, reason="the plan says so")
        say("WISH", execution_id)

    async def finish(self) -> None:
        """Wait for the wishes under way."""
        await asyncio.gather(*self._tasks)


def task_of(plan: Plan, task_type: str) -> TaskTemplate:
    """Return the task of one submission."""
    limit = timedelta(seconds=plan.kind.run_timeout_s)
    return TaskTemplate(
        name=plan.kind_name.replace(" ", "_"),
        interface=_INTERFACE,
        task_type=task_type,
        retries=RetryStrategy(count=plan.kind.retries),
        timeout=Timeout(max_runtime=limit) if limit else None,
    )


async def submit(
    orchestrator: Orchestrator, plan: Plan, task_type: str, aborter: Aborter
) -> Handle:
    """Submit one job; a rerun gets the execution that the first run made."""
    handle = await orchestrator.submit(
        task_of(plan, task_type),
        {"spec": json.dumps(plan.spec.to_json())},
        idempotency_key=plan.key,
        labels={"kind": plan.kind_name.replace(" ", "_")},
    )
    say("ACK", plan.key, handle.id)
    if plan.kind.abort_at is not None:
        aborter.arm(handle.id, plan.kind.abort_at)
    return handle


async def work(options: argparse.Namespace, board: Board) -> None:
    """Live one life."""
    service = ServiceClass(options.service)
    name, _, nth = options.kill_at.partition(":")
    faults: Killer | Dice = Killer(board, name, int(nth or "1"))
    if options.kill_after_random is not None:
        faults = Dice(board, options.kill_after_random)
    host, _, port = options.server.rpartition(":")
    client = JobClient(host, int(port))
    aborter = Aborter(board)
    connector = CONNECTORS[service](client, policy=POLICY, around=aborter.around)
    registry = Registry()
    registry.register(connector)
    plans = [
        plan
        for number in options.batches.split(",")
        for plan in batch(service, int(number), options.jobs, options.seed)
    ]
    say("READY")
    async with Orchestrator(
        options.database, config=Config(), registry=registry, faults=faults
    ) as orchestrator:
        say("OPEN")
        aborter.orchestrator = orchestrator
        task_type = connector.task_type_name
        handles = await asyncio.gather(
            *(submit(orchestrator, plan, task_type, aborter) for plan in plans)
        )
        await asyncio.gather(*(handle.wait() for handle in handles))
        await aborter.finish()
        say("TERMINAL")
        if options.linger:
            await _stdin_closes()
    await client.aclose()
    say("DONE")


async def _stdin_closes() -> None:
    """Keep the engine running until the parent has seen enough."""
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), closed.set)
    await closed.wait()
    loop.remove_reader(sys.stdin.fileno())


def _print_stacks() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


async def _main(options: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _print_stacks)
    with Board(options.board, FAULT_POINTS) as board:
        await work(options, board)


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.worker")
    parser.add_argument("--database", required=True)
    parser.add_argument("--server", required=True, help="host:port of the job server")
    parser.add_argument("--board", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=50, help="jobs per batch")
    parser.add_argument("--batches", default="0", help="numbers, with commas")
    parser.add_argument("--class", dest="service", default="I", help="I, T, L or N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-at", default="", help="NAME:N, the N-th time")
    parser.add_argument("--kill-after-random", help="seed: die at a random point")
    parser.add_argument("--linger", action="store_true", help="until stdin closes")
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
