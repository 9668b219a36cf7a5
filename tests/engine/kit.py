"""A connector whose answers a test writes, a clock that tells who sleeps, a watch."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Config, Orchestrator, Policy, Registry, TaskTemplate
from orchestrator.connectors import AsyncConnector, Resource, ResourceMeta
from orchestrator.models import NativeInterface
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from orchestrator import Execution

DEADLINE_S = 10.0
"""Real seconds that a test waits for what has to come at once."""

CONFIG = Config(
    watch=timedelta(minutes=5),
    heartbeat=timedelta(minutes=10),
    lease=timedelta(hours=1),
)
"""On a manual clock these are timers like others: rare ones keep tests short."""

POLICY = Policy(jitter=0.0)
QUEUED = Resource(phase=TaskExecution.QUEUED)
RUNNING = Resource(phase=TaskExecution.RUNNING, message="at work")
DONE = Resource(phase=TaskExecution.SUCCEEDED, outputs={"result": "good"})
FAILED = Resource(phase=TaskExecution.FAILED, message="bad")
RETRYABLE = Resource(phase=TaskExecution.RETRYABLE_FAILED, message="unlucky")
KILLED = Resource(phase=TaskExecution.ABORTED)

Answer = Any
"""What a call answers: a value, an exception to raise, or an async function."""


@dataclass
class Meta(ResourceMeta):
    """The handle of a scripted job."""

    job: str


class Script(AsyncConnector[Meta]):
    """Answers each call with what the test has written, the last answer for ever.

    Attributes:
        answers: Call to its answers, in order.
        calls: Every call with its arguments, in order.
        times: Every call's name with the clock's seconds.
    """

    name = "script"
    metadata_type = Meta
    policy = POLICY

    def __init__(
        self, task_type: str = "script", *, clock: Any = None, **answers: Answer
    ) -> None:
        """Answer with *answers*; class members like ``policy`` may be among them."""
        self.task_type_name = task_type
        self.answers: dict[str, list[Answer]] = {
            "create": [None], "get": [RUNNING, DONE], "delete": [None], "find": [None]
        }  # fmt: skip
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.times: list[tuple[str, float]] = []
        self._clock = clock
        self._began_us = clock.now_us() if clock is not None else 0
        self._jobs = count(1)
        self._called = asyncio.Condition()
        if "find" in answers:
            vars(self)["find"] = self._find
        for name, given in answers.items():
            if name in self.answers:
                self.answers[name] = given if isinstance(given, list) else [given]
            else:
                setattr(self, name, given)

    def job_key(self, resource_meta: Meta) -> str:
        """Return the job's name."""
        return resource_meta.job

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: Any = None,
        **kwargs: Any,
    ) -> Meta:
        """Make a job."""
        given = {"inputs": inputs, "metadata": task_execution_metadata, **kwargs}
        answer = await self._answer("create", given)
        return Meta(f"job-{next(self._jobs)}") if answer is None else answer

    async def get(self, resource_meta: Meta, **kwargs: Any) -> Resource:
        """Tell of a job."""
        answer: Resource = await self._answer("get", {"meta": resource_meta, **kwargs})
        return answer

    async def delete(self, resource_meta: Meta, **kwargs: Any) -> None:
        """End a job."""
        await self._answer("delete", {"meta": resource_meta, **kwargs})

    async def _find(self, token: str, **kwargs: Any) -> Meta | None:
        found: Meta | None = await self._answer("find", {"token": token, **kwargs})
        return found

    async def _answer(self, call: str, given: dict[str, Any]) -> Any:
        self.calls.append((call, given))
        if self._clock is not None:
            at = (self._clock.now_us() - self._began_us) / 1e6
            self.times.append((call, at))
        async with self._called:
            self._called.notify_all()
        script = self.answers[call]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, BaseException):
            raise answer
        if inspect.iscoroutinefunction(answer):
            return await answer(**given)
        return answer

    def number(self, call: str) -> int:
        """Return how often *call* was made."""
        return sum(name == call for name, _ in self.calls)

    async def called(self, call: str, times: int = 1) -> None:
        """Wait until *call* was made *times*."""
        async with asyncio.timeout(DEADLINE_S), self._called:
            await self._called.wait_for(lambda: self.number(call) >= times)


