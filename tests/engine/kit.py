"""A connector whose answers a test writes, a clock that tells who sleeps, a watch."""

from __future__ import annotations

import asyncio
import inspect
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Config, Orchestrator, Policy, Registry, TaskTemplate
from orchestrator.connectors import Resource
from orchestrator.models import NativeInterface
from orchestrator.testing import ManualClock, ScriptedConnector, ScriptedMeta

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from orchestrator import Execution
    from orchestrator.connectors import AsyncConnector
    from orchestrator.testing import Answer

DEADLINE_S = 10.0
"""Real seconds that a test waits for what has to come at once."""

CONFIG = Config(
    watch=timedelta(minutes=5),
    heartbeat=timedelta(minutes=10),
    lease=timedelta(hours=1),
)
"""On a manual clock these are timers like others: rare ones keep tests short."""

POLICY = Policy(jitter=0.0)
Meta = ScriptedMeta
QUEUED = Resource(phase=TaskExecution.QUEUED)
RUNNING = Resource(phase=TaskExecution.RUNNING, message="at work")
DONE = Resource(phase=TaskExecution.SUCCEEDED, outputs={"result": "good"})
FAILED = Resource(phase=TaskExecution.FAILED, message="bad")
RETRYABLE = Resource(phase=TaskExecution.RETRYABLE_FAILED, message="unlucky")
KILLED = Resource(phase=TaskExecution.ABORTED)


class Script(ScriptedConnector):
    """A scripted connector whose job has one output, and whose delays are exact."""

    name = "script"
    policy = POLICY

    def __init__(self, task_type: str = "script", **answers: Answer) -> None:
        """Answer with *answers*; class members like ``policy`` may be among them."""
        answers.setdefault("get", [RUNNING, DONE])
        super().__init__(task_type, **answers)


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
        wake = orchestrator._engine.alarm.event
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


class Block:
    """An answer that blocks its thread until the test lets it go."""

    def __init__(self, answer: Any = RUNNING) -> None:
        self.reached = threading.Event()
        self.release = threading.Event()
        self._answer = answer

    def call(self, **_: Any) -> Any:
        self.reached.set()
        assert self.release.wait(10 * DEADLINE_S)
        return self._answer

    async def wait(self) -> None:
        await seen(self.reached)


async def seen(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, DEADLINE_S)
