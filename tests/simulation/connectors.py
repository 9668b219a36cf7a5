"""Connectors to the simulated services, and what goes wrong with their calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Policy
from orchestrator.connectors import AsyncConnector, Resource
from orchestrator.errors import (
    AuthError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from tests.simulation.releases import FirstMeta, HastyMeta
from tests.simulation.world import ENDED, Kind, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata

    from tests.simulation.releases import Meta
    from tests.simulation.world import Job, World

POLICY = Policy(
    poll_delay_max=timedelta(minutes=10),
    error_delay_max=timedelta(minutes=20),
    create_timeout=timedelta(seconds=30),
    create_hard_timeout=timedelta(minutes=10),
    get_timeout=timedelta(seconds=30),
    delete_timeout=timedelta(seconds=30),
    find_timeout=timedelta(seconds=30),
    poll_budget=timedelta(hours=2),
    create_budget=timedelta(hours=2),
    sweep_for=timedelta(hours=6),
    cleanup_deadline=timedelta(hours=12),
)
_TIMEOUT_S = 30.0
_STEPS_MAX = 5
# Mostly shorter than find_settle. A job that arrives later than that is made twice by
# a service that can only search, and the sweep ends the second one.
_ARRIVES_S_MAX = 40.0
_PAST_TIMEOUT_S = _TIMEOUT_S + 0.001
"""As floats, a moment and 30 s may be a little after the moment 30 s later."""

_PHASES = {
    State.QUEUED: TaskExecution.QUEUED,
    State.RUNNING: TaskExecution.RUNNING,
    State.SUCCEEDED: TaskExecution.SUCCEEDED,
    State.FAILED: TaskExecution.FAILED,
    State.RETRYABLE: TaskExecution.RETRYABLE_FAILED,
    State.ABORTED: TaskExecution.ABORTED,
}

# What happens to a call, by weight. "zombie": the process pauses past its lease and
# another takes over; "pause": it pauses so long that its lease is in doubt.
FAULTS: dict[str, dict[str, float]] = {
    "create": {
        "ok": 60, "lost": 6, "delayed": 4, "error": 4, "late": 6, "never": 2,
        "throttled": 4, "transient": 4, "auth": 2, "permanent": 1, "refused": 1,
        "gone": 1, "nonsense": 2, "cancelled": 1, "exit": 1, "zombie": 3, "pause": 2,
    },
    "get": {
        "ok": 80, "transient": 4, "throttled": 2, "hang": 2, "error": 4, "auth": 1,
        "nonsense": 2, "early_gone": 1, "permanent": 0.3, "cancelled": 0.5,
        "exit": 0.5, "zombie": 1, "pause": 1,
    },
    "delete": {
        "ok": 70, "lost": 8, "transient": 6, "error": 6, "hang": 3, "auth": 1,
        "zombie": 4, "pause": 2,
    },
    "find": {
        "ok": 80, "transient": 5, "error": 5, "hang": 3, "permanent": 0.5,
        "auth": 1, "zombie": 3, "pause": 2,
    },
}  # fmt: skip


class RefusedError(Exception):
    """The service's own way to say that nothing was created."""


