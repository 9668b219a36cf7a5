"""The Orchestrator: what a user's program calls."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from orchestrator._clock import SystemClock
from orchestrator._codec import Encoded, interface_from_proto
from orchestrator._config import Config, database_url, load_config
from orchestrator._engine import Engine
from orchestrator._faults import NO_FAULTS
from orchestrator._ids import EXECUTION_ID, Ids
from orchestrator._orchestrator import _logs
from orchestrator._orchestrator._handle import Handle
from orchestrator._orchestrator._submission import Prepared, new_execution
from orchestrator._phase import Phase, Resolution
from orchestrator._registry import DEFAULT_REGISTRY, Registry
from orchestrator._storage import NewExecution
from orchestrator._tasks import template_from_bytes
from orchestrator.errors import (
    ConfigurationError,
    ExecutionNotFoundError,
    IdempotencyConflictError,
    InvalidInputError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from datetime import datetime

    from orchestrator._clock import Clock
    from orchestrator._engine import Scheduler, TickReport
    from orchestrator._faults import Faults
    from orchestrator._ids import IdFactory
    from orchestrator._records import Execution, Job, Transition
    from orchestrator._tasks import TaskTemplate
    from orchestrator.models import NativeInterface

logger = logging.getLogger(__name__)

_LIST_MAX = 1000


class Orchestrator:
    """Durable executions of connector tasks, in one database.

    Use it as an async context manager: entering migrates the database, takes over
    what dead processes left and starts the scheduler; leaving lets calls in flight
    end and frees this process's rows. Jobs go on at their services meanwhile.

    Safe to use from many tasks of one event loop; one instance per loop. Several
    processes may use one database.
    """

    def __init__(  # noqa: PLR0913 - what is handed in, all by keyword
        self,
        database: str | os.PathLike[str] | None = None,
        *,
        config: Config | None = None,
        registry: Registry | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        ids: IdFactory | None = None,
        faults: Faults = NO_FAULTS,
        start: bool = True,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            database: A path or ``sqlite+aiosqlite:///PATH``; None for
                ``ORCHESTRATOR_DATABASE``, else ``./orchestrator.db``.
            config: None reads ``ORCHESTRATOR_*`` and the TOML file.
            registry: Where connectors are looked up; None for the one that
                ``ConnectorRegistry`` fills.
            clock: None for the system's.
            rng: Chance for jitter and ids; None for a fresh, unseeded one.
            ids: None for UUIDv7.
            faults: Named points for crash tests.
            start: False opens the database without running anything: for reading,
                submitting and for calling `tick` by hand.

        Raises:
            ConfigurationError: A setting cannot be used.
        """
        self._clock = clock or SystemClock()
        self._registry = DEFAULT_REGISTRY if registry is None else registry
        rng = rng or random.Random()  # noqa: S311 - jitter, and ids that are no secret
        self._ids = ids or Ids(self._clock, rng)
        self._config = config or load_config()
        self._start = start
        self._reach = faults.reach
        self._engine = Engine(
            database_url(database),
            config=self._config,
            registry=self._registry,
            clock=self._clock,
            rng=rng,
            ids=self._ids,
            faults=faults,
        )
        self._open = False

    # Life

    async def __aenter__(self) -> Self:
        """Open; see `open`."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close; see `close`."""
        await self.close()

    async def open(self) -> None:
        """Open the database, and start the scheduler unless told not to.

        Raises:
            NotADatabaseError: The path is something else.
            SchemaMismatchError: The database is from a newer version.
            StoreUnavailableError: It cannot be opened or written.
        """
        if self._open:
            msg = "this Orchestrator is open already"
            raise ConfigurationError(msg)
        await self._engine.open()
        self._open = True
        if not self._start:
            return
        try:
            await self._engine.lead()
        except BaseException:
            await self.close()
            raise
        self._engine.start()

    async def close(self) -> None:
        """Stop the scheduler, let calls in flight end, close the database."""
        if self._open:
            self._open = False
            await self._engine.close()

    async def crash(self) -> None:
        """Stop as a killed process would: nothing more is written. For tests."""
        self._open = False
        await self._engine.crash()

    @property
    def scheduler(self) -> Scheduler:
        """Return the scheduler, whose `tick` tests call by hand."""
        return self._engine.scheduler

    async def tick(self) -> TickReport:
        """Claim what is due and step it, one row after the other; for ``start=False``.

        The first tick makes this process a node and takes over from dead ones.
        """
        if not self._engine.lease.node:
            await self._engine.lead()
        return await self._engine.scheduler.tick()

    # Submitting

    async def submit(  # noqa: PLR0913 - the options of a submission, all by keyword
        self,
        task: TaskTemplate | Any,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int = 0,
        start_at: datetime | None = None,
        on_existing: str = "return",
    ) -> Handle:
        """Accept one execution; when this returns, it survives any crash.

        Args:
            task: A `TaskTemplate`, or a Flyte ``TaskTemplate`` protobuf.
            inputs: Native values by name; defaults are filled in.
            idempotency_key: The same key never makes a second execution.
            labels: Text by text, to find it again.
            priority: Higher is more urgent.
            start_at: Not before this time; aware. None for now.
            on_existing: What a key that is taken answers: "return" the holder, or
                "retry_if_not_succeeded", a new execution if the holder ended
                without success.

        Raises:
            InvalidInputError: The field is named; nothing was stored.
            ConnectorNotFoundError: Nothing here runs this task type.
            IdempotencyConflictError: The key belongs to another request.
            StoreUnavailableError: Nothing was accepted.
        """
        options = {
            "idempotency_key": idempotency_key,
            "labels": labels,
            "priority": priority,
            "start_at": start_at,
            "on_existing": on_existing,
        }
        handles = await self.submit_many([(task, inputs or {}, options)])
        return handles[0]

    async def submit_many(self, submissions: Iterable[tuple[Any, ...]]) -> list[Handle]:
        """Accept many executions in one transaction: all, or none.

        Args:
            submissions: ``(task, inputs)`` or ``(task, inputs, options)``, where
                options are those of `submit` as a dict.

        Returns:
            One handle each, in order.

        Raises:
            As `submit`; then nothing was stored.
        """
        now = self._clock.now_us()
        prepared: dict[int, Prepared] = {}
        # The tasks are kept, so that no id() is used again while we look by it.
        tasks: list[Any] = []
        news: list[NewExecution] = []
        for task, inputs, *rest in submissions:
            ready = prepared.get(id(task))
            if ready is None:
                ready = prepared[id(task)] = Prepared.of(task, self._registry)
            tasks.append(task)
            options = dict(rest[0]) if rest else {}
            news.append(
                new_execution(
                    ready,
                    inputs or {},
                    ids=self._ids,
                    now=now,
                    config=self._config,
                    **options,
                )
            )
        interfaces = [prepared[id(task)].interface for task in tasks]
        return await self._accept(news, interfaces, now)

    async def _accept(
        self,
        news: Sequence[NewExecution],
        interfaces: Sequence[NativeInterface | None],
        now: int,
    ) -> list[Handle]:
        if not news:
            return []
        self._reach("submit.before_commit")
        results = await self._engine.store.submit(news, now)
        self._reach("submit.after_commit")
        for new, result in zip(news, results, strict=True):
            if result.conflict:
                raise IdempotencyConflictError(str(new.key), result.execution_id)
        self._engine.scheduler.wake()
        return [
            Handle(
                self, result.execution_id, interface=interface, existing=result.existing
            )
            for result, interface in zip(results, interfaces, strict=True)
        ]

    async def retry(self, execution_id: str) -> Handle:
        """Submit a terminal execution's task and inputs again, as a new execution.

        Raises:
            ExecutionNotFoundError: There is no such execution.
            InvalidInputError: It is not terminal yet.
        """
        old = await self.get(execution_id)
        if not old.terminal:
            raise InvalidInputError(
                "execution_id", f"{old.id} is {old.phase}: abort it"
            )
        store = self._engine.store
        proto = await store.template_proto(old.template_hash)
        inputs = await store.inputs_proto(old.id)
        now = self._clock.now_us()
        prepared = Prepared.of(template_from_bytes(proto or b""), self._registry)
        new = new_execution(
            prepared,
            None,
            ids=self._ids,
            now=now,
            config=self._config,
            labels=old.labels,
            priority=old.priority,
            encoded=Encoded(inputs or b"", json.dumps(dict(old.inputs))),
        )
        new.row["retry_of"] = old.id
        return (await self._accept([new], [None], now))[0]

    # Wishes

    async def abort(self, execution_id: str, *, reason: str = "") -> None:
        """Wish for the end of an execution; its job is deleted and confirmed gone.

        Idempotent; aborting a terminal execution is no error and changes nothing.
        Durable when this returns; `wait` tells when it has happened.

        Raises:
            ExecutionNotFoundError: There is no such execution.
        """
        store = self._engine.store
        wished = await store.wish_abort(
            self._checked(execution_id), _logs.text(reason), self._clock.now_us()
        )
        if wished:
            self._engine.scheduler.wake()
        else:
            await self.get(execution_id)

    async def resolve(
        self,
        execution_id: str,
        *,
        created: Any = None,
        absent: bool = False,
        give_up: bool = False,
    ) -> None:
        """Say what you found out about a create whose outcome is unknown.

        Args:
            execution_id: A CREATE_UNKNOWN execution.
            created: The job's resource meta: it is adopted.
            absent: There is no job: the same attempt is created again.
            give_up: End it as CREATE_OUTCOME_UNKNOWN.

        Raises:
            InvalidInputError: Not exactly one of the three, or the execution is
                not CREATE_UNKNOWN.
        """
        execution = await self.get(execution_id)
        if (created is not None) + absent + give_up != 1:
            problem = "give exactly one of created, absent and give_up"
            raise InvalidInputError("resolve", problem)
        if execution.phase is not Phase.CREATE_UNKNOWN:
            problem = f"{execution.id} is {execution.phase}, not CREATE_UNKNOWN"
            raise InvalidInputError("execution_id", problem)
        now = self._clock.now_us()
        if created is not None:
            await self._engine.record_job(execution, created, now)
        else:
            choice = Resolution.ABSENT if absent else Resolution.GIVE_UP
            await self._engine.store.wish_resolve(execution.id, choice, now)
        self._engine.scheduler.wake()

    async def wake(self, execution_id: str) -> bool:
        """Make a live execution due now; False if it is terminal.

        Raises:
            ExecutionNotFoundError: There is no such execution.
        """
        now = self._clock.now_us()
        woken = await self._engine.store.wake(self._checked(execution_id), now)
        if woken:
            self._engine.scheduler.wake()
        else:
            await self.get(execution_id)
        return woken

    # Reading

    def handle(self, execution_id: str) -> Handle:
        """Return a handle of an execution that was submitted before, anywhere."""
        return Handle(self, self._checked(execution_id))

    async def get(self, execution_id: str) -> Execution:
        """Return an execution as it is now.

        Raises:
            ExecutionNotFoundError: There is no such execution.
        """
        found = await self._engine.store.get(self._checked(execution_id))
        if found is None:
            raise ExecutionNotFoundError(execution_id)
        return found

    async def list(  # noqa: PLR0913 - the filters, all by keyword
        self,
        *,
        phase: str | Sequence[str] | None = None,
        task_type: str | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        held: bool | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[Execution]:
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
            if word not in list(Phase):
                raise InvalidInputError("phase", f"{word!r} is none of {list(Phase)}")
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

    async def history(self, execution_id: str) -> list[Transition]:
        """Return an execution's transitions, oldest first.

        Raises:
            ExecutionNotFoundError: There is no such execution.
        """
        found = await self._engine.store.transitions(self._checked(execution_id))
        if not found:
            raise ExecutionNotFoundError(execution_id)
        return found

    async def jobs(
        self, execution_id: str | None = None, *, owing: bool = False
    ) -> list[Job]:
        """Return ledger entries: of one execution, or only those that owe cleanup."""
        return await self._engine.store.jobs(execution_id=execution_id, owing=owing)

    async def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of executions by (task type, phase), from the rollups."""
        return await self._engine.store.counts()

    async def stuck(self, overdue: timedelta = timedelta(minutes=1)) -> list[Execution]:
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
        if not self._start:
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
                    raise WaitTimeoutError(execution_id, seconds) from None
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

    async def logs(self, execution_id: str) -> AsyncIterator[str]:
        """Yield the lines of the job's logs, as the connector gives them.

        Raises:
            ExecutionNotFoundError: There is no such execution.
            ConnectorNotFoundError: Nothing here runs its task type.
            InvalidInputError: It has no job yet, or its connector has no logs.
        """
        execution = await self.get(execution_id)
        context = await self._engine.context_of(execution)
        async for line in _logs.lines(execution, context, self._engine.redactor):
            yield line

    async def interface_of(self, execution: Execution) -> NativeInterface:
        """Return the native interface of an execution's stored template."""
        proto = await self._engine.store.template_proto(execution.template_hash)
        return interface_from_proto(template_from_bytes(proto or b"").interface)

    @staticmethod
    def _checked(execution_id: str) -> str:
        if not isinstance(execution_id, str) or not EXECUTION_ID.fullmatch(
            execution_id
        ):
            raise ExecutionNotFoundError(str(execution_id))
        return execution_id
