"""Durable execution of async connectors: jobs on other people's services.

Names are loaded when they are first used, so that importing this package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator._version import __version__

if TYPE_CHECKING:
    from orchestrator._config import Config, Policy
    from orchestrator._faults import FAULT_POINTS
    from orchestrator._orchestrator import Handle, Orchestrator
    from orchestrator._phase import Cause, Phase, RemotePhase
    from orchestrator._records import Execution, Job, Transition
    from orchestrator._registry import ConnectorRegistry, Registry
    from orchestrator._secrets import (
        EnvironmentSecrets,
        FileSecrets,
        KeyringSecrets,
        RedactingFilter,
        Secret,
        SecretProvider,
        SecretReference,
    )
    from orchestrator._tasks import (
        Backoff,
        RetryStrategy,
        TaskTemplate,
        Timeout,
        options,
    )

__all__ = [
    "FAULT_POINTS",
    "Backoff",
    "Cause",
    "Config",
    "ConnectorRegistry",
    "EnvironmentSecrets",
    "Execution",
    "FileSecrets",
    "Handle",
    "Job",
    "KeyringSecrets",
    "Orchestrator",
    "Phase",
    "Policy",
    "RedactingFilter",
    "Registry",
    "RemotePhase",
    "RetryStrategy",
    "Secret",
    "SecretProvider",
    "SecretReference",
    "TaskTemplate",
    "Timeout",
    "Transition",
    "__version__",
    "options",
]

_HOMES = {
    "Backoff": "_tasks",
    "Cause": "_phase",
    "Config": "_config",
    "ConnectorRegistry": "_registry",
    "EnvironmentSecrets": "_secrets",
    "Execution": "_records",
    "FAULT_POINTS": "_faults",
    "FileSecrets": "_secrets",
    "Handle": "_orchestrator",
    "Job": "_records",
    "KeyringSecrets": "_secrets",
    "Orchestrator": "_orchestrator",
    "Phase": "_phase",
    "Policy": "_config",
    "RedactingFilter": "_secrets",
    "Registry": "_registry",
    "RemotePhase": "_phase",
    "RetryStrategy": "_tasks",
    "Secret": "_secrets",
    "SecretProvider": "_secrets",
    "SecretReference": "_secrets",
    "TaskTemplate": "_tasks",
    "Timeout": "_tasks",
    "Transition": "_records",
    "options": "_tasks",
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