@dataclass
class Trouble:
    """Decides what goes wrong with each call, and makes it happen.

    Attributes:
        on: False lets every call be answered.
        calm: True while another process works: nothing that moves the clock.
        steps: Decides when somebody sets the wall clock, and by how much.
        zombie: Lets this process pause and another one take over.
    """

    world: World
    rng: Random
    steps: Random
    on: bool = True
    calm: bool = False
    zombie: Callable[[], Awaitable[None]] | None = None
    met: Counter[str] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)
    """Jobs that a create has told of, since the last time that somebody looked."""
    hanging: int = 0
    """Creates that have not answered after their timeout, in living processes."""

    def __post_init__(self) -> None:
        """Draw how unruly the wall clock is."""
        self._step_chance = self.steps.choice([0.0, 0.01, 0.05])

    def set_clock(self) -> None:
        """Let somebody set the wall clock: an hour, minutes, or a little."""
        steps = self.world.clock.steps
        if not self.on or len(steps) >= _STEPS_MAX:
            return
        if self.steps.random() < self._step_chance:
            far = self.steps.choice([3600.0, self.steps.uniform(6, 900)])
            size = self.steps.choice([far, far, self.steps.uniform(0, 4)])
            self.world.clock.step(self.steps.choice([size, -size]))
            self.world.note("clock", str(steps[-1].size))

    def draw(self, call: str) -> str:
        """Return what happens to the next *call*."""
        self.set_clock()
        weights = FAULTS[call]
        drawn = self.rng.choices(list(weights), list(weights.values()))[0]
        moves = drawn in ("zombie", "pause", "hang", "late", "never")
        if not self.on or (self.calm and moves):
            drawn = "ok"
        self.met[f"{call}: {drawn}"] += 1
        return drawn

    async def hang(self) -> NoReturn:
        """Never answer: the clock moves past the call's timeout."""
        self.world.clock.advance(_PAST_TIMEOUT_S)
        await asyncio.Event().wait()
        raise AssertionError

    async def pause(self, drawn: str) -> None:
        """Let the process stand still, for "pause" and "zombie"."""
        if drawn == "pause":
            self.world.clock.advance(17)
        elif drawn == "zombie" and self.zombie is not None:
            await self.zombie()

    def raise_for(self, drawn: str) -> None:
        """Raise what *drawn* says, if it is an error."""
        if drawn in ("lost", "delayed", "error"):
            msg = f"the connection broke ({drawn})"
            raise ConnectionError(msg)
        if drawn == "throttled":
            raise ThrottledError("slow down", retry_after=self.rng.choice([None, 7]))
        errors: dict[str, type[BaseException]] = {
            "transient": TransientError,
            "auth": AuthError,
            "permanent": PermanentError,
            "refused": RefusedError,
            "gone": ResourceGoneError,
            "early_gone": ResourceGoneError,
            "cancelled": asyncio.CancelledError,
            "exit": SystemExit,
        }
        if drawn in errors:
            raise errors[drawn](f"simulated: {drawn}")


