"""The engine of one process: builds its parts, starts and stops its loops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from orchestrator._engine._alarm import Alarm
from orchestrator._engine._answers import new_job
from orchestrator._engine._belief import Belief
from orchestrator._engine._caller import Caller
from orchestrator._engine._calls import Calls
from orchestrator._engine._cleaner import Cleaner
from orchestrator._engine._contexts import Contexts
from orchestrator._engine._lease import Lease
from orchestrator._engine._parts import Parts
from orchestrator._engine._scheduler import Scheduler
from orchestrator._engine._stepper import Stepper
from orchestrator._engine._sweeper import Sweeper
from orchestrator._engine._waiters import Waiters
from orchestrator._secrets import Redactor, Secrets, get_logger
from orchestrator._storage import Store
from orchestrator._tasks import template_from_bytes
from orchestrator.errors import (
    ConnectorNotFoundError,
    InvalidInputError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from random import Random

    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator._clock import Clock
    from orchestrator._config import Config
    from orchestrator._engine._contexts import Context
    from orchestrator._faults import Faults
    from orchestrator._ids import IdFactory
    from orchestrator._records import Claimed, Execution, NewJob
    from orchestrator._registry import Registry
    from orchestrator._secrets import SecretProvider
    from orchestrator.models import NativeInterface

logger = get_logger(__name__)


class Engine:
    """A store, and the loops that advance its executions."""

    def __init__(
        self,
        database: str,
        *,
        config: Config,
        registry: Registry,
        clock: Clock,
        rng: Random,
        ids: IdFactory,
        faults: Faults,
        providers: Sequence[SecretProvider],
    ) -> None:
        """Build the parts; nothing is opened yet."""
        self.config = config
        self.clock = clock
        self.redactor = Redactor()
        self.secrets = Secrets(providers, clock)
        self.store = Store(database, config=config, clock=clock, faults=faults)
        self.lease = Lease(store=self.store, clock=clock, ids=ids, config=config)
        self.contexts = Contexts(registry, self.store.template_proto)
        self.waiters = Waiters(self._terminal_of, clock)
        self.caller = Caller(clock, self.redactor, self.secrets)
        self.calls = Calls(
            self.caller,
            clock=clock,
            faults=faults,
            output_prefix=config.output_prefix,
            late=self._late,
        )
        self.alarm = Alarm(clock)
        belief = Belief(clock)
        parts = Parts(
            store=self.store,
            contexts=self.contexts,
            calls=self.calls,
            lease=self.lease,
            clock=clock,
            belief=belief,
            rng=rng,
            faults=faults,
            released=self.alarm.released,
            ended=self.waiters.ended,
        )
        self.scheduler = Scheduler(
            store=self.store,
            contexts=self.contexts,
            stepper=Stepper(parts),
            cleaner=Cleaner(parts),
            sweeper=Sweeper(parts),
            alarm=self.alarm,
            lease=self.lease,
            clock=clock,
            belief=belief,
            config=config,
            faults=faults,
            redactor=self.redactor,
            changed=self.waiters.changed,
        )
        self._loops: list[asyncio.Task[None]] = []
        self._leading = False

    async def open(self) -> None:
        """Open the store, for reading and submitting."""
        await self.store.open()

    async def lead(self) -> None:
        """Become a node: take over from dead ones, be ready for ticks."""
        await self.lease.begin()
        self._leading = True
        await self.store.see_connectors(self.contexts.names(), self.clock.now_us())

    def start(self) -> None:
        """Start the loops of a node that leads: scheduler, watch, heartbeat."""
        for loop in (self.scheduler.run, self.scheduler.watch, self.scheduler.beat):
            self._spawn(loop.__name__, loop())

    @property
    def quiet(self) -> bool:
        """Whether nothing happens here until the clock moves, or somebody asks."""
        busy = self.store.reads > 0 or self.store.writer.busy
        return self.scheduler.asleep and not busy

    def watch_once(self) -> None:
        """Start only the watch, if it is not: whoever waits sees other processes."""
        if not self._loops:
            self._spawn("watch", self.scheduler.watch())

    async def interface_of(self, execution: Execution) -> NativeInterface:
        """Return an execution's native types, as well as this process knows them."""
        digest = execution.template_hash
        proto = await self.store.template_proto(digest)
        return self.contexts.interface_of(digest, template_from_bytes(proto or b""))

    async def context_of(self, execution: Execution) -> Context:
        """Return an execution's connector and template.

        Raises:
            ConnectorNotFoundError: Nothing here runs its task type.
        """
        kind, version = execution.task_type, execution.task_version
        context = await self.contexts.get(kind, version, execution.template_hash)
        if context is None:
            msg = (
                f"Cannot find connector for task type: {kind} and version: {version}:"
                " register it first (on the command line: --connectors MODULE)"
            )
            raise ConnectorNotFoundError(msg)
        return context

    def job_of(
        self, template: TaskTemplate, digest: str, meta: object, execution_id: str
    ) -> NewJob:
        """Return a job that a user knows, for the first attempt of an execution.

        Raises:
            ConnectorNotFoundError: Nothing here runs its task type.
            Exception: *meta* is not the connector's, or cannot be encoded.
        """
        connector = self.contexts.connector(template.type, template.task_type_version)
        context = self.contexts.add(connector, template, digest)
        return new_job(meta, execution_id, 1, context)

    async def record_job(self, execution: Execution, meta: object, now: int) -> None:
        """Enter a job that a user found in the ledger, and wake its execution.

        Raises:
            InvalidInputError: It is another execution's job; nothing is changed.
        """
        context = await self.context_of(execution)
        job = new_job(meta, execution.id, execution.attempt, context)
        holder = await self.store.enter(execution, job, now)
        if holder is not None:
            problem = f"job {job.job_key} is execution {holder}'s"
            raise InvalidInputError("created", problem)
        await self.store.wake(execution.id, now)

    def _spawn(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(loop, name=f"orchestrator-{name}")
        task.add_done_callback(_report)
        self._loops.append(task)

    async def close(self) -> None:
        """Stop the loops, let calls end, free this node's rows, close the store."""
        # A loop that shuts down has cancelled the writer: it is needed once more.
        self.store.writer.start()
        self.store.writer.hurry()
        await self._stop_loops()
        await self.scheduler.drain(self.config.stop_timeout.total_seconds())
        await self.calls.stop()
        message = f"{self.store.path}: the engine was closed"
        await self.waiters.close(StoreUnavailableError(message))
        try:
            if self._leading:
                await self.lease.end()
        except StoreUnavailableError as error:
            logger.warning(
                "this node's rows stay claimed until its lease ends: %s", error
            )
        finally:
            self.lease.abandon()
            await self.store.close()

    async def crash(self) -> None:
        """Stop as a killed process would: the rows stay claimed."""
        await self._stop_loops()
        await self.scheduler.drain(0)
        await self.calls.stop()
        await self.waiters.close(StoreUnavailableError("crashed"))
        self.lease.abandon()
        await self.store.close()

    async def _stop_loops(self) -> None:
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()

    async def _terminal_of(self, ids: Sequence[str]) -> list[str]:
        return await self.store.terminal_of(ids)

    async def _late(self, row: Claimed, job: NewJob) -> None:
        """Enter the late answer of a detached create, and wake its row."""
        now = self.clock.now_us()
        logger.info("late answer of create for %s", row.id)
        await self.store.record(row, row.attempt, job, now)
        await self.store.wake(row.id, now)
        self.alarm.released(now)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("%s ended", task.get_name(), exc_info=task.exception())
