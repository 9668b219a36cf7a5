"""One stand-in for all tests of the connector; each has tokens of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.connectors.databricks import DatabricksConnector
from tests.emulators import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run the stand-in."""
    ledger = tmp_path_factory.mktemp("databricks") / "ledger.db"
    with running("databricks", ledger) as service:
        yield service


@pytest.fixture
def service(stand_in: Running) -> Iterator[Running]:
    """Return the stand-in; the test's rules end with it."""
    yield stand_in
    stand_in.script()
    stand_in.tell("/-/forget", {"ended": False})


@pytest.fixture
def connector(service: Running) -> Iterator[DatabricksConnector]:
    """Make a connector to the stand-in."""
    made = DatabricksConnector(host=service.url)
    yield made
    made.close()
