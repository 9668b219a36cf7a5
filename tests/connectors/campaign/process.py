"""Commands on this machine in the campaign; the commands themselves are witnesses.

Each command adds a line with its process id to the file of its token before it does
anything else, so that a second run of a token is seen. It lives as long as any process
has its token among its variables.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import RetryStrategy, Timeout
from orchestrator.connectors.process import ProcessConnector, ProcessTask
from orchestrator.testing import Fault, JobSpec, Rule, State
from tests.connectors.campaign.entry import WORKER, ConnectorSide, arguments
from tests.connectors.campaign.observed import Wire, observe
from tests.crash.scenario import Kind
from tests.crash.subject import POINTS, Subject
from tests.crash.worker import policy_of
from tests.jobserver.witness import Witness, WitnessedJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator._connector import AsyncConnector
    from orchestrator._tasks import TaskTemplate
    from orchestrator.testing import ServiceClass
    from tests.crash.board import Board
    from tests.crash.points import Points
    from tests.crash.scenario import Plan
    from tests.jobserver.connectors import Around

CALL_S = 1.0
"""A start takes two processes, which is long on a loaded machine."""

OWN_POINTS = (
    "process.before_folder",
    "process.folder_made",
    "process.meta_written",
    "process.before_spawn",
    "process.spawned",
    "process.command_sent",
    "process.started",
)
_GRACE = timedelta(seconds=0.3)
_RAN = 'echo $$ >>"$RUNS/$ORCHESTRATOR_TOKEN"; '
_ENDLESS = "sleep 1000 & wait"
_LOSES = 'case "$ORCHESTRATOR_TOKEN" in *-1) kill -9 $PPID;; esac; '


@dataclass(frozen=True, kw_only=True)
class Command(Kind):
    """A way for a command to live.

    Attributes:
        text: What it does once it has said that it runs.
    """

    spec: JobSpec = field(default_factory=JobSpec)
    text: str = "sleep 0.03"


def _wire(do: Fault, verb: str = "create", times: int = 1, **how: Any) -> JobSpec:
    return JobSpec(faults=(Rule(do=do, verb=verb, times=times, **how),))


_LATE = CALL_S * 1.3

KINDS: dict[str, Kind] = {
    "plain": Command(weight=5),
    "fails": Command(text="exit 3", ends=("FAILED",)),
    "supervisor lost": Command(text=_LOSES, retries=2, weight=2),
    "supervisor lost for good": Command(text="kill -9 $PPID", ends=("FAILED",)),
    "reply lost": Command(spec=_wire(Fault.LOSE), weight=3),
    "request lost": Command(spec=_wire(Fault.CUT)),
    "answer late": Command(spec=_wire(Fault.LATE, delay_s=_LATE)),
    "request late": Command(spec=_wire(Fault.STALL, delay_s=_LATE)),
    "given up": Command(
        spec=_wire(Fault.WITHHOLD, times=1000), ends=("FAILED",), give_up=True, weight=2
    ),
    "get fails": Command(spec=_wire(Fault.CUT, "get", 2)),
    "abort at once": Command(
        text=_ENDLESS, ends=("ABORTED",), abort_at="submitted", weight=2
    ),
    "abort in create": Command(
        text=_ENDLESS, ends=("ABORTED",), abort_at="creating", weight=2
    ),
    "abort created": Command(text=_ENDLESS, ends=("ABORTED",), abort_at="created"),
    "abort polled": Command(text=_ENDLESS, ends=("ABORTED",), abort_at="polled"),
    "abort unknown": Command(
        text=_ENDLESS, spec=_wire(Fault.LOSE), ends=("ABORTED",), abort_at="creating"
    ),
    "abort orphan": Command(
        text=f"kill -9 $PPID; {_ENDLESS}",
        ends=("ABORTED",),
        abort_at="polled",
        weight=2,
    ),
    "slow delete": Command(
        text=f"trap 'sleep 0.1; exit 1' TERM; {_ENDLESS}",
        ends=("ABORTED",),
        abort_at="polled",
    ),
    "deaf": Command(
        text="trap '' TERM; sleep 1000", ends=("ABORTED",), abort_at="polled"
    ),
    "delete fails": Command(
        text=_ENDLESS,
        spec=_wire(Fault.LOSE, "delete"),
        ends=("ABORTED",),
        abort_at="polled",
    ),
    "times out": Command(text=_ENDLESS, ends=("TIMED_OUT",), run_timeout_s=0.1),
    "aborted too late": Command(ends=("SUCCEEDED", "ABORTED"), abort_at="polled"),
}


class Side(ConnectorSide):
    """The worker's side of it; the URL is the folder of everything."""

    points = (*POINTS, *OWN_POINTS)
    kinds = KINDS

    async def connect(
        self, around: Around, faults: Points, board: Board
    ) -> AsyncConnector[Any]:
        """Return the connector, which is killed at its own points, too."""
        del board
        folder = Path(self.url)
        connector = ProcessConnector(folder / "jobs", faults=faults)
        policy = policy_of(self.service, CALL_S)
        connector.policy = replace(policy, gone_grace=timedelta(0))
        self._wire = Wire(self.kinds)
        observe(connector, around, lambda meta: str(meta.token), self._wire)
        return connector

    def job(self, plan: Plan) -> tuple[TaskTemplate, dict[str, Any]]:
        """Return a command that says that it runs."""
        kind = plan.kind
        assert isinstance(kind, Command)
        limit = timedelta(seconds=kind.run_timeout_s)
        task = ProcessTask(  # noqa: S604 - our own text
            plan.kind_name.replace(" ", "_"),
            _RAN + kind.text,
            shell=True,
            env={"RUNS": str(Path(self.url) / "runs")},
            grace=_GRACE,
            retries=RetryStrategy(count=kind.retries),
            timeout=Timeout(max_runtime=limit) if limit else None,
        )
        return task, {}

    async def release(self, token: str) -> None:
        """Let the wire give the answers that it withholds of *token*."""
        self._wire.release(token)


