"""Remote services that live outside the engine: their jobs survive its crashes.

A service knows of a token what its class says. Its jobs have seeded durations and
ends; they live in real time, whatever the wall clock shows, and move by themselves.
The world keeps the log of all that it was asked, which no engine writes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.clock import SteppingClock

MEMORY_US = 15 * 60 * 1_000_000
"""So long a service of class T remembers a token."""


class Kind(StrEnum):
    """What a service knows of the token that came with a create."""

    IDEMPOTENT = "I"
    """Remembered for ever: a second create with it returns the first job."""
    TIMED = "T"
    """As I, but only for `MEMORY_US` since the job was made."""
    LISTED = "L"
    """Jobs can be found by token, and made twice."""
    NEITHER = "N"
    """No client can find a job by its token; unknown creates fail."""
    HELD = "H"
    """As N; unknown creates wait for an operator."""


class State(StrEnum):
    """What a service says of a job."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    RETRYABLE = "RETRYABLE"
    ABORTED = "ABORTED"
    GONE = "GONE"


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.RETRYABLE, State.ABORTED})


@dataclass
class Job:
    """One job of one service; all times in microseconds of real time."""

    id: str
    kind: Kind
    token: str
    made_at: int
    runs_at: int
    ends_at: int
    end: State
    misfit: bool = False
    """Its outputs do not fit the task's interface."""
    stubborn: bool = False
    """It ignores deletes."""
    lost_at: int | None = None
    """When the service loses it, with all that was known of it."""
    dies_at: int | None = None
    """When an accepted delete takes effect."""
    deletes: int = 0
    """Calls of ``delete``, whatever became of them."""

    def state(self, now: int) -> State:
        """Return what the service says of it at *now*."""
        over = self.over_at()
        if now < self.runs_at and (self.dies_at is None or now < self.dies_at):
            return State.QUEUED
        if now < over:
            return State.RUNNING
        if over == self.lost_at:
            return State.GONE
        return State.ABORTED if over == self.dies_at else self.end

    def over_at(self) -> int:
        """Return when it ends, is killed or lost, whichever is first."""
        moments = [self.ends_at, self.lost_at, self.dies_at]
        return min(moment for moment in moments if moment is not None)

    def live(self, now: int) -> bool:
        """Whether it costs money at *now*."""
        return now < self.over_at()

    @property
    def attempt(self) -> tuple[str, int]:
        """Return the execution id and attempt of its token."""
        execution_id, _, attempt = self.token[1:].rpartition("-")
        return execution_id, int(attempt)


@dataclass
class World:
    """All services, their jobs, what they were asked, what is under way to them."""

    clock: SteppingClock
    rng: Random
    unlucky: bool = True
    """Whether jobs may fail, get lost, or ignore deletes."""
    jobs: dict[str, Job] = field(default_factory=dict)
    log: list[tuple[int, str, str]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    creates: Counter[str] = field(default_factory=Counter)
    """Calls of ``create`` by token."""
    gets: dict[str, list[int]] = field(default_factory=dict)
    """When ``get`` was called, by job id."""
    began: int = 0
    """When the youngest process began."""
    _by_token: dict[str, list[Job]] = field(default_factory=dict)
    _under_way: list[tuple[int, Kind, str]] = field(default_factory=list)

    def now(self) -> int:
        """Return real time, in microseconds."""
        return self.clock.real_us()

    def confused(self, since: int) -> bool:
        """Whether a process may be wrong about how long ago *since* was.

        It believes what the wall clock did before it began. A service's promise that
        counts from then is then kept for longer: no engine could do better.
        """
        return bool(self.clock.stepped(since, self.began))

    def note(self, call: str, what: str) -> None:
        """Log one event."""
        self.log.append((self.now(), call, what))

    # What a connector asks

    def create(self, kind: Kind, token: str) -> Job:
        """Make a job, or answer with the one that the token is known to have made."""
        self.catch_up()
        return self._create(kind, token, self.now())

    def create_later(self, kind: Kind, token: str, seconds: float) -> None:
        """Let a request arrive *seconds* from now, whoever is alive then."""
        at = self.now() + round(seconds * 1e6)
        self._under_way.append((at, kind, token))

    def find(self, token: str) -> Job | None:
        """Return a live job of *token*, else one that the service still knows.

        The first live one, else the last: who asks again after one has ended learns
        of a second one.
        """
        self.catch_up()
        now = self.now()
        known = self._by_token.get(token, [])
        still = [job for job in known if job.state(now) is not State.GONE]
        return next(
            (job for job in still if job.live(now)), still[-1] if still else None
        )

    def delete(self, job: Job) -> None:
        """Take a delete for *job*: it takes effect soon, or never."""
        self.note("deleted", job.id)
        if job.dies_at is None and not job.stubborn:
            job.dies_at = self.now() + self.rng.choice([0, 10**6, 40 * 10**6])

    # The world's own time

    def catch_up(self) -> None:
        """Let the requests arrive whose time has come."""
        now = self.now()
        due = sorted(request for request in self._under_way if request[0] <= now)
        self._under_way = [request for request in self._under_way if request[0] > now]
        for at, kind, token in due:
            self._create(kind, token, at)

    def under_way(self, token: str | None = None) -> bool:
        """Whether a request (of *token*) has yet to arrive."""
        self.catch_up()
        return any(token in (None, request[2]) for request in self._under_way)

    def of_token(self, token: str) -> list[Job]:
        """Return every job that *token* made."""
        return self._by_token.get(token, [])

    def _create(self, kind: Kind, token: str, now: int) -> Job:
        known = self._by_token.setdefault(token, [])
        for job in known:
            known_yet = now - job.made_at < MEMORY_US or self.confused(job.made_at)
            if kind is Kind.IDEMPOTENT or (kind is Kind.TIMED and known_yet):
                self.note("repeated", job.id)
                return job
        job = self._new_job(kind, token, now)
        known.append(job)
        self.jobs[job.id] = job
        self.note("made", f"{job.id} {token}")
        return job

    def _new_job(self, kind: Kind, token: str, now: int) -> Job:
        rng = self.rng
        waits = 0 if rng.random() < 0.5 else self._duration(600)
        runs = self._duration(7200)
        ends = [State.SUCCEEDED] * 6 + [State.FAILED, State.RETRYABLE, State.ABORTED]
        end = rng.choice(ends if self.unlucky else ends[:1])
        job = Job(
            id=f"j{len(self.jobs):06d}",
            kind=kind,
            token=token,
            made_at=now,
            runs_at=now + waits,
            ends_at=now + waits + runs,
            end=end,
        )
        if self.unlucky:
            luck = rng.random()
            job.misfit = luck < 0.02
            if 0.02 < luck < 0.04:
                job.lost_at = now + self._duration(3600)
            if 0.04 < luck < 0.06:
                job.stubborn, job.ends_at = True, job.ends_at + 72_000 * 10**6
        return job

    def _duration(self, seconds_max: float) -> int:
        """Return microseconds, short and long ones alike."""
        return round(math.exp(self.rng.uniform(0, math.log(seconds_max))) * 1e6)
