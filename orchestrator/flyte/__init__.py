"""Flyte's own connectors and tasks, made durable; needs ``orchestrator[flyte]``.

``install`` makes the connectors that are registered with the ``flyte`` package known
here, lets its task objects be submitted, and puts their local runs on a durable
engine. See docs/flyte-install.md.

Nothing of ``flyte`` is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.flyte._install import install, uninstall

__all__ = [
    "install",
    "uninstall",
]

_HOMES = {
    "install": "_install",
    "uninstall": "_install",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
