"""Flyte's protocol in both directions, and Flyte's own connectors, made durable.

``serve`` and ``ConnectorServer`` offer our connectors as Flyte's
``AsyncConnectorService``, so that a Flyte cluster is the engine, or, durable, only
the caller. ``RemoteConnector`` uses any such service, whatever it is written in, as
a connector here. See docs/flyte.md; they need the extra ``grpc``.

``install`` makes the connectors that are registered with the ``flyte`` package known
here, lets its task objects be submitted, and puts their local runs on a durable
engine. See docs/flyte-install.md; it needs the extra ``flyte``.

Nothing of gRPC or ``flyte`` is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator.flyte._library import require

if TYPE_CHECKING:
    from orchestrator.flyte._install import install, uninstall
    from orchestrator.flyte._options import ServerOptions
    from orchestrator.flyte._remote import RemoteConnector, RemoteMeta
    from orchestrator.flyte._run import ConnectorService
    from orchestrator.flyte._server import ConnectorServer, serve
    from orchestrator.flyte._target import RemoteService

__all__ = [
    "ConnectorServer",
    "ConnectorService",
    "RemoteConnector",
    "RemoteMeta",
    "RemoteService",
    "ServerOptions",
    "install",
    "serve",
    "uninstall",
]

_HOMES = {
    "ConnectorServer": "_server",
    "ConnectorService": "_run",
    "RemoteConnector": "_remote",
    "RemoteMeta": "_remote",
    "RemoteService": "_target",
    "ServerOptions": "_options",
    "install": "_install",
    "serve": "_server",
    "uninstall": "_install",
}
_NEEDS = {
    "_remote": ("grpc", "msgpack"),
    "_server": ("grpc", "grpc_health.v1.health", "msgpack"),
}
"""What has to be installed for a module, said before Python does."""


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    require(*_NEEDS.get(_HOMES[name], ()))
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
