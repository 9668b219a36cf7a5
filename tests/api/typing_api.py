"""The public API as a user's type checker sees it: `make types` reads this file.

It is checked by mypy and by pyright, both strict, and never run. A type that got lost
on the way (``Any``, ``Unknown``) or changed is an error here before it is one there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, assert_type

from flyteidl2.connector.connector_pb2 import GetTaskMetricsResponse
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator import (
    Backoff,
    Config,
    Execution,
    Handle,
    Job,
    Orchestrator,
    Phase,
    Policy,
    Registry,
    RemotePhase,
    RetryStrategy,
    Secret,
    Timeout,
    Transition,
    errors,
    options,
)
from orchestrator.connectors import (
    AsyncConnector,
    AsyncConnectorExecutorMixin,
    ConnectorRegistry,
    ConnectorSecretsMixin,
    Resource,
    ResourceMeta,
)
from orchestrator.connectors.process import ProcessConnector, ProcessTask
from orchestrator.connectors.utils import (
    Blocking,
    States,
    convert_to_flyte_phase,
    is_terminal_phase,
    redacted,
    remember_secret,
)
from orchestrator.extend import TaskTemplate
from orchestrator.models import NativeInterface, SerializationContext
from orchestrator.testing import (
    Check,
    Fault,
    JobCall,
    JobServer,
    JobSpec,
    ManualClock,
    Report,
    Rule,
    ScriptedConnector,
    State,
    check_connector,
)
from orchestrator.testing import (
    Job as ServerJob,
)

if TYPE_CHECKING:
    from pathlib import Path

# A connector and a task of the user's own


@dataclass
class CopyMeta(ResourceMeta):
    """What survives a crash."""

    job_id: str


class CopyConnector(AsyncConnector[CopyMeta], ConnectorSecretsMixin):
    """Names its meta once; every method then speaks of that class."""

    name = "Copy Connector"
    task_type_name = "copy"
    task_type_version = 1
    metadata_type = CopyMeta
    create_is_idempotent = timedelta(days=1)
    not_created_errors = (ConnectionRefusedError,)
    on_unknown_create: Literal["fail", "hold", "create"] = "hold"
    policy = Policy(poll_delay_min=timedelta(milliseconds=50), jitter=0.5)

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        idempotency_token: str = "",
        **kwargs: Any,
    ) -> CopyMeta:
        """Take what it names, and the rest by keyword."""
        return CopyMeta(job_id=idempotency_token)

    async def get(self, resource_meta: CopyMeta, **kwargs: Any) -> Resource:
        """Know the meta's fields."""
        assert_type(resource_meta.job_id, str)
        assert_type(resource_meta.encode(), bytes)
        assert_type(CopyMeta.decode(b""), CopyMeta)
        return Resource(
            phase=TaskExecution.SUCCEEDED,
            message="done",
            log_links=[TaskLog(name="log", uri="https://example.org")],
            outputs={"copied": 1},
            custom_info={"cluster": "a"},
        )

    async def delete(self, resource_meta: CopyMeta, **kwargs: Any) -> None:
        """Return nothing."""
        raise errors.TransientError("later", retry_after=timedelta(seconds=5))

    async def find(self, token: str, **kwargs: Any) -> CopyMeta | None:
        """Return the meta, or None."""
        return None

    def job_key(self, resource_meta: CopyMeta) -> str:
        """Return the service's id."""
        return resource_meta.job_id


class PortedConnector(AsyncConnector):
    """Flyte's tutorials name no meta in the base class; that keeps working."""

    task_type_name = "ported"
    metadata_type = CopyMeta

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> CopyMeta:
        """Return a meta."""
        return CopyMeta(job_id="1")

    async def get(self, resource_meta: CopyMeta, **kwargs: Any) -> Resource:
        """Return a resource."""
        return Resource(phase=convert_to_flyte_phase("done"))

    async def delete(self, resource_meta: CopyMeta, **kwargs: Any) -> None:
        """Return nothing."""


class CopyTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A task with limits and a custom configuration."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        """Declare the interface."""
        interface = NativeInterface(inputs={"rows": int}, outputs={"copied": int})
        super().__init__(name=name, interface=interface, task_type="copy", **kwargs)

    def custom_config(self, sctx: SerializationContext) -> Mapping[str, Any]:
        """Return something JSON-able."""
        assert_type(sctx.version, str)
        return {"secrets": {"api_key": "COPY_API_KEY"}}


def registering() -> None:
    """Connectors go into a registry, the static one or an own."""
    connector = CopyConnector(secrets={"api_key": "COPY_API_KEY"})
    ConnectorRegistry.register(connector)
    ConnectorRegistry.register(ProcessConnector(), override=True)
    registry = Registry()
    assert_type(registry.register(connector), None)
    assert_type(registry.get_connector("copy", 1), AsyncConnector[Any])
    assert_type(registry.keys(), list[tuple[str, int]])
    assert_type(connector.secrets, list[Secret])
    assert_type(is_terminal_phase(TaskExecution.FAILED), bool)


def declaring() -> list[TaskTemplate]:
    """Limits are given as numbers or as objects, a command as a list."""
    interface = NativeInterface(inputs={"rows": (int, 3)}, outputs={})
    return [
        CopyTask("copy", retries=2, timeout=timedelta(hours=1)),
        TaskTemplate(
            name="plain",
            interface=interface,
            task_type="copy",
            retries=RetryStrategy(
                count=3,
                backoff=Backoff(base=timedelta(seconds=1), cap=timedelta(minutes=1)),
            ),
            timeout=Timeout(max_runtime=timedelta(minutes=5)),
            secrets=[Secret(key="API_KEY", as_env_var="COPY_API_KEY")],
        ),
        ProcessTask("count", command=["wc", "-l"], inputs={"path": str}),
    ]


# The verbs


async def opening(database: Path) -> None:
    """By path, URL or nothing, with settings of one's own, started or not."""
    config = Config(batch_max=100, lease=timedelta(seconds=30))
    registry = Registry()
    async with Orchestrator(database, config=config, registry=registry) as first:
        assert_type(first, Orchestrator)
    async with Orchestrator("sqlite+aiosqlite:///jobs.db", start=False) as second:
        await second.tick()
    third = Orchestrator()
    assert_type(await third.open(), None)
    assert_type(await third.close(), None)


async def submitting(orch: Orchestrator, task: TaskTemplate) -> None:
    """`submit` and `retry` answer with a handle, which answers with records."""
    handle = await orch.submit(
        task,
        {"rows": 42},
        idempotency_key="nightly",
        labels={"team": "growth"},
        priority=1,
        start_at=datetime(2026, 1, 1, tzinfo=UTC),
        on_existing="retry_if_not_succeeded",
    )
    assert_type(handle, Handle)
    assert_type(handle.id, str)
    assert_type(handle.existing, bool)
    assert_type(await handle.wait(timeout=60), Execution)
    assert_type(await handle.wait(timeout=timedelta(minutes=1)), Execution)
    assert_type(await handle.get(), Execution)
    assert_type(await handle.history(), list[Transition])
    assert_type(await handle.abort("not needed"), None)
    assert_type(await orch.submit_many([(task, {"rows": 1})]), list[Handle])
    assert_type(await orch.retry(handle.id), Handle)
    assert_type(orch.handle(handle.id), Handle)


async def results(handle: Handle, task: CopyTask) -> None:
    """Native values are whatever the interface says: Any, and no less."""
    result: int = await handle.result(timeout=1.5)
    awaited: int = await handle
    with options(idempotency_key="nightly", labels={"team": "growth"}):
        executed: tuple[int] = await task.execute(rows=42)
    assert_type(await handle.outputs(await handle.get()), dict[str, Any])
    del result, awaited, executed


