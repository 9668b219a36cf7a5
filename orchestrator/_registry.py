"""Which connector runs which task type, checked when it is registered.

``Registry`` is the real thing, an instance that an Orchestrator can be given.
``ConnectorRegistry`` is Flyte's static interface to the one default Registry.
Whatever can be known to be wrong with a connector is refused here, in the import
that registers it, and not at the first job of the night.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from flyteidl2.connector.connector_pb2 import Connector as ConnectorProto
from flyteidl2.connector.connector_pb2 import TaskCategory

from orchestrator._config import Policy
from orchestrator._connector import AsyncConnector, ResourceMeta, check_decodable
from orchestrator._secrets import (
    RESERVED_KEYWORDS,
    RESERVED_PROBLEM,
    ConnectorSecretsMixin,
)
from orchestrator.errors import (
    ConfigurationError,
    ConnectorAlreadyRegisteredError,
    ConnectorNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

IDEMPOTENCY_TOKEN = "idempotency_token"  # noqa: S105 - the name of a parameter


@dataclass(frozen=True)
class ConnectorRegistryKey:
    """What a connector is looked up by."""

    task_type_name: str
    task_type_version: int


class Registry:
    """Connectors by task type and version."""

    def __init__(self) -> None:
        """Start empty."""
        self._registry: dict[ConnectorRegistryKey, AsyncConnector[Any]] = {}
        self._metadata: dict[str, ConnectorProto] = {}
        self.generation = 0
        """Grows with every registration: whoever keeps a connector compares it."""

    def register(self, connector: AsyncConnector[Any], override: bool = False) -> None:  # noqa: FBT001, FBT002 - Flyte's signature
        """Check *connector* and make it known.

        Args:
            connector: An instance, not the class.
            override: Replace a connector of the same task type and version;
                executions in flight use the new one from their next call on.

        Raises:
            ConfigurationError: The class cannot work; class and field are named.
            ConnectorAlreadyRegisteredError: The task type is taken.
        """
        self.register_all((connector,), override)

    def register_all(
        self,
        connectors: Sequence[AsyncConnector[Any]],
        override: bool = False,  # noqa: FBT001, FBT002 - as `register`
    ) -> None:
        """Make several connectors known: all of them, or none if one is refused.

        Args:
            connectors: Instances.
            override: As `register`.

        Raises:
            ConfigurationError: As `register`.
            ConnectorAlreadyRegisteredError: As `register`, also for two of them.
        """
        found: dict[ConnectorRegistryKey, AsyncConnector[Any]] = {}
        for connector in connectors:
            check_connector_class(connector)
            key = ConnectorRegistryKey(
                connector.task_type_name, connector.task_type_version
            )
            if not override and (key in self._registry or key in found):
                message = (
                    f"Duplicate connector for task type: {key.task_type_name}"
                    f" and version: {key.task_type_version}"
                )
                raise ConnectorAlreadyRegisteredError(message)
            found[key] = connector
        for key, connector in found.items():
            self._put(key, connector)

    def _put(self, key: ConnectorRegistryKey, connector: AsyncConnector[Any]) -> None:
        category = TaskCategory(name=key.task_type_name, version=key.task_type_version)
        if key in self._registry:
            self._forget_category(category)
        self._registry[key] = connector
        self.generation += 1
        metadata = self._metadata.setdefault(
            connector.name, ConnectorProto(name=connector.name)
        )
        metadata.supported_task_categories.append(category)

    def unregister(self, task_type_name: str, task_type_version: int = 0) -> None:
        """Forget the connector of a task type; its executions are held from now on.

        Raises:
            ConnectorNotFoundError: No connector is registered for it.
        """
        self.get_connector(task_type_name, task_type_version)
        del self._registry[ConnectorRegistryKey(task_type_name, task_type_version)]
        self.generation += 1
        self._forget_category(
            TaskCategory(name=task_type_name, version=task_type_version)
        )

    def _forget_category(self, category: TaskCategory) -> None:
        """Drop *category* from the connector that has it, and an empty entry."""
        for name, metadata in list(self._metadata.items()):
            if category in metadata.supported_task_categories:
                metadata.supported_task_categories.remove(category)
            if not metadata.supported_task_categories:
                del self._metadata[name]

    def get_connector(
        self, task_type_name: str, task_type_version: int = 0
    ) -> AsyncConnector[Any]:
        """Return the connector of a task type.

        Raises:
            ConnectorNotFoundError: No connector is registered for it.
        """
        key = ConnectorRegistryKey(task_type_name, task_type_version)
        try:
            return self._registry[key]
        except KeyError:
            message = (
                f"Cannot find connector for task type: {task_type_name}"
                f" and version: {task_type_version}"
            )
            raise ConnectorNotFoundError(message) from None

    def list_connectors(self) -> list[ConnectorProto]:
        """Return one description per connector name."""
        return list(self._metadata.values())

    def get_connector_metadata(self, name: str) -> ConnectorProto:
        """Return the description of the connectors called *name*.

        Raises:
            ConnectorNotFoundError: No connector has that name.
        """
        try:
            return self._metadata[name]
        except KeyError:
            message = f"Cannot find connector for name: {name}."
            raise ConnectorNotFoundError(message) from None

    def keys(self) -> list[tuple[str, int]]:
        """Return the ``(task type, version)`` pairs that can be run here."""
        return [(k.task_type_name, k.task_type_version) for k in self._registry]

    def __contains__(self, key: tuple[str, int]) -> bool:
        """Tell whether ``(task type, version)`` can be run here."""
        return ConnectorRegistryKey(*key) in self._registry

    def __iter__(self) -> Iterator[AsyncConnector[Any]]:
        """Iterate over the connectors in order of registration."""
        return iter(list(self._registry.values()))

    def __len__(self) -> int:
        """Return the number of task types."""
        return len(self._registry)


DEFAULT_REGISTRY = Registry()
"""The registry of ``ConnectorRegistry``, and of an Orchestrator that is given none."""


class ConnectorRegistry:
    """Flyte's static interface to the default registry."""

    _REGISTRY: ClassVar[dict[ConnectorRegistryKey, AsyncConnector[Any]]] = (
        DEFAULT_REGISTRY._registry  # noqa: SLF001 - Flyte shows these two
    )
    _METADATA: ClassVar[dict[str, ConnectorProto]] = DEFAULT_REGISTRY._metadata  # noqa: SLF001

    @staticmethod
    def register(connector: AsyncConnector[Any], override: bool = False) -> None:  # noqa: FBT001, FBT002 - Flyte's signature
        """Register *connector*; see ``Registry.register``."""
        DEFAULT_REGISTRY.register(connector, override)

    @staticmethod
    def get_connector(
        task_type_name: str, task_type_version: int = 0
    ) -> AsyncConnector[Any]:
        """Return the connector of a task type; see ``Registry.get_connector``."""
        return DEFAULT_REGISTRY.get_connector(task_type_name, task_type_version)

    @staticmethod
    def _list_connectors() -> list[ConnectorProto]:
        """Return one description per connector name."""
        return DEFAULT_REGISTRY.list_connectors()

    @staticmethod
    def _get_connector_metadata(name: str) -> ConnectorProto:
        """Return the description of the connectors called *name*."""
        return DEFAULT_REGISTRY.get_connector_metadata(name)


