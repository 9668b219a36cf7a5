"""The service classes: what create, get, find, delete and end do to jobs.

No wire, no waiting: the server in front of it makes every request one transaction
of the ledger, and adds the scripted faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.testing._jobserver._vocabulary import (
    ENDED,
    JobSpec,
    ServiceClass,
    State,
)

if TYPE_CHECKING:
    from orchestrator._clock import Clock
    from orchestrator.testing._jobserver._ledger import Ledger

_OK, _CREATED, _ACCEPTED = 200, 201, 202
_NOT_FOUND, _NOT_OFFERED = 404, 405


@dataclass
class Job:
    """One job, in memory; its facts are in the ledger.

    Attributes:
        id: The service's own name of it.
        service: The class of the service that made it.
        token: What its creator sent.
        spec: How it behaves.
        created_us: When it was made, in microseconds since 1970.
        state: What it was when somebody last looked.
        state_us: Since when it is that.
        polls: How often somebody looked.
        told: How a test told it to end.
    """

    id: str
    service: ServiceClass
    token: str
    spec: JobSpec
    created_us: int
    state: State
    state_us: int
    polls: int = 0
    told: State | None = None


@dataclass(frozen=True)
class Outcome:
    """What an executed request is answered."""

    status: int
    body: dict[str, Any]
    job_id: str | None = None


class JobService:
    """All jobs of all service classes in one server."""

    def __init__(self, ledger: Ledger, clock: Clock, remember_s: float) -> None:
        """Take up the jobs that *ledger* already has.

        Args:
            ledger: Where every new fact goes.
            clock: What the jobs' durations are measured with.
            remember_s: Seconds for which class T remembers a token.
        """
        self._ledger = ledger
        self._clock = clock
        self._remember_us = round(remember_s * 1e6)
        self._jobs: dict[str, Job] = {}
        self._by_token: dict[tuple[ServiceClass, str], list[Job]] = {}
        for stored in ledger.jobs():
            job = Job(
                id=stored.id,
                service=ServiceClass(stored.service),
                token=stored.token,
                spec=stored.spec,
                created_us=stored.created_us,
                state=stored.state,
                state_us=stored.state_us,
                polls=stored.polls,
            )
            self._remember(job)

    def create(self, service: ServiceClass, token: str, spec: JobSpec) -> Outcome:
        """Make a job, or return the one that the token already has."""
        now = self._clock.now_us()
        if (known := self._replayed(service, token, now)) is not None:
            return Outcome(_OK, {"id": known.id}, known.id)
        job = Job(
            id=f"job-{len(self._jobs) + 1}",
            service=service,
            token=token,
            spec=spec,
            created_us=now,
            state=State.QUEUED,
            state_us=now,
        )
        self._remember(job)
        self._ledger.add_job(job.id, service, token, spec, now)
        self._ledger.add_state(job.id, job.state, now)
        return Outcome(_CREATED, {"id": job.id}, job.id)

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._by_token.setdefault((job.service, job.token), []).append(job)

    def _replayed(self, service: ServiceClass, token: str, now: int) -> Job | None:
        jobs = self._by_token.get((service, token), [])
        if not jobs:
            return None
        if service is ServiceClass.IDEMPOTENT:
            return jobs[-1]
        if service is ServiceClass.TIMED:
            fresh = now - jobs[-1].created_us < self._remember_us
            return jobs[-1] if fresh else None
        return None

    def get(self, service: ServiceClass, job_id: str) -> Outcome:
        """Look at a job; looking is what lets it move on."""
        job = self._jobs.get(job_id)
        if job is None or job.service is not service:
            return Outcome(_NOT_FOUND, {"error": "no such job"})
        job.polls += 1
        self._advance(job)
        body = {"id": job.id, "state": job.state, "token": job.token}
        return Outcome(_OK, {**body, "polls": job.polls}, job.id)

    def find(self, service: ServiceClass, token: str) -> Outcome:
        """Search the oldest live job of a token, else its newest: class L alone.

        Live ones come first, so that who asks again after one has ended learns of
        a second one.
        """
        if service is not ServiceClass.LISTED:
            return Outcome(_NOT_OFFERED, {"error": f"class {service} cannot search"})
        now = self._clock.now_us()
        seen = [
            job
            for job in self._by_token.get((service, token), [])
            if now - job.created_us >= job.spec.hidden_s * 1e6
        ]
        if not seen:
            return Outcome(_NOT_FOUND, {"error": "no job with this token"})
        for job in seen:
            self._advance(job)
        found = next((job for job in seen if job.state not in ENDED), seen[-1])
        return Outcome(_OK, {"id": found.id}, found.id)

    def delete(self, service: ServiceClass, job_id: str) -> Outcome:
        """Cancel a job; one that has ended stays as it ended."""
        job = self._jobs.get(job_id)
        if job is None or job.service is not service:
            return Outcome(_NOT_FOUND, {"error": "no such job"})
        self._advance(job)
        if job.state not in ENDED and job.state is not State.CANCELLING:
            slow = job.spec.delete_s > 0
            self._move(job, State.CANCELLING if slow else State.ABORTED)
        status = _OK if job.state in ENDED else _ACCEPTED
        return Outcome(status, {"id": job.id, "state": job.state}, job.id)

    def end(self, service: ServiceClass, job_id: str, state: State) -> Outcome:
        """Tell a job how to end; it does when next looked at."""
        job = self._jobs.get(job_id)
        if job is None or job.service is not service:
            return Outcome(_NOT_FOUND, {"error": "no such job"})
        job.told = state
        return Outcome(_OK, {"id": job.id}, job.id)

    def job(self, job_id: str) -> Job | None:
        """Return a job, None for an unknown one."""
        return self._jobs.get(job_id)

    def jobs(self) -> list[Job]:
        """Return every job in order of creation."""
        return list(self._jobs.values())

    def token_of(self, job_id: str) -> str:
        """Return a job's token, empty for an unknown job."""
        job = self._jobs.get(job_id)
        return job.token if job else ""

    def spec_of(self, job_id: str) -> JobSpec | None:
        """Return a job's spec, None for an unknown job."""
        job = self._jobs.get(job_id)
        return job.spec if job else None

    def statistics(self) -> dict[str, int]:
        """Return how many jobs there are, by state."""
        counts: dict[str, int] = {}
        for job in self._jobs.values():
            counts[job.state] = counts.get(job.state, 0) + 1
        return counts

    def _advance(self, job: Job) -> None:
        now = self._clock.now_us()
        if job.state in ENDED:
            return
        if job.state is State.CANCELLING:
            if now - job.state_us >= job.spec.delete_s * 1e6:
                self._move(job, State.ABORTED)
            return
        age_s = (now - job.created_us) / 1e6
        if job.state is State.QUEUED and age_s >= job.spec.queue_s:
            self._move(job, State.RUNNING)
        if job.told is not None:
            self._move(job, job.told)
        elif (
            not job.spec.until_told
            and job.polls >= job.spec.polls
            and age_s >= job.spec.queue_s + job.spec.run_s
        ):
            self._move(job, job.spec.end_of(job.token))

    def _move(self, job: Job, state: State) -> None:
        job.state, job.state_us = state, self._clock.now_us()
        self._ledger.add_state(job.id, state, job.state_us)
