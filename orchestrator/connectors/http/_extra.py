"""The libraries of the extra ``http``, imported when they are first needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from orchestrator._extras import how_to_install
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType


def need(library: str) -> ModuleType:
    """Import *library*.

    Raises:
        ConfigurationError: It is not installed; the command that mends it is named.
    """
    try:
        return import_module(library)
    except ImportError as error:
        raise ConfigurationError(
            f"the http connector needs {library}: {how_to_install('http')}"
        ) from error