def check_connector_class(connector: object) -> None:
    """Raise if *connector* can be seen to be unusable.

    Raises:
        ConfigurationError: Class and field are named.
    """
    if isinstance(connector, type):
        name = connector.__qualname__
        message = f"register an instance, not the class: register({name}())"
        raise ConfigurationError(message)
    if not isinstance(connector, AsyncConnector):
        message = f"{type(connector).__qualname__} is no AsyncConnector"
        raise ConfigurationError(message)
    _check_task_type(connector)
    _check_metadata_type(connector)
    _check_coroutines(connector)
    _check_options(connector)
    _check_secrets(connector)


def _wrong(connector: object, field: str, problem: str) -> ConfigurationError:
    """Return the error for a *field* of the class of *connector*."""
    return ConfigurationError(f"{type(connector).__qualname__}.{field} {problem}")


def _check_task_type(connector: AsyncConnector[Any]) -> None:
    """Check what the connector is looked up by."""
    name = getattr(connector, "task_type_name", None)
    if not isinstance(name, str) or not name:
        raise _wrong(connector, "task_type_name", "must be a non-empty str")
    version = connector.task_type_version
    if type(version) is not int or version < 0:
        raise _wrong(connector, "task_type_version", f"must be an int, got {version!r}")
    if not isinstance(connector.name, str) or not connector.name:
        raise _wrong(connector, "name", "must be a non-empty str")


