"""The names of ``flyte.connectors``, and the connectors that come with the library.

Importing this package is what makes ``task.execute()`` work: it tells the mixin
where the default engine is, without loading it before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator._connector import AsyncConnector, Resource, ResourceMeta
from orchestrator._registry import ConnectorRegistry
from orchestrator._secrets import ConnectorSecretsMixin
from orchestrator._tasks import (
    AsyncConnectorExecutorMixin,
    default_engine_hook,
    set_default_engine_hook,
)
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from orchestrator._tasks import SubmitOptions
    from orchestrator.flyte import ConnectorService

__all__ = [
    "AsyncConnector",
    "AsyncConnectorExecutorMixin",
    "ConnectorRegistry",
    "ConnectorSecretsMixin",
    "ConnectorService",
    "Resource",
    "ResourceMeta",
]


def __getattr__(name: str) -> Any:
    """Load ``ConnectorService``, which serves these connectors, on first use."""
    if name != "ConnectorService":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from orchestrator.flyte import ConnectorService  # noqa: PLC0415 - an extra

    return ConnectorService


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


async def _load_engine(
    task: Any, kwargs: dict[str, Any], options: SubmitOptions
) -> Any:
    """Load the composition root, which installs its own hook, and go on there."""
    import orchestrator._orchestrator  # noqa: F401, PLC0415 - only when it is needed

    hook = default_engine_hook()
    if hook is None or hook is _load_engine:
        raise ConfigurationError("the engine installed no hook for execute()")
    return await hook(task, kwargs, options)


if default_engine_hook() is None:
    set_default_engine_hook(_load_engine)
