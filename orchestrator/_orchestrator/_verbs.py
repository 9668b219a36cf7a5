"""The Orchestrator: what a user's program calls."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from orchestrator._clock import SystemClock
from orchestrator._codec import Encoded
from orchestrator._config import Config, database_url, load_config
from orchestrator._engine import Engine, clean
from orchestrator._faults import NO_FAULTS
from orchestrator._ids import Ids
from orchestrator._orchestrator._handle import Handle
from orchestrator._orchestrator._reading import Reading, checked
from orchestrator._orchestrator._submission import Prepared, attached, new_execution
from orchestrator._phase import Phase, Resolution
from orchestrator._registry import DEFAULT_REGISTRY, Registry
from orchestrator._secrets import get_logger, secret_providers, secret_references
from orchestrator._tasks import template_from_bytes, to_template
from orchestrator.errors import (
    ConfigurationError,
    ConnectorNotFoundError,
    IdempotencyConflictError,
    InvalidInputError,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from orchestrator._clock import Clock
    from orchestrator._engine import Scheduler, TickReport
    from orchestrator._faults import Faults
    from orchestrator._ids import IdFactory
    from orchestrator._secrets import SecretProvider
    from orchestrator._storage import NewExecution
    from orchestrator._tasks import TaskTemplate
    from orchestrator.models import NativeInterface

logger = get_logger(__name__)


_running: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Orchestrator]] = (
    WeakKeyDictionary()
)


def running_on(clock: Clock) -> list[Orchestrator]:
    """Return the running loop's started Orchestrators whose time is *clock*'s."""
    mine = _running.get(asyncio.get_running_loop(), [])
    return [each for each in mine if each._clock is clock]  # noqa: SLF001 - our own


def running_orchestrator() -> Orchestrator | None:
    """Return the running loop's Orchestrator, the last one that was opened.

    One with ``start=False`` runs nothing and does not count. None without any.
    """
    mine = _running.get(asyncio.get_running_loop())
    return mine[-1] if mine else None


class Orchestrator(Reading):
    """Durable executions of connector tasks, in one database.

    Use it as an async context manager: entering migrates the database, takes over
    what dead processes left and starts the scheduler; leaving lets calls in flight
    end and frees this process's rows. Jobs go on at their services meanwhile.

    Safe to use from many tasks of one event loop; one instance per loop. Several
    processes may use one database.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | None = None,
        *,
        config: Config | None = None,
        registry: Registry | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        ids: IdFactory | None = None,
        faults: Faults = NO_FAULTS,
        secrets: Sequence[SecretProvider] | None = None,
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
            secrets: Where values of secrets are looked up, in this order: functions
                that take a `SecretReference` and return its value or None, such as
                `EnvironmentSecrets()`. None for what *config* says.
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
        self._started = start
        self._reach = faults.reach
        self._engine = Engine(
            database_url(database),
            config=self._config,
            registry=self._registry,
            clock=self._clock,
            rng=rng,
            ids=self._ids,
            faults=faults,
            providers=(
                secret_providers(self._config.secrets) if secrets is None else secrets
            ),
        )
        self._open = False
        self._used = False

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
        if self._used:
            msg = "this Orchestrator was opened before: make a new one"
            raise ConfigurationError(msg)
        self._used = True
        await self._engine.open()
        self._open = True
        if not self._started:
            return
        try:
            await self._engine.lead()
        except BaseException:
            await self.close()
            raise
        self._engine.start()
        _running.setdefault(asyncio.get_running_loop(), []).append(self)

    async def close(self) -> None:
        """Stop the scheduler, let calls in flight end, close the database."""
        if self._open:
            self._open = False
            self._forget()
            await self._engine.close()

    async def crash(self) -> None:
        """Stop as a killed process would: nothing more is written. For tests."""
        self._open = False
        self._forget()
        await self._engine.crash()

    def _forget(self) -> None:
        mine = _running.get(asyncio.get_running_loop(), [])
        if self in mine:
            mine.remove(self)

    @property
    def quiet(self) -> bool:
        """Whether a started engine does nothing until its clock moves. For tests."""
        return self._engine.quiet

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
        elif not self._engine.lease.trusted():
            await self._engine.lease.renew()  # no heartbeat beats for ticks by hand
        return await self._engine.scheduler.tick()

    # Submitting

    async def submit(
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
            priority: Stored with the execution; does not order the queue yet.
            start_at: Not before this time; aware. None for now.
            on_existing: What a key that is taken answers: "return" the holder, or
                "retry_if_not_succeeded", a new execution if the holder ended
                without success.

        Raises:
            InvalidInputError: The field is named; nothing was stored.
            ConnectorNotFoundError: Nothing here runs this task type; not raised with
                ``start=False``, where another process runs what is submitted.
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
                ready = prepared[id(task)] = self._prepared(task)
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

    async def attach(
        self,
        task: TaskTemplate | Any,
        resource_meta: Any,
        inputs: Mapping[str, Any] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        priority: int = 0,
    ) -> Handle:
        """Take over a job that was created elsewhere: it is polled from now on.

        A job belongs to one execution: attaching it again returns that one, whatever
        else is given. That needs ``job_key``: without it two handles are two jobs.
        One that the service has never heard of ends FAILED as LOST, without a retry.

        Args:
            task: What the job runs, as for `submit`.
            resource_meta: The job's handle, of the connector's ``metadata_type``.
            inputs: What the job was given; a retry creates the next job with it.
            labels: As for `submit`.
            priority: As for `submit`.

        Raises:
            InvalidInputError: The field is named; nothing was stored. Also for a
                job that an earlier execution has given up, and that is deleted.
            ConnectorNotFoundError: Nothing here runs this task type.
            StoreUnavailableError: Nothing was accepted.
        """
        prepared = self._prepared(task)
        now = self._clock.now_us()
        new = new_execution(
            prepared,
            inputs,
            ids=self._ids,
            now=now,
            config=self._config,
            labels=labels,
            priority=priority,
        )
        try:
            job = self._engine.job_of(
                prepared.proto, prepared.stored[0], resource_meta, new.row["id"]
            )
        except ConnectorNotFoundError:
            raise
        except Exception as error:
            raise InvalidInputError("resource_meta", str(error)) from error
        [handle] = await self._accept(
            [attached(new, job, now)], [prepared.interface], now
        )
        return handle

    async def check_secrets(self, task: TaskTemplate | Any) -> None:
        """Raise if a secret that *task* needs has no value for this process.

        A missing secret otherwise holds the execution until it is there.

        Raises:
            SecretNotFoundError: The reference is named.
            ConnectorNotFoundError: Nothing here runs this task type.
        """
        proto = to_template(task)
        connector = self._registry.get_connector(proto.type, proto.task_type_version)
        await self._engine.secrets.resolve(secret_references(proto, connector))

    def _prepared(self, task: TaskTemplate | Any) -> Prepared:
        # A process that only submits need not know who runs it.
        prepared = Prepared.of(task, self._registry if self._started else None)
        kind = (prepared.proto.type, prepared.proto.task_type_version)
        self._engine.contexts.remember(prepared.stored[0], kind, prepared.interface)
        return prepared

    async def _accept(
        self,
        news: Sequence[NewExecution],
        interfaces: Sequence[NativeInterface | None],
        now: int,
    ) -> list[Handle]:
        if not news:
            return []
        self._reach("submit.before_commit")
        try:
            results = await self._engine.store.submit(news, now)
        finally:  # also for a cancelled caller, whose commit is not
            self._engine.alarm.wake()
        self._reach("submit.after_commit")
        for new, result in zip(news, results, strict=True):
            if result.conflict and new.job is not None:
                problem = f"its job is being deleted for {result.execution_id}"
                raise InvalidInputError("resource_meta", problem)
            if result.conflict:
                raise IdempotencyConflictError(str(new.key), result.execution_id)
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
            checked(execution_id), clean(reason), self._clock.now_us()
        )
        if wished:
            self._engine.alarm.wake()
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
            give_up: End it as CREATE_OUTCOME_UNKNOWN; also for a QUEUED one, which
                ends as OPERATOR_FAILED.

        Raises:
            InvalidInputError: Not exactly one of the three, or the execution is
                not CREATE_UNKNOWN, or the job is another execution's.
        """
        execution = await self.get(execution_id)
        if (created is not None) + absent + give_up != 1:
            problem = "give exactly one of created, absent and give_up"
            raise InvalidInputError("resolve", problem)
        queued = give_up and execution.phase is Phase.QUEUED
        if execution.phase is not Phase.CREATE_UNKNOWN and not queued:
            problem = f"{execution.id} is {execution.phase}, not CREATE_UNKNOWN"
            raise InvalidInputError("execution_id", problem)
        now = self._clock.now_us()
        if created is not None:
            await self._engine.record_job(execution, created, now)
        else:
            choice = Resolution.ABSENT if absent else Resolution.GIVE_UP
            if not await self._engine.store.wish_resolve(execution.id, choice, now):
                problem = f"{execution.id} is being worked on: look at it and try again"
                raise InvalidInputError("execution_id", problem)
        self._engine.alarm.wake()

    async def wake(self, execution_id: str) -> bool:
        """Make a live execution due now; False if it is terminal.

        Raises:
            ExecutionNotFoundError: There is no such execution.
        """
        now = self._clock.now_us()
        woken = await self._engine.store.wake(checked(execution_id), now)
        if woken:
            self._engine.alarm.wake()
        else:
            await self.get(execution_id)
        return woken