def _check_metadata_type(connector: AsyncConnector[Any]) -> None:
    """Check that the meta can be stored and read back by another process."""
    meta = getattr(connector, "metadata_type", None)
    field = "metadata_type"
    if meta is None:
        advice = "is missing: set it to a dataclass that derives from ResourceMeta"
        raise _wrong(connector, field, advice)
    if not isinstance(meta, type):
        raise _wrong(connector, field, f"must be a class, got {meta!r}")
    own = {
        method
        for method in ("encode", "decode")
        if callable(getattr(meta, method, None))
        and inspect.getattr_static(meta, method)
        is not inspect.getattr_static(ResourceMeta, method)
    }
    if own == {"encode", "decode"}:
        return
    if not issubclass(meta, ResourceMeta):
        advice = "must derive from ResourceMeta, or have encode and decode of its own"
        raise _wrong(connector, field, f"{meta.__qualname__} {advice}")
    if len(own) == 1:
        advice = f"overrides {own.pop()} only; encode and decode belong together"
        raise _wrong(connector, field, f"{meta.__qualname__} {advice}")
    # Without the decorator the annotations of a subclass are no fields, and lost.
    if meta is not ResourceMeta and "__dataclass_fields__" not in vars(meta):
        inherited = dataclasses.is_dataclass(meta)
        if not inherited or inspect.get_annotations(meta):
            raise _wrong(connector, field, f"{meta.__qualname__} must be a @dataclass")
    if meta is ResourceMeta:
        raise _wrong(connector, field, "must be a dataclass derived from ResourceMeta")
    try:
        check_decodable(meta)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        advice = (
            f"{meta.__qualname__} cannot be read back ({reason}): define it and the"
            " classes that its fields name at the top level of a module"
        )
        raise _wrong(connector, field, advice) from error


def _check_coroutines(connector: AsyncConnector[Any]) -> None:
    """Check that the three calls can be awaited; a wrapped one is believed."""
    for name in ("create", "get", "delete", "find"):
        method = inspect.getattr_static(type(connector), name)
        if inspect.isfunction(method) and not (
            inspect.iscoroutinefunction(method) or hasattr(method, "__wrapped__")
        ):
            raise _wrong(connector, name, "must be defined with `async def`")
    if inspect.iscoroutinefunction(connector.job_key):
        raise _wrong(connector, "job_key", "must be defined with `def`, not async")


def _check_options(connector: AsyncConnector[Any]) -> None:
    """Check the optional members."""
    choices = ("fail", "hold", "create")
    if connector.on_unknown_create not in choices:
        problem = f"must be one of {choices}, got {connector.on_unknown_create!r}"
        raise _wrong(connector, "on_unknown_create", problem)
    if connector.runs_in not in ("loop", "thread"):
        problem = f'must be "loop" or "thread", got {connector.runs_in!r}'
        raise _wrong(connector, "runs_in", problem)
    if connector.policy is not None and not isinstance(connector.policy, Policy):
        problem = f"must be a Policy or None, got {connector.policy!r}"
        raise _wrong(connector, "policy", problem)
    remembered = connector.create_is_idempotent
    if not isinstance(remembered, (bool, timedelta)) or (
        isinstance(remembered, timedelta) and remembered <= timedelta(0)
    ):
        problem = f"must be a bool or a positive timedelta, got {remembered!r}"
        raise _wrong(connector, "create_is_idempotent", problem)
    errors = connector.not_created_errors
    if not isinstance(errors, tuple) or not all(
        isinstance(e, type) and issubclass(e, BaseException) for e in errors
    ):
        problem = f"must be a tuple of exception types, got {errors!r}"
        raise _wrong(connector, "not_created_errors", problem)
    if not isinstance(connector.delete_is_final, bool):
        raise _wrong(connector, "delete_is_final", "must be True or False")


def _check_secrets(connector: AsyncConnector[Any]) -> None:
    """Check the keywords and variables of the connector's own secrets."""
    if not isinstance(connector, ConnectorSecretsMixin):
        return
    try:
        keywords = [secret.key for secret in connector.secrets]
    except AttributeError:
        advice = "were never set: call super().__init__(secrets=...)"
        raise _wrong(connector, "secrets", advice) from None
    except (TypeError, ValueError) as error:
        raise _wrong(connector, "secrets", f"are unusable: {error}") from error
    for keyword in keywords:
        if keyword in RESERVED_KEYWORDS:
            raise _wrong(connector, "secrets", f"{keyword!r} {RESERVED_PROBLEM}")


@lru_cache(maxsize=4096)
def _parameters(function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """Return the names that *function* takes by keyword, and whether it takes all."""
    named: set[str] = set()
    takes_all = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_all = True
        elif parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        ):
            named.add(parameter.name)
    return frozenset(named), takes_all


def accepted(method: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of *kwargs* that *method* takes.

    A ``**kwargs`` takes all but the idempotency token, which is passed only to a
    method that names it: a connector that hands its keyword arguments on to a
    client library must not send a parameter that nobody asked for.
    """
    function = getattr(method, "__func__", method)
    named, takes_all = _parameters(function)
    return {
        name: value
        for name, value in kwargs.items()
        if name in named or (takes_all and name != IDEMPOTENCY_TOKEN)
    }