class Gate:
    """An answer that waits until the test opens it, and says that it was reached."""

    def __init__(self, answer: Answer = None) -> None:
        """Answer with *answer* once opened."""
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self._answer = answer

    def answer(self) -> Callable[..., Awaitable[Any]]:
        """Return what goes into a script."""

        async def wait(**_: Any) -> Any:
            self.reached.set()
            await self.opened.wait()
            if isinstance(self._answer, BaseException):
                raise self._answer
            return self._answer

        return wait

    async def wait(self) -> None:
        """Wait until the call has come."""
        async with asyncio.timeout(DEADLINE_S):
            await self.reached.wait()


class Clock(ManualClock):
    """A manual clock that can be waited for until every engine sleeps."""

    def __init__(self) -> None:
        """Stand still."""
        super().__init__()
        self._waiting: set[asyncio.Event] = set()
        self._changed = asyncio.Event()
        self._sleeping = 0

    async def sleep(self, seconds: float) -> None:
        """Count who sleeps."""
        self._sleeping += seconds > 0
        self._changed.set()
        try:
            await super().sleep(seconds)
        finally:
            self._sleeping -= seconds > 0

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Remember that somebody sleeps until *event*."""
        self._waiting.add(event)
        self._changed.set()
        try:
            return await super().wait(event, seconds)
        finally:
            self._waiting.discard(event)

    async def settle(self, *orchestrators: Orchestrator) -> None:
        """Return when the engines sleep: nothing moves until the clock does."""
        async with asyncio.timeout(DEADLINE_S):
            while not all([await self._asleep(o) for o in orchestrators]):
                pass
            # Each engine's watch and heartbeat.
            while self._sleeping < 2 * len(orchestrators):
                self._changed.clear()
                await self._changed.wait()

    async def _asleep(self, orchestrator: Orchestrator) -> bool:
        scheduler = orchestrator.scheduler
        if scheduler._tasks:
            await asyncio.wait(set(scheduler._tasks))
            return False
        wake = scheduler._wake
        if wake in self._waiting and not wake.is_set():
            for _ in range(3):  # turns: what was just woken shows itself
                await asyncio.sleep(0)
            return wake in self._waiting and not scheduler._tasks
        self._changed.clear()
        await self._changed.wait()
        return False

    async def pass_(self, seconds: float, *orchestrators: Orchestrator) -> None:
        """Let *seconds* go by, with every timer in its order."""
        left = seconds
        while left > 0:
            await self.settle(*orchestrators)
            step = min(self.next_in() or left, left)
            self.advance(step)
            left -= step
            await asyncio.sleep(0)
        await self.settle(*orchestrators)

    async def until_ended(
        self, orchestrator: Orchestrator, execution_id: str, seconds_max: float = 1e6
    ) -> Execution:
        """Move from timer to timer until the execution is terminal."""
        left = seconds_max
        while True:
            await self.settle(orchestrator)
            execution = await orchestrator.get(execution_id)
            if execution.terminal:
                return execution
            assert left > 0, execution
            step = self.next_in() or 1.0
            left -= step
            self.advance(step)
            await asyncio.sleep(0)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again until *condition* holds: what is asked has no event."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def a_task(
    name: str = "a task",
    task_type: str = "script",
    inputs: Mapping[str, type] | None = None,
    **fields: Any,
) -> TaskTemplate:
    """Return a task with one str output, unless *fields* say otherwise."""
    fields.setdefault("outputs", {"result": str})
    interface = NativeInterface(
        inputs={k: (v, inspect.Parameter.empty) for k, v in (inputs or {}).items()},
        outputs=fields.pop("outputs"),
    )
    return TaskTemplate(
        name=name, interface=interface, task_type=task_type, image=None, **fields
    )


def registry_of(*connectors: AsyncConnector[Any]) -> Registry:
    """Return a registry of *connectors*."""
    registry = Registry()
    for connector in connectors:
        registry.register(connector)
    return registry


async def causes(orchestrator: Orchestrator, execution_id: str) -> list[str]:
    """Return the causes of an execution's transitions."""
    return [str(t.cause) for t in await orchestrator.history(execution_id)]
