"""Tasks as Flyte's protobuf, and what the engine reads from it.

The protobuf is what is stored (once per distinct template, by the hash of its bytes)
and what connectors get, so it is also the only thing that another process knows of
a task.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
from flyteidl2.core import (
    execution_pb2,
    identifier_pb2,
    literals_pb2,
    security_pb2,
    tasks_pb2,
)
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from orchestrator._codec import check_interface, interface_to_proto
from orchestrator._secrets import secrets_from_request
from orchestrator._tasks._foreign import hint, native
from orchestrator._tasks._limits import (
    fill_limits,
    retries_from_request,
    timeout_from_request,
)
from orchestrator._tasks._template import TaskTemplate, warn_unused
from orchestrator.errors import ConfigurationError
from orchestrator.models import MAX_INLINE_IO_BYTES, SerializationContext

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKEN_LABEL = "orchestrator-token"  # noqa: S105 - the name of a label
"""Label that carries the attempt's token."""

METADATA_LABEL = "orchestrator-flyte-metadata"
"""Label that carries Flyte's own ``TaskExecutionMetadata`` to ``create``, as base64."""

PREFIX_LABEL = "orchestrator-output-prefix"
"""Label that carries the place that Flyte gave an execution's outputs."""

_IO_TAG = "orchestrator-max-inline-io-bytes"
"""Tag of a limit that differs from the default: the protobuf has no field for it."""

_EXACT_MAX = 2**53
"""Beyond it a double, which is all that a Struct has, skips integers."""

_UNUSED = ("k8s_pod", "extended_resources", "reuse_policy")
"""Protobuf fields without effect here."""


def to_template(
    task: TaskTemplate | tasks_pb2.TaskTemplate | Any,
    sctx: SerializationContext | None = None,
) -> tasks_pb2.TaskTemplate:
    """Return *task* as Flyte's protobuf; a protobuf is returned as it is.

    A task of another library is converted first, if somebody knows how to.

    Raises:
        ConfigurationError: What the task declares cannot be written.
    """
    if isinstance(task, tasks_pb2.TaskTemplate):
        if not task.type:
            raise ConfigurationError("TaskTemplate.type must not be empty")
        unused = [name for name in _UNUSED if _is_set(task, name)]
        warn_unused(task.id.name, unused, stacklevel=2)
        return task
    if not isinstance(task, TaskTemplate):
        task = native(task)
    if not isinstance(task, TaskTemplate):
        message = f"{type(task).__qualname__} is no TaskTemplate{hint(task)}"
        raise ConfigurationError(message)
    try:
        check_interface(task.interface)
    except ConfigurationError as error:
        raise ConfigurationError(f"task {task.name}: {error}") from None
    sctx = sctx or SerializationContext(version="")
    try:
        return _filled(task, sctx)
    except UnicodeEncodeError as error:
        message = f"task name or field {error.object!r} is no valid text"
        raise ConfigurationError(message) from None


def _filled(task: TaskTemplate, sctx: SerializationContext) -> tasks_pb2.TaskTemplate:
    """Return the protobuf of a native task."""
    config = _strings(task, "config", task.config(sctx) or {})
    template = tasks_pb2.TaskTemplate(
        id=identifier_pb2.Identifier(
            resource_type=identifier_pb2.ResourceType.TASK,
            project=sctx.project,
            domain=sctx.domain,
            org=sctx.org,
            name=task.name,
            version=sctx.version,
        ),
        type=task.task_type,
        task_type_version=task.task_type_version,
        metadata=_metadata(task, sctx),
        interface=interface_to_proto(task.interface),
        security_context=_security_context(task),
        config=config,
    )
    custom = task.custom_config(sctx) or {}
    if len(custom) > 0:
        template.custom.CopyFrom(_struct(task, custom))
    _fill_target(template, task, sctx)
    return template


def _is_set(template: tasks_pb2.TaskTemplate, name: str) -> bool:
    """Tell whether a message field is set; an older flyteidl2 may not have it."""
    return name in template.DESCRIPTOR.fields_by_name and template.HasField(name)


