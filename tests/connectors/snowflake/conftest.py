"""One stand-in for all tests of the connector; each has tokens of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator.connectors.snowflake import SnowflakeConnector
from tests.emulators import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_questions_to_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Snowflake's client from asking which cloud this machine is in."""
    monkeypatch.setenv("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run the stand-in."""
    ledger = tmp_path_factory.mktemp("snowflake") / "ledger.db"
    with running("snowflake", ledger) as service:
        yield service


@pytest.fixture
def service(stand_in: Running) -> Iterator[Running]:
    """Return the stand-in; the test's rules end with it."""
    yield stand_in
    stand_in.script()


@pytest.fixture
def connector(service: Running) -> Iterator[SnowflakeConnector]:
    """Make a connector to the stand-in."""
    made = SnowflakeConnector(endpoint=service.url, timeout=timedelta(seconds=1))
    yield made
    made.close()
