"""The process that is killed: submits its batches and runs until all is terminal.

Speaks on standard output, one line per fact, written before anything else happens:
``READY`` (imported), ``OPEN``, ``ACK key id`` (the submit returned), ``WISH id`` (the
abort returned), ``GIVEN-UP id`` (the resolve returned), ``STOPPED`` (it stops itself
now), ``REFUSED id`` (a guard refused a write), ``ACCEPTED id`` (none did; only who is
to stop says that), ``TERMINAL`` and ``DONE``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from datetime import timedelta
from inspect import Parameter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from orchestrator import Handle, Orchestrator
from orchestrator._config import Config, Policy
from orchestrator._engine._stepper import Stepper
from orchestrator._faults import FAULT_POINTS
from orchestrator._registry import Registry
from orchestrator._storage import Apply, _apply
from orchestrator._tasks import RetryStrategy, TaskTemplate, Timeout
from orchestrator.models import NativeInterface
from orchestrator.testing import ServiceClass
from tests.crash.board import CUT_OFF, MISREAD, QUOTED, READ_BACK, Board
from tests.crash.canaries import SECRET, VARIABLE, Indiscreet, redact_nothing
from tests.crash.hand import Hand
from tests.crash.points import Points
from tests.crash.scenario import CREATE_TIMEOUT_S, KINDS, Plan, batch
from tests.jobserver.client import JobClient
from tests.jobserver.connectors import CONNECTORS
from tests.support.faulty import Commits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator._connector import AsyncConnector
    from orchestrator._records import Claimed
    from orchestrator._storage._tx import Tx
    from tests.crash.scenario import Kind
    from tests.jobserver.connectors import Around

_INTERFACE = NativeInterface(
    inputs={"spec": (str, Parameter.empty)}, outputs={"job_id": str, "token": str}
)
_CUT_EACH = 25
_COMMITS_MAX = 4000
_REPLAYS = frozenset({ServiceClass.IDEMPOTENT, ServiceClass.TIMED})


def policy_of(
    service: ServiceClass, call_timeout_s: float = CREATE_TIMEOUT_S
) -> Policy:
    """Return a policy that is quick in everything.

    A create that is detached is waited for where it cannot be replayed: not long.
    """
    limit = timedelta(seconds=call_timeout_s)
    hard = 15 if service in _REPLAYS else 3
    return Policy(
        poll_delay_min=timedelta(milliseconds=10),
        poll_delay_max=timedelta(milliseconds=40),
        error_delay_min=timedelta(milliseconds=20),
        error_delay_max=timedelta(milliseconds=160),
        hold_delay=timedelta(milliseconds=40),
        create_timeout=limit,
        create_hard_timeout=hard * limit,
        get_timeout=limit,
        delete_timeout=limit,
        find_timeout=limit,
        find_settle=timedelta(seconds=0.2),
        sweep_for=timedelta(seconds=10),
    )


def say(*words: str) -> None:
    """Write one line at once: no buffer may swallow an acknowledgement."""
    os.write(1, (" ".join(words) + "\n").encode())


def task_of(plan: Plan, task_type: str, *, secret: bool = False) -> TaskTemplate:
    """Return the task of one submission, with a reference to a *secret* or none."""
    limit = timedelta(seconds=plan.kind.run_timeout_s)
    return TaskTemplate(
        name=plan.kind_name.replace(" ", "_"),
        interface=_INTERFACE,
        task_type=task_type,
        retries=RetryStrategy(count=plan.kind.retries),
        timeout=Timeout(max_runtime=limit) if limit else None,
        secrets=[SECRET] if secret else None,
    )


class Side:
    """The service's side of a worker: its connector, its tasks, its levers.

    This one is a job server, spoken to by the tests' own connectors.
    """

    points: Sequence[str] = FAULT_POINTS
    kinds: Mapping[str, Kind] = KINDS

    def __init__(self, options: argparse.Namespace) -> None:
        """Take what the command line says."""
        self.service = ServiceClass(options.service)
        self._options = options

    async def connect(
        self, around: Around, faults: Points, board: Board
    ) -> AsyncConnector[Any]:
        """Return the connector; *around* is to see all its calls."""
        del faults  # the engine's own points only
        host, _, port = self._options.server.rpartition(":")
        self._client = JobClient(host, int(port))
        told = {"quote": Indiscreet(lambda: board.reached(QUOTED))}
        self._connector = CONNECTORS[self.service](
            self._client,
            policy=policy_of(self.service, self._options.call_timeout),
            around=around,
            **(told if self._options.secret else {}),
        )
        return self._connector

    def job(self, plan: Plan) -> tuple[TaskTemplate, dict[str, Any]]:
        """Return task and inputs of a submission."""
        secret = self._options.secret
        task = task_of(plan, self._connector.task_type_name, secret=secret)
        return task, {"spec": json.dumps(plan.spec.to_json())}

    async def release(self, token: str) -> None:
        """Let the service give the answers that it withholds of *token*."""
        await self._client.request("PUT", "/release", {"token": token})

    async def aclose(self) -> None:
        """Let go of the service."""
        await self._client.aclose()


async def submit(
    orchestrator: Orchestrator,
    plan: Plan,
    job: tuple[TaskTemplate, dict[str, Any]],
    hand: Hand,
) -> Handle:
    """Submit one job; a rerun gets the execution that the first run made."""
    handle = await orchestrator.submit(
        *job,
        idempotency_key=plan.key,
        labels={"kind": plan.kind_name.replace(" ", "_")},
    )
    say("ACK", plan.key, handle.id)
    hand.take(handle.id, plan.kind)
    return handle


def cut_commits(orchestrator: Orchestrator, dice: str, board: Board) -> None:
    """Let one commit in `_CUT_EACH` or so, drawn from the seed *dice*, seem to fail.

    Never two in a row: that would be a database that is away, and submits refused.
    """
    rng = Random(dice)
    plan: list[str] = []
    while len(plan) < _COMMITS_MAX:
        plan += ["ok"] * rng.randint(1, 2 * _CUT_EACH)
        plan.append(rng.choice(("before", "after")))
    commits = Commits(orchestrator._engine.store, *plan)
    commits.failed = lambda: board.reached(CUT_OFF)
    landed = Apply.landed

    async def judged(item: Apply, tx: Tx) -> bool:
        found = await landed(item, tx)
        if item.change.cause is not None:
            # Only we know what became of the commit; a guard may have refused as well.
            done = commits.seen[-1] == "after" and bool(item.result)
            board.reached(READ_BACK[not found])
            if found != done:
                board.reached(MISREAD)
        return found

    Apply.landed = judged  # type: ignore[method-assign, assignment]


async def work(options: argparse.Namespace, board: Board, side: Side) -> None:
    """Live one life."""
    name, _, nth = (options.kill_at or options.stop_at).partition(":")
    hand = Hand(board, say=say, release=side.release)
    faults = Points(
        board,
        name=name,
        nth=int(nth or "1"),
        dice=options.kill_after_random,
        stopping=(lambda: say("STOPPED")) if options.stop_at else None,
        seen=hand.seen,
    )
    registry = Registry()
    registry.register(await side.connect(hand.around, faults, board))
    plans = plans_of(options, side)
    tell_writes(accepted=bool(options.stop_at), fenced=not options.fence_off)
    say("READY")
    if options.wait:
        sys.stdin.readline()
    config = Config(
        lease=timedelta(seconds=options.lease),
        heartbeat=timedelta(seconds=options.heartbeat or options.lease / 4),
        in_flight_max=options.in_flight,
    )
    async with Orchestrator(
        options.database, config=config, registry=registry, faults=faults
    ) as orchestrator:
        say("OPEN")
        if options.cut_commits:
            cut_commits(orchestrator, options.cut_commits, board)
        hand.orchestrator = orchestrator
        jobs = [side.job(plan) for plan in plans]
        handles = await asyncio.gather(
            *(
                submit(orchestrator, plan, job, hand)
                for plan, job in zip(plans, jobs, strict=True)
            )
        )
        await asyncio.gather(*(handle.wait() for handle in handles))
        await hand.finish()
        say("TERMINAL")
        if options.linger:
            await _stdin_closes()
    await side.aclose()
    say("DONE")


def plans_of(options: argparse.Namespace, side: Side) -> list[Plan]:
    """Return the submissions of all batches."""
    more = (options.jobs, options.seed, options.without)
    return [
        plan
        for number in options.batches.split(",")
        for plan in batch(side.service, int(number), *more, kinds=side.kinds)
    ]


def tell_writes(*, accepted: bool, fenced: bool) -> None:
    """Say, after the commit, what became of each decision that was written.

    Args:
        accepted: Whether also what was accepted is told.
        fenced: False to see what breaks: then the version alone guards.
    """
    committed = Stepper._committed

    def told(stepper: Stepper, item: Apply) -> Claimed | None:
        if item.error is None and not item.result:
            say("REFUSED", item.row.id)
        elif item.error is None and accepted:
            say("ACCEPTED", item.row.id)
        return committed(stepper, item)

    Stepper._committed = told  # type: ignore[assignment, method-assign]
    if not fenced:
        _apply._FENCE = "? IS NOT NULL"


async def _stdin_closes() -> None:
    """Keep the engine running until the parent has seen enough."""
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), closed.set)
    await closed.wait()
    loop.remove_reader(sys.stdin.fileno())


def _log_everything(path: Path) -> None:
    """Let the engine's log, from DEBUG on, go to a file as well."""
    logger = logging.getLogger("orchestrator")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logging.FileHandler(path))
    logging.getLogger().handlers[0].setLevel(logging.ERROR)


