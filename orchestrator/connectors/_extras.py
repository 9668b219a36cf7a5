"""The libraries of vendors: there, or said how to get them."""

from __future__ import annotations

import importlib.util

from orchestrator._extras import how_to_install
from orchestrator.errors import ConfigurationError


def is_installed(module: str) -> bool:
    """Tell whether *module* can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def require(module: str, *, service: str, package: str, extra: str) -> None:
    """See that a vendor's library is installed, without loading it.

    Raises:
        ConfigurationError: It is not.
    """
    if not is_installed(module):
        raise ConfigurationError(f"{service} needs {package}: {how_to_install(extra)}")
