"""What these tests share: an installation that is undone, and a quiet vendor."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

with warnings.catch_warnings():
    # Of the libraries that Flyte imports; ours are errors, as everywhere.
    warnings.simplefilter("ignore")
    import flyte.connectors
    import flyte.io

from orchestrator import Registry
from orchestrator.flyte import install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.flyte._installation import Installation


@pytest.fixture
def flyte_registry(monkeypatch: pytest.MonkeyPatch) -> type:
    """Return Flyte's registry, empty for the time of a test."""
    registry: type = flyte.connectors.ConnectorRegistry
    monkeypatch.setattr(registry, "_REGISTRY", {})
    monkeypatch.setattr(registry, "_METADATA", {})
    return registry


@pytest.fixture
def installation(flyte_registry: type) -> Iterator[Installation]:
    """Install into a registry of the test's own, without plugins."""
    with install(registry=Registry(), load_plugins=False) as made:
        yield made
