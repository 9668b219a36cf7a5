"""The connector interface: AsyncConnector, Resource and ResourceMeta.

A connector is the only code that talks to a service. ``create`` submits a job and
returns its handle (a ResourceMeta), ``get`` tells how the job does (a Resource),
``delete`` cancels it. The shape is that of Flyte 2, so a connector written for
``flyte.connectors`` works with the import renamed. What this library adds is
optional, and every member of it has a default that promises nothing.

What an exception from each of the three calls means is law, and short: from
``create`` only PermanentError, AuthError, TransientError, ThrottledError and the
class's ``not_created_errors`` assert that no job exists; everything else is
"unknown". From ``get`` and ``delete`` everything unclassified is "later".
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self

import pydantic_core
from flyteidl2.core.execution_pb2 import TaskExecution
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping
    from datetime import timedelta

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        GetTaskMetricsResponse,
        TaskExecutionMetadata,
    )
    from flyteidl2.core.execution_pb2 import TaskLog
    from flyteidl2.core.literals_pb2 import LiteralMap
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator._config import Policy

VERSION_KEY = "__schema_version__"
"""Name of the encoded schema version; absent means 1, so that a plain meta is the
same JSON that Flyte writes."""

_VERSION_MARK = VERSION_KEY.encode()


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    """Return the decoder of *cls*, built once."""
    adapter = _ADAPTERS.get(cls)
    if adapter is None:
        adapter = _ADAPTERS[cls] = TypeAdapter(cls)
    return adapter


def check_decodable(cls: type[Any]) -> None:
    """Raise whatever stands in the way of decoding the dataclass *cls*.

    Raises:
        Exception: pydantic's own error, for example an annotation that names a
            class local to a function under postponed annotations.
    """
    adapter = _adapter(cls)
    if not adapter.pydantic_complete:
        adapter.rebuild(force=True, raise_errors=True)


class ResourceMeta:
    """The handle of a remote job: subclass it as a dataclass.

    It is all that survives a crash, so it must hold whatever ``get`` and ``delete``
    need: ids and locations, never a secret. Fields may be str, int, float, bool,
    bytes, datetime, timedelta, Enum, Optional, list, dict and nested dataclasses.
    A class may define its own ``encode`` and ``decode``; they win.

    Evolution: fields may be added with a default; fields that disappeared from the
    class are ignored in stored metas. For anything else raise ``schema_version``
    and write ``upcast``. A stored meta that cannot be read is held for an operator,
    never failed.

    Attributes:
        schema_version: Version of the stored layout, default 1.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="constants",
        # Services give numeric ids where the dataclass says str; Flyte lets that pass.
        coerce_numbers_to_str=True,
    )
    schema_version: ClassVar[int] = 1

    def encode(self) -> bytes:
        """Return the JSON text of the dataclass as UTF-8 bytes.

        Bytes are urlsafe base64, datetimes ISO-8601, timedeltas ISO-8601 durations.
        The schema version stands beside the fields if it is above 1.

        Raises:
            ValueError: A value has no JSON form; the class is named.
        """
        try:
            data = pydantic_core.to_json(
                self, bytes_mode="base64", inf_nan_mode="constants"
            )
        except pydantic_core.PydanticSerializationError as error:
            message = f"{type(self).__qualname__} cannot be encoded: {error}"
            raise ValueError(message) from error
        if self.schema_version > 1:
            head = f'{{"{VERSION_KEY}":{self.schema_version}'.encode()
            return head + (b"}" if data == b"{}" else b"," + data[1:])
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the meta that *data* encodes, also if an older version wrote it.

        Unknown fields are ignored, missing ones take their defaults.

        Raises:
            ValueError: The bytes do not fit this class (the fields are named), or
                a newer version of the class wrote them.
        """
        if cls.schema_version > 1 or _VERSION_MARK in data:
            fields = pydantic_core.from_json(data)
            if not isinstance(fields, dict):
                message = f"{cls.__qualname__}: the stored meta is no JSON object"
                raise ValueError(message)
            data = pydantic_core.to_json(
                cls._to_current(fields), inf_nan_mode="constants"
            )
        try:
            meta: Self = _adapter(cls).validate_json(data)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'meta'}: {e['msg']}"
                for e in error.errors(include_input=False, include_url=False)
            )
            message = f"{cls.__qualname__} cannot be decoded: {problems}"
            raise ValueError(message) from None
        return meta

    @classmethod
    def _to_current(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Bring stored *fields* to this class's schema version."""
        stored = int(fields.pop(VERSION_KEY, 1))
        if stored > cls.schema_version:
            message = (
                f"{cls.__qualname__} was stored with schema version {stored}, this"
                f" code knows {cls.schema_version}: run the newer code"
            )
            raise ValueError(message)
        return fields if stored == cls.schema_version else cls.upcast(fields, stored)

    @classmethod
    def upcast(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        """Turn fields stored by *from_version* into those of this version.

        Called only if ``from_version < cls.schema_version``. The default changes
        nothing. *data* are JSON values, before their conversion to field types.
        """
        del from_version
        return data


M = TypeVar("M", bound=ResourceMeta, default=Any)


@dataclasses.dataclass
class Resource:
    """What ``get`` tells about a job.

    Attributes:
        phase: Flyte's ``TaskExecution.Phase``. UNDEFINED is "no news".
        message: One line for humans, None for nothing to say.
        log_links: Links to the service's own pages.
        outputs: Native values by output name, or a Flyte ``LiteralMap``; read only
            with SUCCEEDED. None for a task without outputs, and for a job that has
            put them elsewhere: the execution has none then, whatever is declared.
        custom_info: JSON-able details of the job for humans.
    """

    phase: TaskExecution.Phase
    message: str | None = None
    log_links: list[TaskLog] | None = None
    outputs: Mapping[str, Any] | LiteralMap | None = None
    custom_info: dict[str, Any] | None = None


class AsyncConnector(ABC, Generic[M]):
    """Base of all connectors; register one instance in the ConnectorRegistry.

    Subclasses may be parametrized by their meta (``AsyncConnector[MyMeta]``).
    Keyword arguments that a method does not take are not passed to it; secrets
    reach all methods as keyword arguments.

    Attributes:
        name: Shown to humans; several connectors may share it.
        task_type_name: The task type that this connector runs. Required.
        task_type_version: Version of the task type, default 0.
        metadata_type: The ResourceMeta subclass of this connector. Required.
        create_is_idempotent: How long the service surely remembers the token that
            ``create`` sent (jobs that ended included), True for ever. Then a
            ``create`` whose outcome is unknown is simply repeated with the same
            token. Default False: it never is.
        not_created_errors: Exception types from ``create`` that prove that no job
            exists. Default none: say only what the service documents.
        delete_is_final: True if ``delete`` returns only after the job ended, so
            that no ``get`` has to confirm it. Default False.
        on_unknown_create: What to do with an unknown ``create`` if nothing can
            find out: "fail" (default: end the execution with
            CREATE_OUTCOME_UNKNOWN), "hold" (wait for an operator) or "create"
            (submit again: at least once, as Flyte does).
        policy: Delays, timeouts and budgets of this connector's jobs; None for the
            defaults of `Policy`.
        runs_in: "loop" (default): on the engine's event loop, which must not be
            blocked: every turn there over 100 ms is logged, with the method's name.
            "thread": in an event loop in a thread of the connector's own, where a
            blocking client delays this connector's calls alone; a call that never
            began within its time limit was surely not made, and is repeated. A thread
            that does not come back is named in the log and replaced, three times at
            most while they are stuck, so what is bound to an event loop (a session, a
            lock) must be made in the call, or per loop. ``job_key`` and the meta's
            ``encode`` and ``decode`` run on the engine's loop always.
    """

    name: str = "Async Connector"
    task_type_name: str
    task_type_version: int = 0
    metadata_type: type[M]

    create_is_idempotent: bool | timedelta = False
    not_created_errors: tuple[type[BaseException], ...] = ()
    delete_is_final: bool = False
    on_unknown_create: Literal["fail", "hold", "create"] = "fail"
    policy: Policy | None = None
    runs_in: Literal["loop", "thread"] = "loop"

    @abstractmethod
    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        *,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        **kwargs: Any,
    ) -> M:
        """Submit the job and return its handle.

        The attempt's token stands in
        ``task_execution_metadata.labels["orchestrator-token"]`` and is passed as
        ``idempotency_token`` if this method names that parameter. The same token
        is sent again only where ``create_is_idempotent`` allows it.

        Args:
            task_template: The task as Flyte's protobuf.
            output_prefix: Where the job may put data, unique per attempt.
            inputs: Native values by input name, defaults filled in.
            task_execution_metadata: Ids and labels of the execution.
            **kwargs: Secrets, by keyword.
        """
        raise NotImplementedError

    @abstractmethod
    async def get(self, resource_meta: M, **kwargs: Any) -> Resource:
        """Tell how the job does. Must not change it; called with backoff."""
        raise NotImplementedError

    @abstractmethod
    async def delete(self, resource_meta: M, **kwargs: Any) -> Any:
        """Cancel the job; idempotent. A job that is gone or ended is no error.

        Raises:
            ResourceGoneError: The service has no such job, which confirms the end.
        """
        raise NotImplementedError

    async def get_metrics(
        self, resource_meta: M, **kwargs: Any
    ) -> GetTaskMetricsResponse:
        """Return the job's metrics. Optional."""
        raise NotImplementedError

    def get_logs(
        self, resource_meta: M, **kwargs: Any
    ) -> Coroutine[Any, Any, GetTaskLogsResponse] | AsyncIterator[GetTaskLogsResponse]:
        """Return the job's logs. Optional.

        Either a coroutine with one response, or an async generator of several.
        """
        raise NotImplementedError

    async def find(self, token: str, **kwargs: Any) -> M | None:
        """Return the job that was created with *token*, None if there is none.

        Optional. After a ``create`` whose outcome is unknown the engine adopts what
        this finds; "none" is believed only after ``find_settle``.
        """
        raise NotImplementedError

    def job_key(self, resource_meta: M) -> str | None:
        """Return the service's own id of the job, None (default) for "no such id".

        Metas with equal keys are one job: the ledger keeps the first of them.
        Must depend on *resource_meta* only.
        """
        del resource_meta
        return None


PHASE_NAMES: dict[int, str] = {
    number: name for name, number in TaskExecution.Phase.items()
}
"""Name of each of Flyte's phases, by its number."""


def implements(connector: AsyncConnector[Any], member: str) -> bool:
    """Tell whether *connector* has its own *member*, such as ``find``."""
    if member in vars(connector):
        return True
    own = getattr(type(connector), member, None)
    return own is not None and own is not getattr(AsyncConnector, member, None)
