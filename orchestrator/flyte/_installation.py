"""What `install` has changed in the flyte package, and how it is undone."""

# flyte is in an environment of its own:
# pyright: reportMissingImports=false

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Self

from flyte.connectors import AsyncConnectorExecutorMixin, ConnectorRegistry
from flyte.models import ActionID

from orchestrator._secrets import get_logger
from orchestrator._tasks import add_converter, remove_converter
from orchestrator.errors import ConfigurationError
from orchestrator.flyte._actions import traced
from orchestrator.flyte._adapter import FlyteConnector
from orchestrator.flyte._execute import durable
from orchestrator.flyte._tasks import convert

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from orchestrator._registry import Registry

logger = get_logger(__name__)

ENTRY_POINTS = "flyte.connectors"
"""The group under which plugins announce their connectors."""


class Installation:
    """What ``install`` has changed; leaving it as a context undoes it.

    Attributes:
        registry: Where the adapters are.
        installed: Whether it still is.
    """

    def __init__(self, registry: Registry) -> None:
        """Change nothing yet."""
        self.registry = registry
        self.installed = False
        self._adapted: dict[tuple[str, int], Any] = {}
        self._undo: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Self:
        """Return itself: everything is installed already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Uninstall."""
        self.uninstall()

    def uninstall(self) -> None:
        """Put Flyte's methods back and forget the adapters; of no effect twice.

        Executions in flight whose connector was an adapter are held until somebody
        registers one again.
        """
        if not self.installed:
            return
        self.installed = False
        remove_converter(convert)
        for owner, name, before in reversed(self._undo):
            setattr(owner, name, before)
        self._undo.clear()
        for key, adapter in self._adapted.items():
            if key in self.registry and self.registry.get_connector(*key) is adapter:
                self.registry.unregister(*key)
        self._adapted.clear()

    def adapt(self, connector: Any) -> None:
        """Make one of Flyte's connectors known to our registry.

        A connector that our registry has for that task type stays: it knows more
        than an adapter can. One that cannot work is named in the log; it stays
        Flyte's, and Flyte's program is not to break for it.
        """
        try:
            adapter = FlyteConnector(connector)
            key = (adapter.task_type_name, adapter.task_type_version)
            known = self.registry.get_connector(*key) if key in self.registry else None
            if known is not None and known is not self._adapted.get(key):
                logger.info("%s: our own connector runs %s", adapter.name, key[0])
                return
            self.registry.register(adapter, override=True)
        except (ConfigurationError, AttributeError, TypeError, ValueError) as error:
            kind = type(connector).__qualname__
            logger.warning("%s cannot be used here: %s", kind, error)
            return
        self._adapted[key] = adapter

    def begin(self, database: str | os.PathLike[str] | None) -> None:
        """Change the registry, the mixin and what can be submitted."""
        self.installed = True
        register = ConnectorRegistry.register

        def register_both(connector: Any, override: bool = False) -> None:  # noqa: FBT001, FBT002 - Flyte's signature
            """Register with Flyte, as ever, and then here."""
            register(connector, override)
            self.adapt(connector)

        self._patch(ConnectorRegistry, "register", staticmethod(register_both))
        for connector in list(ConnectorRegistry._REGISTRY.values()):  # noqa: SLF001 - Flyte has no other list of instances
            self.adapt(connector)
        mixin = AsyncConnectorExecutorMixin
        self._patch(mixin, "execute", durable(mixin.execute, database))
        name = "new_sub_action_from"
        self._patch(ActionID, name, traced(getattr(ActionID, name)))
        add_converter(convert)

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute of a class until `uninstall`."""
        self._undo.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)


def load_plugins() -> None:
    """Import what registers connectors with Flyte."""
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # noqa: BLE001 - one plugin's fault is no other's
            logger.warning("connector %r cannot be loaded: %s", point.name, error)
