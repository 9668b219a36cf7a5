"""A durable Flyte service in the campaign: two engines, and both are killed.

The worker drives it by RemoteConnector; the service, ``connectors serve --durable`` in
a process of its own, runs the jobs of a job server, whose ledger is the witness. In
half of the lives the service is killed as well, and started again where it was.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator._ids import create_token
from orchestrator._tasks import TOKEN_LABEL
from orchestrator.errors import TransientError
from orchestrator.flyte import RemoteConnector
from orchestrator.testing import Fault
from tests.connectors.campaign.entry import WORKER, ConnectorSide, arguments
from tests.connectors.campaign.observed import Wire, observe
from tests.crash.audit import Audit
from tests.crash.scenario import KINDS as ALL
from tests.crash.subject import Subject
from tests.crash.worker import policy_of, task_of
from tests.flyte.support import Running, service
from tests.jobserver.launch import job_server
from tests.jobserver.witness import Witness, WitnessedJob

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from orchestrator._connector import AsyncConnector
    from orchestrator._tasks import TaskTemplate
    from orchestrator.testing import ServiceClass
    from tests.crash.board import Board
    from tests.crash.points import Points
    from tests.crash.scenario import Plan
    from tests.jobserver.connectors import Around

KINDS = {
    **{name: kind for name, kind in ALL.items() if name != "found late"},
    # The service's own limit may be first, and Flyte has no word for a timeout.
    "times out": replace(ALL["times out"], ends=("TIMED_OUT", "FAILED")),
}
_SERVICE_KILLED = 0.5
_MOMENT_S = 1.0


class Side(ConnectorSide):
    """The worker's side of it: the faults of a create hit both ways to the job."""

    kinds = KINDS

    async def connect(
        self, around: Around, faults: Points, board: Board
    ) -> AsyncConnector[Any]:
        """Return the service's connector, which believes what the service promises."""
        del faults, board
        policy = policy_of(self.service)
        while True:
            try:
                [self._remote] = await RemoteConnector.discover(
                    self.url, register=False, policy=policy
                )
            except TransientError:  # it is being killed as well
                continue
            break
        self._wire = Wire(self.kinds)
        observe(self._remote, around, _token_of, self._wire)
        return self._remote

    def job(self, plan: Plan) -> tuple[TaskTemplate, dict[str, Any]]:
        """Return task and inputs of a submission."""
        task = task_of(plan, self._remote.task_type_name)
        # What the wire withholds is released; behind the service nobody would.
        faults = [rule for rule in plan.spec.faults if rule.do is not Fault.WITHHOLD]
        spec = replace(plan.spec, faults=tuple(faults))
        return task, {"spec": json.dumps(spec.to_json())}

    async def release(self, token: str) -> None:
        """Let the wire give the answers that it withholds of *token*."""
        self._wire.release(token)

    async def aclose(self) -> None:
        """Close the channels."""
        await self._remote.aclose()


SIDE = Side


def _token_of(meta: Any) -> str:
    """Return the attempt's token, of which only the output prefix tells."""
    _, execution_id, attempt = meta.output_prefix.rsplit("/", 2)
    return create_token(execution_id, int(attempt))


class FlyteWitness(Witness):
    """The job server's ledger, with the tokens of the service's caller.

    The service's own tokens are in the ledger; in its database an execution has the
    caller's token among its labels.
    """

    def __init__(self, ledger: Path, database: Path) -> None:
        super().__init__(ledger)
        self._database = database

    def jobs(self) -> list[WitnessedJob]:
        """Return every job ever made, in order of creation."""
        callers = self._callers()
        return [
            replace(job, id=job.execution_id, token=callers[job.execution_id])
            for job in super().jobs()
        ]

    def calls(self, verb: str | None = None) -> dict[str, int]:
        """Return how many executions of the service each of its callers' tokens has."""
        assert verb == "create"
        return Counter(self._callers().values())

    def _callers(self) -> dict[str, str]:
        with closing(sqlite3.connect(self._database, timeout=10)) as db:
            rows = db.execute("SELECT id, labels FROM execution").fetchall()
        return {row[0]: json.loads(row[1])[TOKEN_LABEL] for row in rows}


class Keeper:
    """Keeps a service running on one port, and kills it when asked to."""

    def __init__(self, database: Path, job_server: str) -> None:
        self._stack = ExitStack()
        self._words = (
            *("--connectors", "tests.connectors.campaign.flyte_service"),
            *("--durable", "--database", str(database)),
        )
        self._job_server = job_server
        self._running: Running | None = None

    def start(self) -> str:
        """Start it, where it was; return its endpoint."""
        words: tuple[str, ...] = self._words
        if self._running is not None:
            words += ("--port", str(self._running.told["port"]))
        started = service(*words, JOB_SERVER=self._job_server)
        self._running = self._stack.enter_context(started)
        return self._running.endpoint

    @contextmanager
    def disturbed(self, rng: Random) -> Iterator[None]:
        """Kill it, or not, at some moment of the block; at its end it runs."""
        if rng.random() >= _SERVICE_KILLED:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(
            target=self._kill_later, args=(rng.uniform(0, _MOMENT_S), over)
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _kill_later(self, delay_s: float, over: threading.Event) -> None:
        assert self._running is not None
        over.wait(delay_s)
        self._running.process.kill()
        self._running.process.wait()
        self.start()

    def stop(self) -> None:
        """Let it end."""
        self._stack.close()


@contextmanager
def opened(promise: ServiceClass, folder: Path, seed: str) -> Iterator[Subject]:
    """Run job server and service until the block ends."""
    database = folder / "service.sqlite"
    with job_server(folder / "ledger.db", seed=seed) as server:
        keeper = Keeper(database, server.address)
        try:
            yield Subject(
                name="flyte",
                service=promise,
                witness=FlyteWitness(server.ledger, database),
                arguments=arguments("flyte", keeper.start()),
                worker=WORKER,
                kinds=KINDS,
                disturbed=keeper.disturbed,
                broken=Audit(database).broken_histories,
            )
        finally:
            keeper.stop()
