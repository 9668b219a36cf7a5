"""The kit that an author of a connector uses, on ours: every check is made and good."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from orchestrator.connectors.bigquery import BigQueryConnector, BigQueryMeta
from orchestrator.connectors.bigquery._states import REASONS, STATES, phase_of
from orchestrator.testing import check_connector
from tests.connectors.bigquery.accounts import service_account
from tests.connectors.bigquery.kit import task

if TYPE_CHECKING:
    import pytest
    from flyteidl2.core.execution_pb2 import TaskExecution

    from orchestrator.connectors.bigquery._job import Plan
    from tests.emulators import Running


def phase(state: tuple[str, str | None]) -> TaskExecution.Phase:
    """Return the phase of a state and a reason."""
    return phase_of(*state)


STATES_AND_REASONS = [
    *((state, None) for state in STATES.table),
    *(("DONE", reason) for reason in REASONS),
]


class Forgetful(BigQueryConnector):
    """Sends no token as job id: what Flyte's plugin does."""

    _ids = itertools.count()

    def _create(self, plan: Plan, secret: str | None) -> BigQueryMeta:
        chosen = f"{plan.token}-{next(self._ids)}"
        return super()._create(dataclasses.replace(plan, token=chosen), secret)


async def test_without_the_token_as_job_id_there_are_second_jobs(
    service: Running,
) -> None:
    """The witness sees what the promise is worth without its mechanism."""
    connector = Forgetful(endpoint=service.url)
    report = await check_connector(
        connector,
        task("SELECT 1 /* sleep=0.05 */"),
        count_jobs=service.count,
        crash_points=("create.after_call",),
    )
    connector.close()
    failed = [check.name for check in report.failed]
    assert failed == ["create_is_idempotent", "crash at create.after_call"]


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
