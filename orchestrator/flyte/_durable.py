"""Durable: each job is an execution of the engine: no crash loses or doubles it.

CreateTask submits and answers the execution's id; GetTask answers from the database;
DeleteTask records the wish for the end. Flyte's retries stay Flyte's: an execution
has one attempt, and Flyte's next attempt is another execution.
"""

from __future__ import annotations

from base64 import b64encode
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
from flyteidl2.connector import connector_pb2
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl2.core.tasks_pb2 import TaskTemplate
from flyteidl2.task import common_pb2

from orchestrator._connector import implements
from orchestrator._phase import Phase, RemotePhase
from orchestrator._tasks import METADATA_LABEL, PREFIX_LABEL, TOKEN_LABEL
from orchestrator.errors import ExecutionNotFoundError, IdempotencyConflictError
from orchestrator.flyte._codes import RefusedError
from orchestrator.flyte._wire import (
    connection_values,
    identity_of,
    named_literals,
    native_inputs,
    told_struct_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flyteidl2.core.security_pb2 import Connection

    from orchestrator._orchestrator import Orchestrator
    from orchestrator._records import Execution
    from orchestrator._registry import Registry

REMEMBERED_S = 30 * 24 * 3600
"""Told to callers; keys live as long as their executions, and longer than this."""

_PHASES: dict[Phase, TaskExecution.Phase] = {
    Phase.QUEUED: TaskExecution.QUEUED,
    Phase.CREATING: TaskExecution.INITIALIZING,
    Phase.CREATE_UNKNOWN: TaskExecution.INITIALIZING,
    Phase.RUNNING: TaskExecution.RUNNING,
    Phase.ABORTING: TaskExecution.RUNNING,
    Phase.SUCCEEDED: TaskExecution.SUCCEEDED,
    Phase.FAILED: TaskExecution.FAILED,
    Phase.ABORTED: TaskExecution.ABORTED,
    Phase.TIMED_OUT: TaskExecution.FAILED,
}
_WAITING: dict[RemotePhase, TaskExecution.Phase] = {
    RemotePhase.QUEUED: TaskExecution.QUEUED,
    RemotePhase.INITIALIZING: TaskExecution.INITIALIZING,
    RemotePhase.WAITING_FOR_RESOURCES: TaskExecution.WAITING_FOR_RESOURCES,
}
_DELETED = "deleted by DeleteTask"
_OF_THE_JOB = ("REMOTE_FAILED", "REMOTE_ABORTED")
"""Codes of jobs that ended by themselves: what the connector says of it is all."""


class Durable:
    """Submits to, and reads from, an engine.

    Secrets are references: what a task's template and its connector name is read
    from this process's environment when a call is made. Values in a Connection are
    refused, also of a secret that is named so: a job must not run under another
    credential than its caller gave.
    """

    remembered_s: int | None = REMEMBERED_S

    def __init__(self, orchestrator: Orchestrator, registry: Registry) -> None:
        """Use an *orchestrator* that is open, and the *registry* that it has."""
        self._orch = orchestrator
        self._registry = registry
        self.redactor = orchestrator._engine.redactor  # noqa: SLF001 - one library

    async def create(
        self, request: connector_pb2.CreateTaskRequest
    ) -> connector_pb2.CreateTaskResponse:
        """Submit; the same attempt of Flyte's is submitted once, whenever it comes."""
        template = TaskTemplate()
        template.CopyFrom(request.template)
        self._registry.get_connector(template.type, template.task_type_version)
        _refuse_values(request.connection)
        template.metadata.ClearField("retries")
        identity = identity_of(request.task_execution_metadata)
        try:
            handle = await self._orch.submit(
                template,
                native_inputs(template, request.inputs),
                idempotency_key=None if identity is None else f"flyte-{identity}",
                labels=_labels(request),
            )
        except IdempotencyConflictError as error:
            details = (
                f"{_attempt(request.task_execution_metadata)} has a job already, of"
                " another task type, name or inputs: nothing was submitted"
            )
            raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, details) from error
        return connector_pb2.CreateTaskResponse(resource_meta=handle.id.encode())

    async def get(
        self, request: connector_pb2.GetTaskRequest
    ) -> connector_pb2.GetTaskResponse:
        """Tell what the database has."""
        execution = await self._execution(request)
        return connector_pb2.GetTaskResponse(resource=resource_of_record(execution))

    async def delete(
        self, request: connector_pb2.DeleteTaskRequest
    ) -> connector_pb2.DeleteTaskResponse:
        """Record the wish; of no effect on what has ended."""
        execution = await self._execution(request)
        await self._orch.abort(execution.id, reason=_DELETED)
        return connector_pb2.DeleteTaskResponse()

    async def metrics(
        self, request: connector_pb2.GetTaskMetricsRequest
    ) -> connector_pb2.GetTaskMetricsResponse:
        """Ask the connector."""
        execution = await self._execution(request)
        self._require(execution, "get_metrics")
        return await self._orch.metrics(execution.id)

    async def logs(
        self, request: connector_pb2.GetTaskLogsRequest
    ) -> AsyncIterator[connector_pb2.GetTaskLogsResponse]:
        """Ask the connector; secrets in its lines are hidden."""
        execution = await self._execution(request)
        self._require(execution, "get_logs")
        given = self._orch.log_pages(execution.id, request.token)
        async with aclosing(given) as pages:
            async for page in pages:
                yield page

    async def close(self) -> None:
        """Do nothing: who opened the engine closes it."""

    async def _execution(self, request: Any) -> Execution:
        """Return the execution that a request's meta names.

        Raises:
            ExecutionNotFoundError: There is none, or it is of another task type.
        """
        name = bytes(request.resource_meta).decode("ascii", "replace")[:64]
        execution = await self._orch.get(name)
        category = request.task_category
        asked = (category.name, category.version)
        if category.name and asked != (execution.task_type, execution.task_version):
            raise ExecutionNotFoundError(name)
        return execution

    def _require(self, execution: Execution, member: str) -> None:
        """Refuse a call of an optional *member* that cannot be made.

        Raises:
            ConnectorNotFoundError: Nothing here runs the task type.
            NotImplementedError: The connector has none.
            RefusedError: There is no job to ask about: not yet, or never any more.
        """
        category = (execution.task_type, execution.task_version)
        if not implements(self._registry.get_connector(*category), member):
            raise NotImplementedError
        if execution.resource_meta is not None:
            return
        code = grpc.StatusCode.FAILED_PRECONDITION
        if execution.terminal:
            raise RefusedError(code, "it ended without a job")
        raise RefusedError(code, "it has no job yet: ask again later", "transient")


