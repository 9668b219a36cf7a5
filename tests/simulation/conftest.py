"""What the tests of the simulation share: an empty database, migrated once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.simulation.run import memory_folder, migrated

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def empty() -> Iterator[Path]:
    """Return a migrated, empty database to copy."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        yield migrated(Path(folder))