SIDE = Side


class ProcessWitness(Witness):
    """What the commands wrote, what runs, and the records of the job folders.

    Records tell only when a run ended and whether that was wished; which runs there
    were, and which live, is not asked of the connector's code.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._runs, self._jobs = folder / "runs", folder / "jobs"

    def jobs(self) -> list[WitnessedJob]:
        """Return every run of a command, in order of their files."""
        files = sorted(self._runs.iterdir(), key=lambda p: self._since(p.name))
        alive = _alive()
        return [
            self._run(path.name, number, live=path.name in alive)
            for path in files
            for number, _ in enumerate(path.read_text().splitlines())
        ]

    def calls(self, verb: str | None = None) -> dict[str, int]:
        """Return how often each token's command was run."""
        assert verb == "create"
        return {
            path.name: len(path.read_text().splitlines())
            for path in self._runs.iterdir()
        }

    def _since(self, token: str) -> int:
        return _ns(self._jobs / token / "started")

    def _run(self, token: str, number: int, *, live: bool) -> WitnessedJob:
        folder = self._jobs / token
        status: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            status = json.loads((folder / "status").read_text())
        wished = (folder / "abort").exists()
        state = State.FAILED
        if live:
            state = State.RUNNING
        elif status.get("code") == 0:
            state = State.SUCCEEDED
        elif wished:
            state = State.ABORTED
        ended = _ns(folder / "status") or _ns(self._runs / token)
        return WitnessedJob(
            # A run beside the first one is no job that anybody knows.
            id=token if number == 0 else f"{token}/{number}",
            service="process",
            token=token,
            seq=self._since(token),
            state=state,
            ended_seq=None if live else ended,
            deletes=int(wished),
        )


def _ns(path: Path) -> int:
    """Return when a file was written; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _alive() -> set[str]:
    """Return the tokens that a living process has among its variables."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            for variable in path.read_bytes().split(b"\0"):
                if variable.startswith(b"ORCHESTRATOR_TOKEN="):
                    found.add(variable.partition(b"=")[2].decode())
    return found


@contextmanager
def opened(service: ServiceClass, folder: Path, seed: str) -> Iterator[Subject]:
    """Make the folders; what still runs at the end is a finding, and left."""
    del seed
    (folder / "runs").mkdir()
    yield Subject(
        name="process",
        service=service,
        witness=ProcessWitness(folder),
        arguments=arguments("process", str(folder)),
        worker=WORKER,
        points=SIDE.points,
        kinds=KINDS,
    )
