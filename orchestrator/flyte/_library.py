"""The gRPC libraries of the extra ``grpc``: there, or said how to get them."""

from __future__ import annotations

from importlib import import_module

from orchestrator.errors import ConfigurationError

INSTALL = "pip install 'orchestrator[grpc]'"


def require(*modules: str) -> None:
    """Raise if gRPC, or one of the *modules* that a setting asks for, is missing.

    Raises:
        ConfigurationError: Names the command that installs them.
    """
    for module in ("grpc", *modules):
        try:
            import_module(module)
        except ImportError as error:
            what = f"{module} is not installed, which Flyte's protocol needs: {INSTALL}"
            raise ConfigurationError(what) from error
