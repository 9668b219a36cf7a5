"""What a campaign's jobs run at: a service that runs, its witness, and its worker."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from orchestrator._faults import FAULT_POINTS
from orchestrator.testing import ServiceClass
from tests.crash.scenario import KINDS
from tests.jobserver.connectors import REMEMBERED_S
from tests.jobserver.launch import RunningServer, job_server
from tests.jobserver.witness import Witness, WitnessedJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from random import Random

    from tests.crash.scenario import Kind

POINTS: tuple[str, ...] = tuple(FAULT_POINTS)
_ONLY_L = ("find.",)
"""Points of code that only a service without idempotency, but with find, needs."""


class Watching(Protocol):
    """What the judge asks a witness; a job's id is the connector's ``job_key``."""

    def jobs(self) -> list[WitnessedJob]:
        """Return every job ever made, in order of creation."""

    def live_jobs(self) -> list[WitnessedJob]:
        """Return the jobs that live."""

    def overlaps(self) -> list[tuple[WitnessedJob, WitnessedJob]]:
        """Return pairs of one execution where the next began before one ended."""

    def calls(self, verb: str) -> dict[str, int]:
        """Return how many requests of that verb were executed per token."""


def _undisturbed(_rng: Random) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A service that runs, as campaign and judge see it.

    Attributes:
        name: Of its totals.
        service: What it promises; the judge holds it to that.
        arguments: The worker's share: where the service is.
        worker: The program that is killed.
        points: The named points that the worker counts.
        kinds: Ways for its jobs to live.
        disturbed: What happens to the service during a life that is to be killed.
        broken: What the service's own records say against it, one line each.
    """

    name: str
    service: ServiceClass
    witness: Watching
    arguments: tuple[str, ...]
    worker: str = "tests.crash.worker"
    points: tuple[str, ...] = POINTS
    kinds: Mapping[str, Kind] = field(default_factory=lambda: KINDS)
    disturbed: Callable[[Random], AbstractContextManager[object]] = _undisturbed
    broken: Callable[[], list[str]] = list


def reachable(service: ServiceClass, points: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of *points* that a class's jobs can come by."""
    if service is ServiceClass.LISTED:
        return points
    return tuple(point for point in points if not point.startswith(_ONLY_L))


def job_server_subject(service: ServiceClass, server: RunningServer) -> Subject:
    """Return one class of a job server, spoken to by the tests' own connector."""
    return Subject(
        name=service.value,
        service=service,
        witness=Witness(server.ledger),
        arguments=("--server", server.address, "--secret"),
    )


@contextmanager
def at_job_server(service: ServiceClass, folder: Path, seed: str) -> Iterator[Subject]:
    """Run a job server until the block ends."""
    with job_server(
        folder / "ledger.db", seed=seed, remember_s=REMEMBERED_S + 0.5
    ) as server:
        yield job_server_subject(service, server)
