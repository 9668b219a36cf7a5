"""The process connector for its tests; each vendor's folder has its own connector."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from orchestrator.connectors.process import ProcessConnector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def connector(tmp_path: Path) -> Iterator[ProcessConnector]:
    """Make a connector with an empty root."""
    with closing(ProcessConnector(tmp_path / "jobs")) as made:
        yield made
