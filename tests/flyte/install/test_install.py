"""``install`` and ``uninstall``: what is known, can be submitted, and is undone."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import flyte.io
import pytest
from flyte.connectors import AsyncConnectorExecutorMixin, ConnectorRegistry

import orchestrator.io
from orchestrator import Registry
from orchestrator.connectors import AsyncConnector, Resource, ResourceMeta
from orchestrator.errors import ConfigurationError
from orchestrator.flyte import _installation, install, uninstall
from orchestrator.io import DataFrame
from tests.flyte.install.kit import (
    SUCCEEDED,
    CountConnector,
    CountMeta,
    CountTask,
    engine,
)

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.flyte._installation import Installation

KEY = ("count", 0)


@dataclass
class OwnMeta(ResourceMeta):
    """The handle of a job of our own connector."""

    start: int


class OwnConnector(AsyncConnector[OwnMeta]):
    """A connector of ours for the same task type."""

    task_type_name = "count"
    metadata_type = OwnMeta

    async def create(self, task_template: Any, *args: Any, **kwargs: Any) -> OwnMeta:
        return OwnMeta(1)

    async def get(self, resource_meta: OwnMeta, **kwargs: Any) -> Resource:
        outputs = {"total": 100, "table": DataFrame("x://y")}
        return Resource(phase=SUCCEEDED, outputs=outputs)

    async def delete(self, resource_meta: OwnMeta, **kwargs: Any) -> None:
        """Do nothing."""


def test_what_flyte_knew_before_and_learns_later_is_known_here(
    flyte_registry: Any,
) -> None:
    """In both orders: the plugin's import first, or ``install`` first."""
    before, later = CountConnector(), CountConnector()
    later.task_type_name = "later"
    ConnectorRegistry.register(before)
    registry = Registry()
    with install(registry=registry, load_plugins=False):
        assert registry.keys() == [KEY]
        ConnectorRegistry.register(later)
        assert registry.get_connector("later").flyte_connector is later  # type: ignore[attr-defined]
        assert ConnectorRegistry.get_connector("later") is later
    assert registry.keys() == []


def test_uninstall_puts_flytes_own_methods_back(flyte_registry: Any) -> None:
    """As the same objects, also after two installs; the second does nothing."""
    register = vars(ConnectorRegistry)["register"]
    execute = vars(AsyncConnectorExecutorMixin)["execute"]
    first = install(registry=Registry(), load_plugins=False)
    assert install(registry=Registry()) is first
    assert vars(AsyncConnectorExecutorMixin)["execute"] is not execute
    uninstall()
    uninstall()
    assert vars(ConnectorRegistry)["register"] is register
    assert vars(AsyncConnectorExecutorMixin)["execute"] is execute


def test_override_replaces_the_adapter_and_a_duplicate_is_flytes_error(
    installation: Installation,
) -> None:
    """Flyte's registry decides first."""
    first, second = CountConnector(), CountConnector()
    ConnectorRegistry.register(first)
    with pytest.raises(ValueError, match="Duplicate connector"):
        ConnectorRegistry.register(second)
    ConnectorRegistry.register(second, override=True)
    assert installation.registry.get_connector("count").flyte_connector is second  # type: ignore[attr-defined]


async def test_our_own_connector_runs_flytes_tasks(
    installation: Installation, tmp_path: Path
) -> None:
    """It knows more of its service than an adapter can, and stays after all."""
    installation.registry.register(OwnConnector())
    ConnectorRegistry.register(CountConnector())
    async with engine(tmp_path, installation.registry) as orch:
        handle = await orch.submit(CountTask(), {"start": 1})
        assert await handle.result(20) == (100, DataFrame("x://y"))
    installation.uninstall()
    assert installation.registry.keys() == [KEY]


async def test_a_task_object_is_submitted_with_its_own_types(
    installation: Installation, tmp_path: Path
) -> None:
    """Limits, labels and outputs are kept; Flyte's connector gets Flyte's call."""
    connector = CountConnector("pending", "running", "success")
    ConnectorRegistry.register(connector)
    task = CountTask(retries=2, timeout=60)
    async with engine(tmp_path, installation.registry) as orch:
        handle = await orch.submit(task, {"start": 4}, idempotency_key="once")
        again = await orch.submit(task, {"start": 4}, idempotency_key="once")
        assert again.id == handle.id
        assert await handle.result(30) == (5, DataFrame("bq://p:d.t"))
        execution = await handle.get()
    assert execution.max_attempts == 3
    assert execution.custom_info == {"state": "success"}
    assert execution.log_links[0]["uri"] == "https://console.example/1"
    (created,) = connector.seen.of("create")
    assert created["inputs"] == {"start": 4}
    token = created["task_execution_metadata"].labels["orchestrator-token"]
    assert token == f"o{handle.id}-1"
    assert "idempotency_token" not in created


async def test_without_install_the_error_says_what_to_call(tmp_path: Path) -> None:
    """A task of flyte is told apart from any other object."""
    async with engine(tmp_path, Registry()) as orch:
        with pytest.raises(ConfigurationError, match=r"orchestrator\.flyte\.install"):
            await orch.submit(CountTask(), {})


def test_a_connector_that_cannot_work_here_does_not_break_flytes_program(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log, and Flyte has it."""
    broken = CountConnector()
    broken.metadata_type = None  # type: ignore[assignment]
    ConnectorRegistry.register(broken)
    assert ConnectorRegistry.get_connector("count") is broken
    assert KEY not in installation.registry
    assert "CountConnector cannot be used here" in caplog.text


def test_plugins_are_loaded_by_their_entry_points(
    flyte_registry: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """One that cannot be imported is named, and the next one is loaded."""
    points = [
        EntryPoint("broken", "tests.flyte.install.nothing", "flyte.connectors"),
        EntryPoint("good", "tests.flyte.install.kit:CountMeta", "flyte.connectors"),
    ]
    loaded: list[str] = []

    def listed(group: str) -> list[EntryPoint]:
        loaded.append(group)
        return points

    monkeypatch.setattr(_installation, "entry_points", listed)
    caplog.set_level(logging.WARNING)
    with install(registry=Registry()):
        assert loaded == ["flyte.connectors"]
    assert "'broken' cannot be loaded" in caplog.text
    assert "'good'" not in caplog.text


def test_metas_come_back_as_flyte_encodes_them() -> None:
    """The stored bytes are those of Flyte's service."""
    meta = CountMeta(start=1, where="é")
    assert CountMeta.decode(meta.encode()) == meta


@pytest.mark.parametrize("kind", ["File", "Dir"])
def test_a_reference_is_made_and_read_as_flytes(kind: str) -> None:
    """A connector goes on working when only its imports are renamed."""
    for path in ("s3://b/x.csv", "s3://b/folder/"):
        ours, theirs = (
            getattr(module, kind)(path=path, format="csv")
            for module in (orchestrator.io, flyte.io)
        )
        for name in ("path", "name", "format"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert type(ours).from_existing_remote(path).path == path