def _metadata(task: TaskTemplate, sctx: SerializationContext) -> tasks_pb2.TaskMetadata:
    """Return retries, timeouts, links and what else is about running it."""
    metadata = tasks_pb2.TaskMetadata(interruptible=task.interruptible)
    timeout = None if task.timeout is None else timeout_from_request(task.timeout)
    fill_limits(metadata, retries_from_request(task.retries), timeout)
    metadata.log_links.extend(task.log_links)
    for link in task.links:
        uri = link.get_link(
            run_name="{{.runName}}",
            project=sctx.project or "",
            domain=sctx.domain or "",
            context={},
            parent_action_name="",
            action_name="{{.actionName}}",
            pod_name="{{.podName}}",
        )
        icon = getattr(link, "icon_uri", None)
        metadata.log_links.append(
            execution_pb2.TaskLog(name=link.name, uri=uri, icon_uri=icon)
        )
    if task.max_inline_io_bytes != MAX_INLINE_IO_BYTES:
        metadata.tags[_IO_TAG] = str(task.max_inline_io_bytes)
    return metadata


def _security_context(task: TaskTemplate) -> security_pb2.SecurityContext | None:
    """Return secrets and service account, None if there are none."""
    if not task.secrets and not task.service_account:
        return None
    kind = security_pb2.Secret
    context = security_pb2.SecurityContext()
    if task.service_account:
        context.run_as.k8s_service_account = task.service_account
    for secret in secrets_from_request(task.secrets or []):
        variable = secret.as_env_var
        context.secrets.append(
            kind(
                key=secret.key,
                group=secret.group,
                mount_requirement=kind.ENV_VAR if variable else kind.FILE,
                env_var=variable,
            )
        )
    return context


