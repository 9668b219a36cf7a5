"""TaskTemplate: what a user declares about a task, in Flyte's words."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from orchestrator._secrets import SecretRequest, secrets_from_request
from orchestrator._tasks._limits import (
    RetryStrategy,
    TimeoutType,
    retries_from_request,
    timeout_from_request,
)
from orchestrator._tasks._options import check_options
from orchestrator.errors import ConfigurationError
from orchestrator.models import (
    MAX_INLINE_IO_BYTES,
    NativeInterface,
    SerializationContext,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flyteidl2.core.execution_pb2 import TaskLog
    from flyteidl2.core.tasks_pb2 import DataLoadingConfig, Sql

_warned: set[tuple[str, str]] = set()


def warn_unused(name: str, fields: Sequence[str], *, stacklevel: int) -> None:
    """Name template fields that have no effect here, once per task and field."""
    fresh = [f for f in fields if (name, f) not in _warned]
    if not fresh:
        return
    _warned.update((name, f) for f in fresh)
    message = f"task {name}: {', '.join(fresh)} set, but without effect in this library"
    warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)


@dataclass(kw_only=True, eq=False)
class TaskTemplate:
    """A task: its name, type, interface and limits.

    Subclass it together with AsyncConnectorExecutorMixin to get ``execute()``. The
    fields are Flyte's; those that only Flyte's platform acts on are accepted, and
    named once in a warning if they are set.

    Attributes:
        name: Name of the task, for humans and as part of the idempotency hash.
        interface: Inputs and outputs.
        task_type: Decides which connector runs it.
        task_type_version: The same, default 0.
        image: Container image, for connectors that run containers. "auto" and None
            leave it open.
        retries: Retries after a failed attempt, default 0.
        timeout: Seconds, timedelta or Timeout; None is unlimited.
        secrets: Secrets that reach the connector's methods by keyword.
        env_vars: Environment variables of the job.
        service_account: Handed to the connector in the template.
        interruptible: Handed to the connector in the template.
        max_inline_io_bytes: Limit of all inputs, and of all outputs, in bytes.
        links: Objects with Flyte's ``get_link``, shown beside the execution.
        log_links: Ready-made links, the same.
        options: Submit options for ``execute()``; see ``orchestrator.options``.

    Raises:
        ValueError: A field is out of its range; it is named.
    """

    name: str
    interface: NativeInterface
    short_name: str = ""
    task_type: str = "python"
    task_type_version: int = 0
    image: Any = "auto"
    retries: int | RetryStrategy = 0
    timeout: TimeoutType | None = None
    secrets: SecretRequest | None = None
    env_vars: dict[str, str] | None = None
    service_account: str | None = None
    interruptible: bool = False
    max_inline_io_bytes: int = MAX_INLINE_IO_BYTES
    links: tuple[Any, ...] = ()
    log_links: tuple[TaskLog, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    docs: Any = None
    parent_env: Any = None
    parent_env_name: str | None = None
    # Only Flyte's platform acts on these.
    resources: Any = None
    cache: Any = "disable"
    reusable: Any = None
    pod_template: Any = None
    report: bool = False
    queue: str | None = None
    debuggable: bool = False
    entrypoint: bool = False
    produces_artifacts: bool = False
    triggers: tuple[Any, ...] = ()

    _UNUSED: ClassVar[Mapping[str, Any]] = {
        "resources": None,
        "cache": "disable",
        "reusable": None,
        "pod_template": None,
        "report": False,
        "queue": None,
        "debuggable": False,
        "entrypoint": False,
        "produces_artifacts": False,
        "triggers": (),
    }

    def __class_getitem__(cls, _: Any) -> type[TaskTemplate]:
        """Accept Flyte's type parameters, which say nothing here."""
        return cls

    def __post_init__(self) -> None:
        """Validate, normalize and warn."""
        for what in ("name", "task_type"):
            value = getattr(self, what)
            if not isinstance(value, str) or not value:
                message = f"TaskTemplate.{what} must be a non-empty str, got {value!r}"
                raise ConfigurationError(message)
        if not isinstance(self.interface, NativeInterface):
            raise self._wrong("interface must be a NativeInterface")
        version = self.task_type_version
        if not isinstance(version, int) or isinstance(version, bool) or version < 0:
            raise self._wrong(f"task_type_version must be an int, got {version!r}")
        if self.max_inline_io_bytes <= 0:
            raise self._wrong("max_inline_io_bytes must be positive")
        self.retries = retries_from_request(self.retries)
        if self.timeout is not None:
            self.timeout = timeout_from_request(self.timeout)
        if self.secrets is not None:
            self.secrets = list(secrets_from_request(self.secrets))
        self.options = check_options(self.options)
        self.short_name = self.short_name or self.name
        unset = self._UNUSED.items()
        unused = [name for name, value in unset if getattr(self, name) != value]
        warn_unused(self.name, unused, stacklevel=3)

    def _wrong(self, problem: str) -> ConfigurationError:
        """Return the error for this task."""
        return ConfigurationError(f"task {self.name}: {problem}")

    @property
    def native_interface(self) -> NativeInterface:
        """The interface, under Flyte's other name."""
        return self.interface

    def native_inputs(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *inputs* as this library's values; a converted task overrides it."""
        return inputs

    def config(self, sctx: SerializationContext) -> Mapping[str, str]:
        """Return the template's ``config``, str to str. Override it."""
        del sctx
        return {}

    def custom_config(self, sctx: SerializationContext) -> Mapping[str, Any]:
        """Return the template's ``custom``, JSON-able. Override it.

        It is a protobuf Struct on the wire: numbers come back as floats.
        ``{"secrets": {keyword: VARIABLE}}`` names secrets for the connector.
        """
        del sctx
        return {}

    def sql(self, sctx: SerializationContext) -> str | Sql | None:
        """Return the template's SQL, None for none. Override it."""
        del sctx
        return None

    def container_args(self, serialize_context: SerializationContext) -> Sequence[str]:
        """Return the container's arguments. Override it."""
        del serialize_context
        return []

    def data_loading_config(
        self, sctx: SerializationContext
    ) -> DataLoadingConfig | None:
        """Return Flyte CoPilot's configuration. Override it."""
        del sctx
        return None