def _print_stacks() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


async def _main(options: argparse.Namespace, side: Side) -> None:
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    if options.log is not None:
        _log_everything(options.log)
    if options.redaction_off:
        redact_nothing()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _print_stacks)
    with Board(options.board, side.points) as board:
        await work(options, board, side)


def main(
    side_of: Callable[[argparse.Namespace], Side] = Side,
    more: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> None:
    """Read the command line, to which *more* may add, and work.

    Args:
        side_of: Makes the service's side of what the command line says.
        more: Adds options.
    """
    parser = argparse.ArgumentParser()
    more(parser)
    parser.add_argument("--database", required=True)
    parser.add_argument("--server", help="host:port of the job server")
    parser.add_argument("--board", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=50, help="jobs per batch")
    parser.add_argument("--batches", default="0", help="numbers, with commas")
    parser.add_argument("--class", dest="service", default="I", help="I, T, L or N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-at", default="", help="NAME:N, the N-th time")
    parser.add_argument("--kill-after-random", help="seed: die at a random point")
    parser.add_argument("--stop-at", default="", help="NAME:N, stop there")
    parser.add_argument("--lease", type=float, default=60.0, help="seconds")
    parser.add_argument("--heartbeat", type=float, help="seconds, else lease / 4")
    parser.add_argument("--call-timeout", type=float, default=CREATE_TIMEOUT_S)
    parser.add_argument("--in-flight", type=int, default=1000, help="steps at once")
    parser.add_argument("--wait", action="store_true", help="for a line, when READY")
    parser.add_argument("--fence-off", action="store_true", help="to see what breaks")
    parser.add_argument("--cut-commits", default="", help="seed: lose some answers")
    parser.add_argument("--without", action="append", default=[], help="a kind")
    parser.add_argument("--linger", action="store_true", help="until stdin closes")
    parser.add_argument(
        "--secret", action="store_true", help=f"that is in ${VARIABLE}, and quoted"
    )
    parser.add_argument("--redaction-off", action="store_true", help="to see it leak")
    parser.add_argument("--log", type=Path, help="everything, appended to a file")
    with suppress(KeyboardInterrupt):
        options = parser.parse_args()
        asyncio.run(_main(options, side_of(options)))


if __name__ == "__main__":
    main()