class SimConnector(AsyncConnector[FirstMeta | HastyMeta]):
    """Talks to one simulated service."""

    policy = POLICY
    not_created_errors = (RefusedError,)

    def __init__(
        self, kind: Kind, world: World, trouble: Trouble, meta: Meta = FirstMeta
    ) -> None:
        """Be the connector of the service of class *kind*, storing *meta*."""
        self.kind = kind
        self.metadata_type = meta
        self.name = f"Simulated {kind}"
        self.task_type_name = f"sim-{kind.lower()}"
        if kind is Kind.IDEMPOTENT:
            self.create_is_idempotent = True
        elif kind is Kind.TIMED:
            self.create_is_idempotent = timedelta(minutes=14)
        elif kind is Kind.HELD:
            self.on_unknown_create = "hold"
        elif kind is Kind.LISTED:
            vars(self)["find"] = self._find
        self._world = world
        self._trouble = trouble

    def job_key(self, resource_meta: FirstMeta | HastyMeta) -> str:
        """Return the service's own id."""
        return resource_meta.job_id

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        **kwargs: Any,
    ) -> FirstMeta | HastyMeta:
        """Make a job, unless something goes wrong before."""
        assert task_execution_metadata is not None
        token = task_execution_metadata.labels["orchestrator-token"]
        world, trouble = self._world, self._trouble
        drawn = trouble.draw("create")
        world.calls["create"] += 1
        world.creates[token] += 1
        world.note("create", f"{token} {drawn}")
        if drawn in ("late", "never"):
            return await self._late(token, never=drawn == "never")
        if drawn == "zombie" and trouble.rng.random() < 0.5:
            await trouble.pause(drawn)  # the request leaves after the pause
            drawn = "ok"
        if drawn == "delayed":
            world.create_later(self.kind, token, trouble.rng.uniform(0, _ARRIVES_S_MAX))
        if drawn in ("ok", "lost", "nonsense", "zombie", "pause"):
            job = world.create(self.kind, token)
            await trouble.pause(drawn)
            trouble.raise_for(drawn)
            if drawn == "nonsense":
                return {"id": job.id}  # type: ignore[return-value]
            trouble.answered.add(job.id)
            return self.metadata_type(job.id)
        trouble.raise_for(drawn)
        raise AssertionError(drawn)

    async def _late(self, token: str, *, never: bool) -> FirstMeta | HastyMeta:
        """Answer after the call's timeout, or not at all."""
        world, rng = self._world, self._trouble.rng
        arrives = rng.choice([0.0, rng.uniform(0, _ARRIVES_S_MAX)])
        answers = _TIMEOUT_S + (10**6 if never else rng.uniform(1, 800))
        world.create_later(self.kind, token, arrives)
        over = asyncio.ensure_future(world.clock.sleep(answers))
        await asyncio.sleep(0)
        self._trouble.hanging += 1
        try:
            world.clock.advance(_PAST_TIMEOUT_S)
            await over
        finally:
            self._trouble.hanging -= 1
        world.catch_up()
        job = world.of_token(token)[0]
        self._trouble.answered.add(job.id)
        return self.metadata_type(job.id)

    async def get(
        self, resource_meta: FirstMeta | HastyMeta, **kwargs: Any
    ) -> Resource:
        """Tell what the job does."""
        world, trouble = self._world, self._trouble
        job = world.jobs[resource_meta.job_id]
        drawn = trouble.draw("get")
        now = world.now()
        old = now > job.made_at + 50 * 10**6
        if drawn == "early_gone" and (old or world.confused(job.made_at)):
            drawn = "ok"
        world.calls["get"] += 1
        world.gets.setdefault(job.id, []).append(now)
        world.note("get", f"{job.id} {drawn} {job.state(now)}")
        if drawn == "hang":
            await trouble.hang()
        trouble.raise_for(drawn)
        await trouble.pause(drawn)
        state = job.state(world.now())
        if state is State.GONE:
            raise ResourceGoneError(job.id)
        if drawn == "nonsense":
            return trouble.rng.choice([None, 5, "RUNNING"])  # type: ignore[return-value]
        return _resource(job, state)

    async def delete(self, resource_meta: FirstMeta | HastyMeta, **kwargs: Any) -> None:
        """Ask for the end of the job."""
        world, trouble = self._world, self._trouble
        job = world.jobs[resource_meta.job_id]
        drawn = trouble.draw("delete")
        world.calls["delete"] += 1
        world.note("delete", f"{job.id} {drawn}")
        job.deletes += 1
        state = job.state(world.now())
        if state is State.GONE:
            raise ResourceGoneError(job.id)
        if state in ENDED and trouble.rng.random() < 0.5:
            msg = f"{job.id} has ended"
            raise PermanentError(msg)
        if drawn in ("ok", "lost", "zombie", "pause", "hang"):
            world.delete(job)
        if drawn == "hang":
            await trouble.hang()
        await trouble.pause(drawn)
        trouble.raise_for(drawn)

    async def _find(self, token: str, **kwargs: Any) -> FirstMeta | HastyMeta | None:
        world, trouble = self._world, self._trouble
        drawn = trouble.draw("find")
        world.calls["find"] += 1
        world.note("find", f"{token} {drawn}")
        if drawn == "hang":
            await trouble.hang()
        trouble.raise_for(drawn)
        job = world.find(token)
        await trouble.pause(drawn)
        return None if job is None else self.metadata_type(job.id)


def _resource(job: Job, state: State) -> Resource:
    outputs: dict[str, Any] | None = None
    if state is State.SUCCEEDED:
        outputs = {"result": 5 if job.misfit else f"output of {job.id}"}
    return Resource(phase=_PHASES[state], message=f"{job.id}: {state}", outputs=outputs)
