"""What a job server writes down: jobs, their states, and the calls it answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.testing._jobserver._vocabulary import JobSpec, State


class StoredJob(NamedTuple):
    """A job as a ledger has it, for a server that goes on with it."""

    id: str
    service: str
    token: str
    spec: JobSpec
    created_us: int
    state: State
    state_us: int
    polls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCall:
    """One request and what it was (or would have been) answered.

    Attributes:
        at_us: When, in microseconds since 1970.
        service: The service class, a letter.
        verb: create, get, find or delete.
        token: Whose job was meant.
        job_id: The job, None without one.
        fault: The fault that hit the request, None without one.
        executed: Whether the request was carried out.
        status: The HTTP status; 0 for none.
    """

    at_us: int
    service: str
    verb: str
    token: str
    job_id: str | None
    fault: str | None
    executed: bool
    status: int


class Ledger(Protocol):
    """Where a job server writes; every request is one transaction."""

    def begin(self) -> None:
        """Open the transaction of one request."""
        ...

    def commit(self) -> None:
        """Keep what the request did."""
        ...

    def rollback(self) -> None:
        """Forget the request: nothing of it happened."""
        ...

    def add_job(
        self, job_id: str, service: str, token: str, spec: JobSpec, at_us: int
    ) -> None:
        """Record a new job."""
        ...

    def add_state(self, job_id: str, state: State, at_us: int) -> None:
        """Record a job's new state."""
        ...

    def add_call(self, call: JobCall) -> None:
        """Record one request."""
        ...

    def jobs(self) -> Iterable[StoredJob]:
        """Return every job in order of creation: a restarted server goes on."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass
class MemoryLedger:
    """A ledger that lives as long as this process: it survives an engine's crashes.

    Attributes:
        calls: Every call in order.
        states: Job, state and time of every change of state, in order.
    """

    calls: list[JobCall] = field(default_factory=list)
    states: list[tuple[str, State, int]] = field(default_factory=list)

    def begin(self) -> None:
        """Do nothing: one thread writes, and nothing in memory fails halfway."""

    def commit(self) -> None:
        """Do nothing."""

    def rollback(self) -> None:
        """Do nothing."""

    def add_job(
        self, job_id: str, service: str, token: str, spec: JobSpec, at_us: int
    ) -> None:
        """Do nothing: the service itself knows its jobs as long."""

    def add_state(self, job_id: str, state: State, at_us: int) -> None:
        """Record a job's new state."""
        self.states.append((job_id, state, at_us))

    def add_call(self, call: JobCall) -> None:
        """Record one request."""
        self.calls.append(call)

    def jobs(self) -> Iterable[StoredJob]:
        """Return none: a new server with this ledger begins anew."""
        return ()

    def close(self) -> None:
        """Keep everything, to be read."""