def _strings(task: TaskTemplate, what: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return a str-to-str mapping, checked.

    Raises:
        ConfigurationError: A key or value is no str.
    """
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str):
            message = f"task {task.name}: {what}[{key!r}] must be str to str"
            raise ConfigurationError(message)
    return dict(given)


def _struct(task: TaskTemplate, custom: Mapping[str, Any] | Struct) -> Struct:
    """Return ``custom_config`` as a Struct.

    Raises:
        ConfigurationError: A value has no exact form in a Struct.
    """
    if isinstance(custom, Struct):
        return custom
    try:
        plain = _plain(task, custom, "custom_config")
        return json_format.ParseDict(plain, Struct())
    except (json_format.ParseError, RecursionError, UnicodeError) as error:
        message = f"task {task.name}: custom_config has no protobuf form ({error})"
        raise ConfigurationError(message) from error


def _plain(task: TaskTemplate, value: Any, where: str) -> Any:
    """Return JSON-able data; refuse what a Struct would change."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                message = f"task {task.name}: {where} has key {key!r}, must be str"
                raise ConfigurationError(message)
        return {k: _plain(task, v, f"{where}[{k!r}]") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(task, item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, int) and abs(value) > _EXACT_MAX:
        message = f"task {task.name}: {where} is beyond 2**53; write it as str"
        raise ConfigurationError(message)
    if value is not None and not isinstance(value, (str, int, float, bool)):
        kind = type(value).__name__
        message = f"task {task.name}: {where} is {kind}, which is no JSON"
        raise ConfigurationError(message)
    return value


def _fill_target(
    template: tasks_pb2.TaskTemplate, task: TaskTemplate, sctx: SerializationContext
) -> None:
    """Write what runs: SQL, else a container."""
    sql = task.sql(sctx)
    if isinstance(sql, str):
        sql = tasks_pb2.Sql(statement=sql, dialect=tasks_pb2.Sql.ANSI)
    if sql is not None:
        template.sql.CopyFrom(sql)
        if task.env_vars:
            warn_unused(task.name, ["env_vars (with sql)"], stacklevel=3)
        return
    container = template.container
    container.SetInParent()
    if isinstance(task.image, str) and task.image != "auto":
        container.image = task.image
    container.args.extend(task.container_args(sctx) or ())
    container.env.extend(_pairs(_strings(task, "env_vars", task.env_vars or {})))
    container.config.extend(_pairs(template.config))
    loading = task.data_loading_config(sctx)
    if loading is not None:
        container.data_config.CopyFrom(loading)


def _pairs(mapping: Mapping[str, str]) -> list[literals_pb2.KeyValuePair]:
    """Return the entries in order of their keys."""
    pair = literals_pb2.KeyValuePair
    return [pair(key=key, value=mapping[key]) for key in sorted(mapping)]


def template_to_bytes(template: tasks_pb2.TaskTemplate) -> bytes:
    """Return the bytes to store and hash; equal templates have equal bytes."""
    return template.SerializeToString(deterministic=True)


def template_from_bytes(data: bytes) -> tasks_pb2.TaskTemplate:
    """Return a stored template.

    Raises:
        google.protobuf.message.DecodeError: The bytes are no template.
    """
    return tasks_pb2.TaskTemplate.FromString(data)


def max_inline_io_bytes_of(template: tasks_pb2.TaskTemplate) -> int:
    """Return the limit of a template's inputs, and of its outputs, in bytes."""
    stored = template.metadata.tags.get(_IO_TAG, "")
    return int(stored) if stored.isdecimal() else MAX_INLINE_IO_BYTES


def execution_metadata(template: tasks_pb2.TaskTemplate) -> TaskExecutionMetadata:
    """Return what every ``task_execution_metadata`` of a template has in common."""
    task_id = template.id
    return TaskExecutionMetadata(
        task_execution_id=identifier_pb2.TaskExecutionIdentifier(
            task_id=task_id,
            node_execution_id=identifier_pb2.NodeExecutionIdentifier(
                node_id="a0",
                execution_id=identifier_pb2.WorkflowExecutionIdentifier(
                    project=task_id.project, domain=task_id.domain, org=task_id.org
                ),
            ),
        ),
        namespace="-".join(filter(None, (task_id.project, task_id.domain))),
        k8s_service_account=template.security_context.run_as.k8s_service_account,
        environment_variables={pair.key: pair.value for pair in template.container.env},
        max_attempts=template.metadata.retries.retries + 1,
        interruptible=template.metadata.interruptible,
    )


def attempt_metadata(
    common: TaskExecutionMetadata,
    *,
    execution_id: str,
    attempt: int,
    token: str,
    labels: Mapping[str, str] | None = None,
) -> TaskExecutionMetadata:
    """Return the ``task_execution_metadata`` of one attempt.

    Args:
        common: Of ``execution_metadata``; not changed.
        execution_id: 32 hex digits; stands as the run's name.
        attempt: From 1; on the wire retries are counted from 0.
        token: The attempt's token; stands in the labels.
        labels: The execution's labels.
    """
    metadata = TaskExecutionMetadata()
    metadata.CopyFrom(common)
    task = metadata.task_execution_id
    task.node_execution_id.execution_id.name = execution_id
    task.retry_attempt = attempt - 1
    shown = dict(labels or {})
    shown.pop(PREFIX_LABEL, None)
    told = shown.pop(METADATA_LABEL, None)
    if told is not None:  # a Flyte cluster submitted it: the job belongs to its run
        metadata.MergeFrom(TaskExecutionMetadata.FromString(b64decode(told)))
    metadata.labels.update(shown)
    metadata.labels[TOKEN_LABEL] = token
    return metadata


def links_to_json(
    links: Iterable[execution_pb2.TaskLog], *, execution_id: str = ""
) -> list[dict[str, str]]:
    """Return log links as ``{"name", "uri"}``, with Flyte's placeholders filled in.

    Args:
        links: Of a Resource, or of a template's metadata.
        execution_id: Stands for the run's and the action's name.
    """
    shown = []
    for link in links:
        uri = link.uri
        for placeholder in ("{{.runName}}", "{{.actionName}}", "{{.podName}}"):
            uri = uri.replace(placeholder, execution_id)
        shown.append({"name": link.name, "uri": uri})
    return shown


def describe_template(template: tasks_pb2.TaskTemplate) -> str:
    """Return the template as JSON text, for reading and for SQL."""
    found = json_format.MessageToDict(template, preserving_proto_field_name=True)
    return json.dumps(found, ensure_ascii=False, sort_keys=True)
