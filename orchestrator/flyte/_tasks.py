"""Flyte's task objects as tasks of ours, without their container path.

Flyte's own ``get_proto_task`` wants an image and an environment as soon as a task is
no SQL. A connector needs neither: what it reads is the task's own ``custom_config``,
``sql``, ``config`` and ``container_args``, its interface, limits and secrets.
"""

# flyte is in an environment of its own:
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flyte
from flyte._task import AsyncFunctionTaskTemplate
from flyte.connectors import AsyncConnectorExecutorMixin
from flyte.extend import TaskTemplate as FlyteTemplate
from flyte.models import SerializationContext as FlyteContext

from orchestrator._secrets import Secret
from orchestrator._tasks import Backoff, RetryStrategy, TaskTemplate, Timeout
from orchestrator.errors import ConfigurationError
from orchestrator.flyte._values import type_to_ours, values_to_ours
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flyteidl2.core.tasks_pb2 import DataLoadingConfig, Sql

    from orchestrator.models import SerializationContext


def convert(task: Any) -> TaskTemplate | None:
    """Return the task of ours for one of Flyte's that a connector can run.

    Raises:
        ConfigurationError: It is a function, which needs Flyte's own containers.
    """
    if not isinstance(task, FlyteTemplate):
        return None
    if not isinstance(task, AsyncConnectorExecutorMixin):
        problem = "has no AsyncConnectorExecutorMixin: no connector runs it"
        raise ConfigurationError(f"task {task.name} {problem}")
    if isinstance(task, AsyncFunctionTaskTemplate):
        problem = "is a Python function: only Flyte can bundle its code for a container"
        raise ConfigurationError(f"task {task.name} {problem}")
    return FlyteTask(task)


class FlyteTask(TaskTemplate):
    """Stands for a task object of the ``flyte`` package."""

    def __init__(self, theirs: Any) -> None:
        """Read what a template needs; *theirs* is asked for the rest later."""
        self.theirs = theirs
        super().__init__(
            name=theirs.name,
            short_name=theirs.short_name,
            interface=_interface(theirs.interface),
            task_type=theirs.task_type,
            task_type_version=theirs.task_type_version,
            image=_image(theirs.image),
            retries=_retries(theirs.retries),
            timeout=_timeout(theirs.timeout),
            secrets=_secrets(theirs.secrets),
            env_vars=theirs.env_vars,
            service_account=theirs.service_account,
            interruptible=theirs.interruptible,
            max_inline_io_bytes=theirs.max_inline_io_bytes,
            links=tuple(theirs.links),
            options=getattr(theirs, "options", None) or {},
        )

    def native_inputs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *inputs* with our references in the place of Flyte's."""
        return values_to_ours(inputs)

    def config(self, sctx: SerializationContext) -> Mapping[str, str]:
        """Return the task's own."""
        found: Mapping[str, str] = self.theirs.config(_context(sctx)) or {}
        return found

    def custom_config(self, sctx: SerializationContext) -> Mapping[str, Any]:
        """Return the task's own, without secrets that were never named."""
        custom = dict(self.theirs.custom_config(_context(sctx)) or {})
        secrets = custom.get("secrets")
        if isinstance(secrets, dict):
            named = {key: name for key, name in secrets.items() if name is not None}
            custom["secrets"] = named
            if not named:
                del custom["secrets"]
        return custom

    def sql(self, sctx: SerializationContext) -> str | Sql | None:
        """Return the task's own."""
        found: str | Sql | None = self.theirs.sql(_context(sctx))
        return found

    def container_args(self, serialize_context: SerializationContext) -> Sequence[str]:
        """Return the task's own."""
        found: Sequence[str] = self.theirs.container_args(_context(serialize_context))
        return found

    def data_loading_config(
        self, sctx: SerializationContext
    ) -> DataLoadingConfig | None:
        """Return the task's own."""
        found: DataLoadingConfig | None = self.theirs.data_loading_config(
            _context(sctx)
        )
        return found


def _context(sctx: SerializationContext) -> FlyteContext:
    return FlyteContext(
        version=sctx.version or flyte.version(),
        project=sctx.project,
        domain=sctx.domain,
        org=sctx.org,
        root_dir=sctx.root_dir,
    )


def _interface(theirs: Any) -> NativeInterface:
    marked = theirs.has_default
    inputs = {
        name: (
            type_to_ours(declared),
            NativeInterface.has_default if default is marked else default,
        )
        for name, (declared, default) in theirs.inputs.items()
    }
    outputs = {name: type_to_ours(kind) for name, kind in theirs.outputs.items()}
    return NativeInterface.from_types(
        inputs,
        outputs,
        theirs._remote_defaults,  # noqa: SLF001 - a field of Flyte's interface, and ours
    )


def _image(image: Any) -> str | None:
    """Return the image's name where it can be told without building anything."""
    if image is None or isinstance(image, str):
        return image
    try:
        return str(image.uri)
    except Exception:  # noqa: BLE001 - whatever Flyte misses for a name it could give
        return None


def _retries(theirs: Any) -> int | RetryStrategy:
    if isinstance(theirs, int):
        return theirs
    backoff = theirs.backoff
    if backoff is None:
        return RetryStrategy(theirs.count)
    mine = Backoff(base=backoff.base, factor=backoff.factor, cap=backoff.cap)
    return RetryStrategy(theirs.count, mine)


def _timeout(theirs: Any) -> Any:
    if not isinstance(theirs, flyte.Timeout):
        return theirs
    return Timeout(
        max_runtime=theirs.max_runtime,
        max_queued_time=theirs.max_queued_time,
        deadline=theirs.deadline,
    )


def _secrets(theirs: Any) -> list[str | Secret] | None:
    if theirs is None:
        return None
    requested = theirs if isinstance(theirs, (list, tuple)) else [theirs]
    return [
        secret
        if isinstance(secret, str)
        else Secret(
            key=secret.key,
            group=secret.group,
            mount=secret.mount,
            as_env_var=secret.as_env_var,
        )
        for secret in requested
    ]
