"""The connector under check, watched: what it was asked and what it answered."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator._connector import PHASE_NAMES, AsyncConnector, implements
from orchestrator._phase import REMOTE_TERMINAL
from orchestrator._registry import IDEMPOTENCY_TOKEN, accepted
from orchestrator._secrets import ConnectorSecretsMixin, Secret
from orchestrator._tasks import TOKEN_LABEL
from orchestrator.errors import ResourceGoneError

if TYPE_CHECKING:
    from orchestrator._config import Policy
    from orchestrator._connector import Resource
    from orchestrator.testing._check._pulse import Pulse

_COPIED = (
    "name",
    "task_type_name",
    "task_type_version",
    "metadata_type",
    "create_is_idempotent",
    "not_created_errors",
    "delete_is_final",
    "on_unknown_create",
    "runs_in",
)
ENDED = frozenset(n for n, name in PHASE_NAMES.items() if name in REMOTE_TERMINAL)


@dataclass
class Notes:
    """What was seen, over all restarts.

    Attributes:
        given: The arguments of the first ``create`` of the engine.
        metas: Every handle, by job key.
        keys: The job keys of each token.
        own_keys: What ``job_key`` said of what each token created.
        ended: Job keys whose job was seen ended or gone.
        calls: How often each method was called.
        creates: How often ``create`` was called for each token.
        odd: Phases that are none, as they were answered.
    """

    given: dict[str, Any] = field(default_factory=dict)
    metas: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    own_keys: dict[str, set[Any]] = field(default_factory=lambda: defaultdict(set))
    ended: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    creates: Counter[str] = field(default_factory=Counter)
    odd: list[Any] = field(default_factory=list)


def key_of(connector: AsyncConnector[Any], meta: Any) -> str:
    """Return what tells this job from others: its key, else all of its handle."""
    own = connector.job_key(meta)
    return repr(meta.encode()) if own is None else own


class Watched(AsyncConnector[Any]):
    """Hands every call on, and takes notes."""

    def __init__(
        self, inner: AsyncConnector[Any], notes: Notes, pulse: Pulse, policy: Policy
    ) -> None:
        """Be *inner* in all that the engine asks for, but for the policy."""
        for member in _COPIED:
            setattr(self, member, getattr(inner, member))
        self.policy = policy
        self.inner = inner
        self._notes = notes
        self._pulse = pulse
        if implements(inner, "find"):
            vars(self)["find"] = self._find

    def job_key(self, resource_meta: Any) -> str | None:
        """Return what the connector says."""
        return self.inner.job_key(resource_meta)

    async def create(
        self,
        task_template: Any,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        *,
        task_execution_metadata: Any = None,
        idempotency_token: str = "",
        **kwargs: Any,
    ) -> Any:
        """Create, and note the job."""
        token = idempotency_token
        given = kwargs | {
            "task_template": task_template,
            "output_prefix": output_prefix,
            "inputs": inputs,
            "task_execution_metadata": task_execution_metadata,
            IDEMPOTENCY_TOKEN: token,
        }
        if not self._notes.given:
            self._notes.given = given
        self._notes.creates[token] += 1
        meta = await self._call("create", copy.deepcopy(given))
        self._made(token, meta)
        self._notes.own_keys[token].add(self.inner.job_key(meta))
        return meta

    def with_token(self, token: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a ``create`` like the engine's, for another token."""
        given = copy.deepcopy(self._notes.given)
        if token == given[IDEMPOTENCY_TOKEN]:
            return given
        given["inputs"] = {**(given["inputs"] or {}), **inputs}
        given["output_prefix"] += f"/{token}"
        given["task_execution_metadata"].labels[TOKEN_LABEL] = token
        return {**given, IDEMPOTENCY_TOKEN: token}

    async def get(self, resource_meta: Any, **kwargs: Any) -> Resource:
        """Look, and note the phase."""
        key = key_of(self.inner, resource_meta)
        try:
            resource = await self._call(
                "get", kwargs | {"resource_meta": resource_meta}
            )
        except ResourceGoneError:
            self._notes.ended.add(key)
            raise
        phase = getattr(resource, "phase", resource)
        if phase not in PHASE_NAMES:
            self._notes.odd.append(phase)
        elif phase in ENDED:
            self._notes.ended.add(key)
        answer: Resource = resource
        return answer

    async def delete(self, resource_meta: Any, **kwargs: Any) -> Any:
        """Delete."""
        return await self._call("delete", kwargs | {"resource_meta": resource_meta})

    async def _find(self, token: str, **kwargs: Any) -> Any:
        meta = await self._call("find", kwargs | {"token": token})
        if meta is not None:
            self._made(token, meta)
        return meta

    async def _call(self, name: str, kwargs: dict[str, Any]) -> Any:
        method = getattr(self.inner, name)
        self._notes.calls[name] += 1
        # In a thread of its own it may take its time: no loop waits for it.
        own = self.runs_in == "thread"
        with nullcontext() if own else self._pulse.during(name):
            return await method(**accepted(method, kwargs))

    def _made(self, token: str, meta: Any) -> None:
        key = key_of(self.inner, meta)
        self._notes.metas.setdefault(key, meta)
        self._notes.keys[token].add(key)


class WatchedWithSecrets(ConnectorSecretsMixin, Watched):
    """The same for a connector that declares secrets."""

    def __init__(self, inner: AsyncConnector[Any], *args: Any) -> None:
        """Declare what *inner* declares."""
        Watched.__init__(self, inner, *args)

    @property
    def secrets(self) -> list[Secret]:
        """The references of the connector."""
        inner: Any = self.inner
        declared: list[Secret] = inner.secrets
        return declared


def watch(
    inner: AsyncConnector[Any], notes: Notes, pulse: Pulse, policy: Policy
) -> Watched:
    """Return *inner*, watched."""
    kind = WatchedWithSecrets if isinstance(inner, ConnectorSecretsMixin) else Watched
    return kind(inner, notes, pulse, policy)
