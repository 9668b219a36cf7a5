"""The gRPC libraries of the extra ``grpc``: there, or said how to get them."""

from __future__ import annotations

import sys
from importlib import import_module

from orchestrator._extras import how_to_install
from orchestrator.errors import ConfigurationError


def require(*modules: str) -> None:
    """Raise if one of *modules* is missing; they are imported.

    Raises:
        ConfigurationError: Names the command that installs them.
    """
    for module in modules:
        if module in sys.modules:
            continue
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigurationError(
                f"{module} is not installed, which Flyte's protocol needs:"
                f" {how_to_install('grpc')}"
            ) from error
