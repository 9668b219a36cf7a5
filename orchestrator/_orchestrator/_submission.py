"""From a task and its inputs to the row that is submitted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator._clock import to_us
from orchestrator._codec import (
    Encoded,
    encode_inputs,
    exceeds,
    interface_from_proto,
)
from orchestrator._engine import limits_of
from orchestrator._phase import Cause, Phase, WaitingOn
from orchestrator._storage import NewExecution
from orchestrator._tasks import (
    TaskTemplate,
    describe_template,
    max_inline_io_bytes_of,
    native,
    template_to_bytes,
    to_template,
)
from orchestrator.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flyteidl2.core.tasks_pb2 import TaskTemplate as TemplateProto

    from orchestrator._config import Config
    from orchestrator._ids import IdFactory
    from orchestrator._policies import TaskLimits
    from orchestrator._records import NewJob
    from orchestrator._registry import Registry
    from orchestrator.models import NativeInterface

ON_EXISTING = ("return", "retry_if_not_succeeded")
_NAME_MAX = 500
_KEY_MAX = 500
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task, turned into what is stored of it."""

    proto: TemplateProto
    interface: NativeInterface
    limits: TaskLimits
    stored: tuple[str, bytes, str]
    io_bytes_max: int
    native_inputs: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None

    @classmethod
    def of(
        cls, task: TaskTemplate | TemplateProto, registry: Registry | None
    ) -> Prepared:
        """Prepare *task*.

        Raises:
            ConnectorNotFoundError: Nothing here can run its task type.
            ConfigurationError: What the task declares cannot be written.
        """
        task = native(task)
        proto = to_template(task)
        if registry is not None:
            registry.get_connector(proto.type, proto.task_type_version)
        data = template_to_bytes(proto)
        digest = hashlib.sha256(data).hexdigest()
        interface = getattr(task, "native_interface", None)
        return cls(
            proto=proto,
            interface=interface or interface_from_proto(proto.interface),
            limits=limits_of(proto),
            stored=(digest, data, describe_template(proto)),
            io_bytes_max=max_inline_io_bytes_of(proto),
            native_inputs=task.native_inputs
            if isinstance(task, TaskTemplate)
            else None,
        )


def new_execution(
    prepared: Prepared,
    inputs: Mapping[str, Any] | None,
    *,
    ids: IdFactory,
    now: int,
    config: Config,
    idempotency_key: str | None = None,
    labels: Mapping[str, str] | None = None,
    priority: int = 0,
    start_at: datetime | None = None,
    on_existing: str = "return",
    encoded: Encoded | None = None,
) -> NewExecution:
    """Return the submission of one execution; *encoded* inputs are taken as they are.

    Raises:
        InvalidInputError: An argument does not fit; the field is named.
    """
    limit = min(config.input_bytes_max, prepared.io_bytes_max)
    if encoded is None:
        if inputs and prepared.native_inputs is not None:
            inputs = prepared.native_inputs(inputs)
        if exceeds(inputs, limit):  # told before a copy is made to find out
            problem = f"have more than {limit} bytes, the limit: pass a reference"
            raise InvalidInputError("inputs", problem)
        encoded = encode_inputs(prepared.interface, inputs or {})
    if len(encoded.proto) > limit:
        problem = (
            f"have {len(encoded.proto)} bytes, the limit is {limit}: pass a reference"
        )
        raise InvalidInputError("inputs", problem)
    if on_existing not in ON_EXISTING:
        raise InvalidInputError("on_existing", f"must be one of {ON_EXISTING}")
    _check_key(idempotency_key)
    if type(priority) is not int or abs(priority) > _INT64_MAX:
        raise InvalidInputError("priority", f"must be a 64-bit int, got {priority!r}")
    start_us = _start(start_at)
    proto = prepared.proto
    ready = max(now, start_us or now)
    deadline = prepared.limits.deadline_us
    row = {
        "id": ids.execution_id(),
        "name": _name(proto.id.name or proto.type),
        "task_type": proto.type,
        "task_version": proto.task_type_version,
        "template_hash": prepared.stored[0],
        "phase": str(Phase.QUEUED),
        "version": 1,
        "attempt": 1,
        "max_attempts": prepared.limits.retries + 1,
        "priority": priority,
        "labels": _labels(labels),
        "submitted_at": now,
        "start_at": start_us,
        "ready_at": ready,
        "deadline_at": ready + deadline if deadline else None,
        "updated_at": now,
        "phase_at": now,
        "waiting_on": str(WaitingOn.START_TIME) if ready > now else None,
        "inputs": encoded.proto,
        "inputs_json": encoded.json,
        "idempotency_key": idempotency_key,
    }
    return NewExecution(
        row=row,
        cause=str(Cause.SUBMITTED),
        template=prepared.stored,
        key=idempotency_key,
        request_hash="" if idempotency_key is None else request_hash(proto, encoded),
        replaces_failed=on_existing == "retry_if_not_succeeded",
    )


def attached(new: NewExecution, job: NewJob, now: int) -> NewExecution:
    """Return *new* as the execution of a job that exists already."""
    new.row.update(
        phase=str(Phase.RUNNING),
        created_at=now,
        meta=job.meta,
        meta_version=job.meta_version,
        job_key=job.job_key,
    )
    return new._replace(cause=str(Cause.ATTACHED), job=job)


def request_hash(proto: TemplateProto, inputs: Encoded) -> str:
    """Return what tells requests of one idempotency key apart.

    Task type, version, name and inputs count; the rest of the template does not, so
    that a new release of a task still meets its key.
    """
    head = json.dumps([proto.type, proto.task_type_version, proto.id.name])
    return hashlib.sha256(head.encode() + b"\0" + inputs.proto).hexdigest()


def _name(name: str) -> str:
    if len(name) > _NAME_MAX or "\0" in name:
        problem = f"must have at most {_NAME_MAX} characters and no NUL"
        raise InvalidInputError("name", problem)
    return name


def _check_key(key: str | None) -> None:
    if key is None:
        return
    if not isinstance(key, str) or not key or len(key) > _KEY_MAX or "\0" in key:
        problem = f"must be a str of 1 to {_KEY_MAX} characters without NUL"
        raise InvalidInputError("idempotency_key", problem)
    _check_text("idempotency_key", key)


def _check_text(field: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(field, f"is no valid text: {error.reason}") from None


def _labels(labels: Mapping[str, str] | None) -> str:
    if not labels:
        return "{}"
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            problem = f"must map str to str, got {key!r}: {value!r}"
            raise InvalidInputError("labels", problem)
        if "\0" in key or "\0" in value or '"' in key:
            raise InvalidInputError("labels", f"{key!r} has a NUL or a quote")
        _check_text("labels", key + value)
    return json.dumps(dict(labels), ensure_ascii=False, sort_keys=True)


def _start(start_at: datetime | None) -> int | None:
    if start_at is None:
        return None
    if not isinstance(start_at, datetime):
        raise InvalidInputError("start_at", f"must be a datetime, got {start_at!r}")
    try:
        return to_us(start_at)
    except ValueError as error:
        raise InvalidInputError("start_at", str(error)) from None
