"""What a step needs of its row's connector and template, parsed once each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator._clock import duration_to_us
from orchestrator._codec import interface_from_proto
from orchestrator._connector import implements
from orchestrator._policies import Policies, TaskLimits, policy_of
from orchestrator._secrets import SecretReference, secret_references
from orchestrator._tasks import (
    execution_metadata,
    max_inline_io_bytes_of,
    retries_of,
    template_from_bytes,
    timeout_of,
)
from orchestrator.errors import ConnectorNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator._connector import AsyncConnector
    from orchestrator._registry import Registry
    from orchestrator.models import NativeInterface

_CACHED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Context:
    """One connector and one template, ready for calls."""

    connector: AsyncConnector[Any]
    template: TaskTemplate
    interface: NativeInterface
    typed: bool
    """Whether the template says anything of its outputs at all."""
    policies: Policies
    references: Mapping[str, SecretReference]
    output_bytes_max: int
    metadata: TaskExecutionMetadata
    """What is the same for every execution of the template."""


def limits_of(template: TaskTemplate) -> TaskLimits:
    """Return the template's retries and timeouts as plain numbers."""
    retries, timeout = retries_of(template), timeout_of(template)
    backoff = retries.backoff
    cap = backoff.cap if backoff is not None else None
    return TaskLimits(
        retries=retries.count,
        retry_base_us=0 if backoff is None else duration_to_us(backoff.base),
        retry_factor=1.0 if backoff is None else backoff.factor,
        retry_cap_us=None if cap is None else duration_to_us(cap),
        run_timeout_us=_bound(timeout.max_runtime),
        queued_timeout_us=_bound(timeout.max_queued_time),
        deadline_us=_bound(timeout.deadline),
    )


def _bound(value: timedelta | int | None) -> int:
    if value is None:
        return 0
    if isinstance(value, timedelta):
        return duration_to_us(value)
    return value * 1_000_000


def policies_of(connector: AsyncConnector[Any], limits: TaskLimits) -> Policies:
    """Return what `decide` needs of a connector and a template."""
    remembered = connector.create_is_idempotent
    if isinstance(remembered, timedelta):
        idempotent: int | None = duration_to_us(remembered)
    else:
        idempotent = None if remembered else 0
    return Policies(
        policy=policy_of(connector),
        limits=limits,
        idempotent_us=idempotent,
        can_find=implements(connector, "find"),
        names_jobs=implements(connector, "job_key"),
        on_unknown_create=connector.on_unknown_create,
        delete_is_final=connector.delete_is_final,
    )


class Contexts:
    """A cache of contexts, by template and connector."""

    def __init__(
        self,
        registry: Registry,
        read_template: Callable[[str], Coroutine[Any, Any, bytes | None]],
    ) -> None:
        """Look connectors up in *registry*, templates with *read_template*."""
        self._registry = registry
        self._read_template = read_template
        self._native: dict[str, NativeInterface] = {}
        self._generation = registry.generation
        self._cache: dict[tuple[str, str, int], Context] = {}
        self._reading: dict[tuple[str, str, int], asyncio.Future[Context]] = {}

    def connector(self, task_type: str, version: int) -> AsyncConnector[Any]:
        """Return the connector, ConnectorNotFoundError without it."""
        return self._registry.get_connector(task_type, version)

    def loaded(self) -> list[tuple[str, int]]:
        """Return the task types and versions that this node can run."""
        return self._registry.keys()

    def names(self) -> list[tuple[str, int, str]]:
        """Return task type, version and name of each connector."""
        return [(c.task_type_name, c.task_type_version, c.name) for c in self._registry]

    def remember(
        self, digest: str, kind: tuple[str, int], interface: NativeInterface
    ) -> None:
        """Keep a task's own types, which its protobuf does not have; the last wins.

        Only the process that declares the task knows its classes; any other
        sees dataclasses as dicts and Enums as their names.
        """
        if self._native.get(digest) is interface:
            return
        if len(self._native) >= _CACHED_MAX:
            self._native.clear()
        self._native[digest] = interface
        key = (digest, *kind)
        context = self._cache.get(key)
        if context is not None:
            self._cache[key] = replace(context, interface=interface)

    def interface_of(self, digest: str, template: TaskTemplate) -> NativeInterface:
        """Return a template's types, the task's own where this process knows them."""
        return self._native.get(digest) or interface_from_proto(template.interface)

    def cached(self, task_type: str, version: int, digest: str) -> Context | None:
        """Return the context if it is known; none survives a new registration."""
        if self._registry.generation != self._generation:
            self._generation = self._registry.generation
            self._cache.clear()
        return self._cache.get((digest, task_type, version))

    async def get(self, task_type: str, version: int, digest: str) -> Context | None:
        """Return the context, None if this node has no such connector.

        Raises:
            LookupError: The database has no such template.
            google.protobuf.message.DecodeError: It cannot be read.
        """
        found = self.cached(task_type, version, digest)
        if found is not None:
            return found
        try:
            connector = self._registry.get_connector(task_type, version)
        except ConnectorNotFoundError:
            return None
        key = (digest, task_type, version)
        # A batch claims many rows of one template: it is read once for all of them.
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(self._read(connector, digest))
            self._reading[key] = reading
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        return await asyncio.shield(reading)

    async def _read(self, connector: AsyncConnector[Any], digest: str) -> Context:
        generation = self._registry.generation
        proto = await self._read_template(digest)
        if proto is None:
            msg = f"template {digest} is missing"
            raise LookupError(msg)
        context = self.add(connector, template_from_bytes(proto), digest)
        if generation != self._registry.generation:
            self._cache.clear()  # the connector was replaced during the read
        return context

    def add(
        self, connector: AsyncConnector[Any], template: TaskTemplate, digest: str
    ) -> Context:
        """Build and keep the context of *connector* and *template*."""
        policies = policies_of(connector, limits_of(template))
        context = Context(
            connector=connector,
            template=template,
            interface=self.interface_of(digest, template),
            typed=template.HasField("interface"),
            policies=policies,
            references=secret_references(template, connector),
            output_bytes_max=min(
                policies.policy.output_bytes_max, max_inline_io_bytes_of(template)
            ),
            metadata=execution_metadata(template),
        )
        if len(self._cache) >= _CACHED_MAX:
            self._cache.clear()
        key = (digest, connector.task_type_name, connector.task_type_version)
        self._cache[key] = context
        return context
