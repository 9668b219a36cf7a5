"""The verbs that only read: records, history, ledger, waiting, logs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from orchestrator._ids import EXECUTION_ID
from orchestrator._orchestrator import _logs
from orchestrator._orchestrator._handle import Handle
from orchestrator._phase import Phase
from orchestrator.errors import (
    ExecutionNotFoundError,
    InvalidInputError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Iterable,
        Mapping,
        Sequence,
    )

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        GetTaskMetricsResponse,
    )

    from orchestrator._clock import Clock
    from orchestrator._engine import Engine
    from orchestrator._orchestrator._verbs import Orchestrator
    from orchestrator._records import Execution, Job, Transition
    from orchestrator.models import NativeInterface

_LIST_MAX = 1000
_WORDS = [str(phase) for phase in Phase]
_List = list  # inside the class, ``list`` is the verb


def checked(execution_id: str) -> str:
    """Return *execution_id* if it can be one.

    Raises:
        ExecutionNotFoundError: It is no id at all.
    """
    if not isinstance(execution_id, str) or not EXECUTION_ID.fullmatch(execution_id):
        raise ExecutionNotFoundError(str(execution_id))
    return execution_id


class Reading:
    """What can be asked of a database; part of `Orchestrator`."""

    _engine: Engine
    _clock: Clock
    _started: bool

    def handle(self, execution_id: str) -> Handle:
        """Return a handle of an execution that was submitted before, anywhere."""
        return Handle(cast("Orchestrator", self), checked(execution_id))

    async def get(self, execution_id: str) -> Execution:
        """Return an execution as it is now.

        Raises:
            ExecutionNotFoundError: There is no such execution.
        """
        found = await self._engine.store.get(checked(execution_id))
        if found is None:
            raise ExecutionNotFoundError(execution_id)
        return found

    async def list(
        self,
        *,
        phase: str | Sequence[str] | None = None,
        task_type: str | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        held: bool | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> _List[Execution]:
        """Return executions that match all filters, newest first.

        Args:
            phase: One phase or several; None for all.
            task_type: None for all.
            name: The task's name; None for all.
            labels: All must match.
            held: True for those on hold, False for the others, None for all.
            limit: 1 to 1000.
            after: The last id of the page before.

        Raises:
            InvalidInputError: A filter is no phase, or the limit is out of range.
        """
        phases = [phase] if isinstance(phase, str) else phase
        for word in phases or ():
            if word not in _WORDS:
                raise InvalidInputError("phase", f"{word!r} is none of {_WORDS}")
        if not 1 <= limit <= _LIST_MAX:
            raise InvalidInputError("limit", f"must be 1 to {_LIST_MAX}, got {limit}")
        return await self._engine.store.find(
            phases=phases,
            task_type=task_type,
            name=name,
            labels=labels,
            held=held,
            limit=limit,
            after=after,
        )

    async def history(self, execution_id: str) -> _List[Transition]:
        """Return an execution's transitions, oldest first.

        Raises:
            ExecutionNotFoundError: There is no such execution.
        """
        found = await self._engine.store.transitions(checked(execution_id))
        if not found:
            raise ExecutionNotFoundError(execution_id)
        return found

    async def jobs(
        self, execution_id: str | None = None, *, owing: bool = False
    ) -> _List[Job]:
        """Return ledger entries: of one execution, or only those that owe cleanup."""
        return await self._engine.store.jobs(execution_id=execution_id, owing=owing)

    async def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of executions by (task type, phase), from the rollups.

        JSON objects have no such keys: return it from a web endpoint as a list
        (``examples/12_fastapi.py``).
        """
        return await self._engine.store.counts()

    async def stuck(
        self, overdue: timedelta = timedelta(minutes=1)
    ) -> _List[Execution]:
        """Return live executions that are on hold or overdue by more than *overdue*."""
        before = self._clock.now_us() - overdue // timedelta(microseconds=1)
        return await self._engine.store.stuck(before)

    async def wait(
        self,
        execution_id: str,
        *,
        timeout: timedelta | float | None = None,  # noqa: ASYNC109 - asyncio's own name
    ) -> Execution:
        """Return the terminal record of an execution, however it ended.

        Sees ends that other processes commit. Cancelling it changes nothing.

        Raises:
            ExecutionNotFoundError: There is no such execution.
            WaitTimeoutError: It is not terminal after *timeout* (seconds or
                timedelta).
        """
        execution = await self.get(execution_id)
        if execution.terminal:
            return execution
        if not self._started:
            self._engine.watch_once()
        future = self._engine.waiters.add(execution_id)
        try:
            if timeout is None:
                await future
            else:
                seconds = (
                    timeout.total_seconds()
                    if isinstance(timeout, timedelta)
                    else float(timeout)
                )
                try:
                    async with self._clock.limit(seconds):
                        await future
                except TimeoutError:
                    execution = await self.get(execution_id)
                    words = (execution.phase, execution.hold, execution.last_error)
                    state = ", ".join(str(word) for word in words if word)
                    raise WaitTimeoutError(
                        execution_id,
                        seconds,
                        state,
                        aborting=execution.abort_requested_at is not None,
                    ) from None
        finally:
            self._engine.waiters.discard(execution_id, future)
        return await self.get(execution_id)

    async def as_completed(
        self, handles: Iterable[Handle | str]
    ) -> AsyncIterator[Execution]:
        """Yield the terminal records of *handles* in the order in which they end."""
        ids = [h.id if isinstance(h, Handle) else h for h in handles]
        tasks = {asyncio.ensure_future(self.wait(i)) for i in dict.fromkeys(ids)}
        try:
            while tasks:
                done, tasks = await asyncio.wait(
                    tasks, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    yield task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def logs(self, execution_id: str) -> AsyncGenerator[str]:
        """Yield the lines of the job's logs, as the connector gives them.

        Raises:
            ExecutionNotFoundError: There is no such execution.
            ConnectorNotFoundError: Nothing here runs its task type.
            InvalidInputError: It has no job yet, or its connector has no logs.
            CallTimeoutError: A page did not come within the policy's ``get_timeout``;
                the connector's call was cancelled.
            ConnectorError: The connector's ``get_logs`` failed; what steers the
                engine keeps its class, and secrets are replaced.
        """
        execution = await self.get(execution_id)
        context = await self._engine.context_of(execution)
        async with aclosing(_logs.lines(execution, context, self._engine)) as lines:
            async for line in lines:
                yield line

    async def log_pages(
        self, execution_id: str, token: str = ""
    ) -> AsyncGenerator[GetTaskLogsResponse]:
        """Yield one turn of a job's logs as Flyte's messages, from *token* on.

        Raises:
            As `logs`.
        """
        execution = await self.get(execution_id)
        context = await self._engine.context_of(execution)
        given = _logs.pages(execution, context, self._engine, token)
        async with aclosing(given) as pages:
            async for page in pages:
                yield page

    async def metrics(self, execution_id: str) -> GetTaskMetricsResponse:
        """Return the job's metrics as Flyte's protobuf, secrets in strings replaced.

        Raises:
            ExecutionNotFoundError: There is no such execution.
            ConnectorNotFoundError: Nothing here runs its task type.
            InvalidInputError: It has no job yet, or its connector has no metrics.
            CallTimeoutError: They did not come within ``get_timeout``.
            ConnectorError: As `logs`, of ``get_metrics``.
        """
        execution = await self.get(execution_id)
        context = await self._engine.context_of(execution)
        return await _logs.metrics(execution, context, self._engine)

    async def interface_of(self, execution: Execution) -> NativeInterface:
        """Return an execution's native types, as well as this process knows them.

        A process that has not declared the task sees dataclasses as dicts.
        """
        return await self._engine.interface_of(execution)