async def reading(orch: Orchestrator, handle: Handle) -> None:
    """Reading verbs answer with frozen records, lists of them, and lines."""
    found = await orch.list(
        phase=[Phase.RUNNING, "QUEUED"],
        task_type="copy",
        labels={"team": "growth"},
        held=False,
        limit=10,
        after=handle.id,
    )
    assert_type(found, list[Execution])
    assert_type(await orch.get(handle.id), Execution)
    assert_type(await orch.history(handle.id), list[Transition])
    assert_type(await orch.jobs(handle.id, owing=True), list[Job])
    assert_type(await orch.counts(), dict[tuple[str, str], int])
    assert_type(await orch.stuck(timedelta(minutes=5)), list[Execution])
    assert_type(await orch.wait(handle.id, timeout=None), Execution)
    assert_type(await orch.metrics(handle.id), GetTaskMetricsResponse)
    assert_type(await orch.interface_of(found[0]), NativeInterface)
    async for line in orch.logs(handle.id):
        assert_type(line, str)
    async for execution in orch.as_completed([handle, handle.id]):
        assert_type(execution, Execution)


async def wishing(orch: Orchestrator, task: TaskTemplate) -> None:
    """Wishes answer with nothing, `wake` with whether there was something to wake."""
    assert_type(await orch.abort("id", reason="not needed"), None)
    assert_type(await orch.resolve("id", created=CopyMeta(job_id="7")), None)
    assert_type(await orch.resolve("id", absent=True), None)
    assert_type(await orch.wake("id"), bool)
    assert_type(await orch.check_secrets(task), None)


# The records


def records(execution: Execution, transition: Transition, job: Job) -> None:
    """Fields that can be empty say so."""
    assert_type(execution.phase, Phase)
    assert_type(execution.terminal, bool)
    assert_type(execution.attempt, int)
    assert_type(execution.submitted_at, datetime)
    assert_type(execution.finished_at, datetime | None)
    assert_type(execution.remote_phase, RemotePhase | None)
    assert_type(execution.inputs, Mapping[str, Any])
    assert_type(execution.outputs, Mapping[str, Any] | None)
    assert_type(execution.error_code, str | None)
    assert_type(execution.labels, Mapping[str, str])
    assert_type(execution.resource_meta, bytes | None)
    assert_type(execution.log_links, Sequence[Mapping[str, str]])
    assert_type(transition.cause, str)
    assert_type(transition.from_phase, str | None)
    assert_type(transition.at, datetime)
    assert_type(job.job_key, str)
    assert_type(job.adopted_at, datetime | None)


# The test kit


async def checked(task: TaskTemplate, connector: CopyConnector) -> None:
    """A connector or what makes one; a report of checks."""
    rules = (Rule(do=Fault.REFUSE, status=429, times=1),)
    async with JobServer(JobSpec(run_s=0.5), rules) as server:
        report = await check_connector(
            connector,
            task,
            {"rows": 1},
            long_inputs={"rows": 10**9},
            count_jobs=server.count_jobs,
            states=list(State),
            map_state={"SUCCEEDED": TaskExecution.SUCCEEDED}.__getitem__,
            crash_points=["create.after_call"],
            timeout=timedelta(seconds=30),
        )
        await check_connector(lambda: connector, task, crash_points=())
        assert_type(report, Report)
        assert_type(report["create_is_idempotent"], Check)
        assert_type(report.failed, list[Check])
        assert_type(server.jobs(), list[ServerJob])
        assert_type(server.calls("create"), list[JobCall])
    scripted = ScriptedConnector(clock=ManualClock(), get=TimeoutError())
    assert_type(scripted.number("get"), int)


# Helpers for connectors


async def helpers() -> None:
    """What the built-in connectors are made of."""
    assert_type(await Blocking("vendor", threads=2).call(len, "abc"), int)
    states = States("Vendor", {"DONE": TaskExecution.SUCCEEDED})
    assert_type(states.phase("DONE"), TaskExecution.Phase)
    assert_type(redacted("text", 100), str)
    remember_secret("token")


# The errors


async def failing(handle: Handle) -> None:
    """Each error carries what it is about."""
    try:
        await handle.result(timeout=1)
    except errors.ExecutionFailedError as error:
        assert_type(error.execution, Execution)
        as_flyte: RuntimeError = error
        del as_flyte
    except errors.InvalidInputError as error:
        assert_type(error.field, str)
        as_value_error: ValueError = error
        del as_value_error
    except errors.WaitTimeoutError as error:
        as_timeout: TimeoutError = error
        del as_timeout
    except errors.OrchestratorError:
        raise
