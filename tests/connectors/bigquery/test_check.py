"""The kit that an author of a connector uses, on ours: every check is made and good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.connectors.bigquery import BigQueryConnector
from orchestrator.connectors.bigquery._states import REASONS, STATES, phase_of
from orchestrator.testing import check_connector
from tests.connectors.bigquery.accounts import service_account
from tests.connectors.bigquery.kit import task

if TYPE_CHECKING:
    import pytest
    from flyteidl2.core.execution_pb2 import TaskExecution

    from tests.emulators import Running


def phase(state: tuple[str, str | None]) -> TaskExecution.Phase:
    """Return the phase of a state and a reason."""
    return phase_of(*state)


STATES_AND_REASONS = [
    *((state, None) for state in STATES.table),
    *(("DONE", reason) for reason in REASONS),
]


async def test_the_connector_keeps_its_promises(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens, crashes at each point, deleting, states, secrets, the event loop."""
    account = service_account(service.url)
    made: list[BigQueryConnector] = []

    def make() -> BigQueryConnector:
        made.append(BigQueryConnector(endpoint=service.url))
        return made[-1]

    monkeypatch.setenv("BIGQUERY_KEY", account)
    report = await check_connector(
        make,
        task(
            "SELECT @n AS n /* sleep=@s */",
            {"n": int, "s": float},
            google_application_credentials="BIGQUERY_KEY",
        ),
        {"n": 1, "s": 0.05},
        long_inputs={"s": 600.0},
        count_jobs=service.count,
        states=STATES_AND_REASONS,
        map_state=phase,
    )
    for connector in made:
        connector.close()
    assert report.ok, str(report)
    unchecked = [c.name for c in report.checks if c.outcome != "ok"]
    assert unchecked == ["find", "find_unknown", "crash at find.after_call"]
    assert not service.witness.duplicates()