def _refuse_values(connection: Connection) -> None:
    """Refuse what would have to be stored, or be dropped for a secret of ours.

    Raises:
        RefusedError: Names the keywords.
    """
    names = ", ".join(sorted(connection_values(connection)))
    if names:
        details = (
            f"a durable service takes no values of a Connection ({names}): leave them"
            " out, and give the service these secrets by its environment, under names"
            " that the task or the connector says"
        )
        raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, details)


def _attempt(metadata: connector_pb2.TaskExecutionMetadata) -> str:
    """Return what `identity_of` knows an attempt by, in its caller's words."""
    task = metadata.task_execution_id
    node = task.node_execution_id
    parts = []
    if node.execution_id.name:
        parts.append(
            f"attempt {task.retry_attempt} of node {node.node_id!r}"
            f" in run {node.execution_id.name!r}"
        )
    token = metadata.labels.get(TOKEN_LABEL, "")
    if token:
        parts.append(f"label {TOKEN_LABEL} {token!r}")
    return ", ".join(parts)


def _labels(request: connector_pb2.CreateTaskRequest) -> dict[str, str]:
    """Return the labels of an execution: Flyte's own, and what ``create`` needs."""
    told = request.task_execution_metadata
    labels = {
        name: value
        for name, value in told.labels.items()
        if "\0" not in name + value and '"' not in name
    }
    kept = connector_pb2.TaskExecutionMetadata(
        namespace=told.namespace,
        annotations=dict(told.annotations),
        k8s_service_account=told.k8s_service_account,
        max_attempts=told.max_attempts,
        interruptible=told.interruptible,
        interruptible_failure_threshold=told.interruptible_failure_threshold,
    )
    if told.HasField("task_execution_id"):
        kept.task_execution_id.CopyFrom(told.task_execution_id)
    data = kept.SerializeToString(deterministic=True)
    if data:
        labels[METADATA_LABEL] = b64encode(data).decode()
    if request.output_prefix:
        labels[PREFIX_LABEL] = request.output_prefix
    return labels


def phase_of_record(execution: Execution) -> TaskExecution.Phase:
    """Return Flyte's phase of an execution."""
    if execution.phase is Phase.RUNNING and execution.remote_phase is not None:
        return _WAITING.get(execution.remote_phase, TaskExecution.RUNNING)
    if execution.phase is Phase.FAILED and (
        execution.remote_phase is RemotePhase.RETRYABLE_FAILED
    ):
        return TaskExecution.RETRYABLE_FAILED
    return _PHASES[execution.phase]


def resource_of_record(execution: Execution) -> connector_pb2.Resource:
    """Return an execution as Flyte's resource."""
    outputs = None
    if execution.outputs_proto is not None:
        order = list(execution.outputs or {})
        literals = named_literals(execution.outputs_proto, order)
        if literals:
            outputs = common_pb2.Outputs(literals=literals)
    links = [
        TaskLog(name=link["name"], uri=link["uri"]) for link in execution.log_links
    ]
    return connector_pb2.Resource(
        phase=phase_of_record(execution),
        message=_message(execution),
        log_links=links,
        outputs=outputs,
        custom_info=told_struct_of(execution.custom_info),
    )


def _message(execution: Execution) -> str | None:
    """Return what a human should know of an execution."""
    if execution.error_code is not None:
        words = execution.error_message or execution.message
        if execution.error_code in _OF_THE_JOB:
            return words
        return f"[{execution.error_code}] {words}" if words else execution.error_code
    if execution.terminal:
        return execution.message
    state = execution.hold and f"on hold: {execution.hold}"
    if execution.phase is Phase.ABORTING:
        state = "being deleted"
    parts = (execution.message, state, execution.last_error)
    return "; ".join(part for part in parts if part) or None
