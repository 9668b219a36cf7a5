"""The gRPC libraries of the extra ``grpc``: usable, or said how to get them."""

from __future__ import annotations

import shlex
import sys
from importlib import import_module
from importlib.metadata import version

from orchestrator._extras import how_to_install
from orchestrator.errors import ConfigurationError

_VERSIONS = "google.protobuf.runtime_version"
"""Where protobuf's error is from; it asks that nobody but generated code imports it."""


def require(*modules: str) -> None:
    """Raise if one of *modules* cannot be used; they are imported.

    Raises:
        ConfigurationError: One is missing, or wants a newer protobuf than there is;
            names the command that installs what fits.
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
        except Exception as error:
            if type(error).__module__ != _VERSIONS:
                raise
            there = f"protobuf=={version('protobuf')}"
            raise ConfigurationError(
                f"{module} is made for a newer protobuf than {there}; for versions that"
                f" fit: {how_to_install('grpc')} {shlex.quote(there)}"
            ) from error
