"""What a module of a connector has, and the modules' names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from tests.crash.worker import Side

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager
    from pathlib import Path

    from orchestrator.testing import ServiceClass
    from tests.crash.subject import Subject

WORKER = "tests.connectors.campaign.worker"

ENTRIES: dict[str, str] = {
    "bigquery": "bigquery",
    "databricks": "databricks",
    "snowflake": "snowflake",
    "http": "http",
    "http-listed": "http",
    "process": "process",
    "flyte": "flyte",
}
"""Module by connector; one of two classes has two names."""


class ConnectorSide(Side):
    """A connector's side of a worker; told by ``--url`` where the service is."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.url: str = options.url

    async def release(self, token: str) -> None:
        """Let the service give the answers that it withholds of *token*."""

    async def aclose(self) -> None:
        """Let go of the service."""


class Entry(Protocol):
    """A connector in the campaign."""

    SIDE: type[ConnectorSide]

    def opened(
        self, service: ServiceClass, folder: Path, seed: str
    ) -> AbstractContextManager[Subject]:
        """Run the service until the block ends."""


def entry_of(name: str) -> Entry:
    """Return the module of connector *name*; it imports the vendor's library."""
    return cast("Entry", import_module(f"tests.connectors.campaign.{ENTRIES[name]}"))


def arguments(name: str, url: str) -> tuple[str, ...]:
    """Return the worker's share of its command line."""
    return ("--connector", name, "--url", url)
