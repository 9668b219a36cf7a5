"""A connector whose answers a test writes, and that remembers what it was asked."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._clock import SystemClock
from orchestrator._connector import AsyncConnector, Resource, ResourceMeta

if TYPE_CHECKING:
    from orchestrator._clock import Clock

Answer = Any
"""What a call answers: a value, an exception to raise, or a function to call.

A function gets what the connector's method got, by keyword; it may be async. Several
answers are a list: each is used once, the last one for ever.
"""


@dataclass
class ScriptedMeta(ResourceMeta):
    """The handle of a scripted job.

    Attributes:
        job: Its name, which is also its key.
    """

    job: str


class ScriptedConnector(AsyncConnector[ScriptedMeta]):
    """Answers each call with what the test has written, the last answer for ever.

    Without answers ``create`` makes ``job-1``, ``job-2`` and so on, ``get`` says
    RUNNING, then SUCCEEDED without outputs, ``delete`` does nothing. It has a
    ``find`` only if *find* is among the answers.

    Args:
        task_type: The task type that it runs.
        clock: Gives `times` their seconds; None leaves that list empty.
        **answers: ``create``, ``get``, ``delete``, ``find``: an answer or a list of
            them. All else is a member of the connector, such as ``policy``.

    Attributes:
        answers: Call to the answers that are left, in order.
        calls: Every call with its arguments, in order.
        times: Every call's name with the clock's seconds since the start.
    """

    name = "Scripted Connector"
    metadata_type = ScriptedMeta

    def __init__(
        self,
        task_type: str = "script",
        *,
        clock: Clock | None = None,
        **answers: Answer,
    ) -> None:
        self.task_type_name = task_type
        self.answers: dict[str, list[Answer]] = {
            "create": [None],
            "get": [
                Resource(phase=TaskExecution.RUNNING),
                Resource(phase=TaskExecution.SUCCEEDED),
            ],
            "delete": [None],
            "find": [None],
        }
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
                self.answers[name] = list(given) if isinstance(given, list) else [given]
            else:
                setattr(self, name, given)

    def job_key(self, resource_meta: ScriptedMeta) -> str:
        """Return the job's name."""
        return resource_meta.job

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: Any = None,
        **kwargs: Any,
    ) -> ScriptedMeta:
        """Make a job, if the script says nothing else."""
        del task_template, output_prefix
        given = {"inputs": inputs, "metadata": task_execution_metadata, **kwargs}
        answer = await self._answer("create", given)
        return ScriptedMeta(f"job-{next(self._jobs)}") if answer is None else answer

    async def get(self, resource_meta: ScriptedMeta, **kwargs: Any) -> Resource:
        """Tell of a job what the script says."""
        answer: Resource = await self._answer("get", {"meta": resource_meta, **kwargs})
        return answer

    async def delete(self, resource_meta: ScriptedMeta, **kwargs: Any) -> None:
        """End a job, or do what the script says."""
        await self._answer("delete", {"meta": resource_meta, **kwargs})

    async def _find(self, token: str, **kwargs: Any) -> ScriptedMeta | None:
        found: ScriptedMeta | None = await self._answer(
            "find", {"token": token, **kwargs}
        )
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
        if isinstance(answer, BaseException) or (
            isinstance(answer, type) and issubclass(answer, BaseException)
        ):
            raise answer
        if inspect.isroutine(answer):
            answer = answer(**given)
        return await answer if inspect.isawaitable(answer) else answer

    def number(self, call: str) -> int:
        """Return how often *call* was made."""
        return sum(name == call for name, _ in self.calls)

    async def called(self, call: str, times: int = 1, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - of a test, in real seconds
        """Wait until *call* was made *times*.

        Raises:
            TimeoutError: Not within *timeout* real seconds.
        """
        async with SystemClock().limit(timeout), self._called:
            await self._called.wait_for(lambda: self.number(call) >= times)
