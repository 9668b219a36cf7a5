"""The names of ``flyte.connectors._connector``."""

from __future__ import annotations

from orchestrator._connector import AsyncConnector, Resource, ResourceMeta
from orchestrator._registry import ConnectorRegistry, ConnectorRegistryKey
from orchestrator._secrets import ConnectorSecretsMixin
from orchestrator._tasks import AsyncConnectorExecutorMixin
from orchestrator.errors import ConnectorNotFoundError

FlyteConnectorNotFound = ConnectorNotFoundError
"""Flyte's name of the error."""

__all__ = [
    "AsyncConnector",
    "AsyncConnectorExecutorMixin",
    "ConnectorRegistry",
    "ConnectorRegistryKey",
    "ConnectorSecretsMixin",
    "FlyteConnectorNotFound",
    "Resource",
    "ResourceMeta",
]
