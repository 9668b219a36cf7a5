"""The kit that an author of a connector uses, on ours: every check is made and good."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._config import Policy
from orchestrator.connectors.databricks import DatabricksConnector, _body
from orchestrator.connectors.databricks._states import (
    CODES,
    RESULTS,
    STATES,
    TYPES,
    phase_of,
)
from orchestrator.testing import check_connector
from tests.connectors.databricks.kit import PAT, notebook, task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.emulators import Running

QUICK = Policy(find_settle=timedelta(seconds=0.2))
KEY: dict[str, Any] = {"databricks_token": "DATABRICKS_KEY"}
TASK = task(
    notebook(sleep="{{.inputs.s}}", output="done"),
    {"s": float},
    {"result": str},
    **KEY,
)


def ended(result: str | None, code: str, kind: str = "CLIENT_ERROR") -> dict[str, Any]:
    """Return a run that has ended, as ``runs/get`` shows it."""
    details = {"code": code, "type": kind}
    old = {"life_cycle_state": "TERMINATED", "result_state": result}
    new = {"state": "TERMINATED", "termination_details": details}
    return {"state": old, "status": new} if result else {"status": new}


DOCUMENTED = [
    *({"state": {"life_cycle_state": state}} for state in STATES.table),
    *({"status": {"state": state}} for state in STATES.table),
    *(ended(result, "RUN_EXECUTION_ERROR") for result in RESULTS),
    *(ended("FAILED", code) for code in CODES),
    *(ended(None, code) for code in CODES),
    *(ended(None, "NEW_CODE", kind) for kind in TYPES),
]


@pytest.fixture
def made(service: Running) -> Iterator[list[DatabricksConnector]]:
    """Close what the kit has made."""
    del service
    connectors: list[DatabricksConnector] = []
    yield connectors
    for connector in connectors:
        connector.close()


@pytest.mark.parametrize("forgets", [False, True], ids=["remembers", "forgets"])
async def test_the_connector_keeps_its_promises(
    service: Running,
    made: list[DatabricksConnector],
    monkeypatch: pytest.MonkeyPatch,
    forgets: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Also at a service that forgets a token when its run ends: runs are searched."""

    def make() -> DatabricksConnector:
        connector = DatabricksConnector(host=service.url)
        connector.policy = QUICK
        made.append(connector)
        return connector

    monkeypatch.setenv("DATABRICKS_KEY", PAT)
    service.tell("/-/forget", {"ended": forgets})
    report = await check_connector(
        make,
        TASK,
        {"s": 0.05},
        long_inputs={"s": 600.0},
        count_jobs=service.count,
        states=DOCUMENTED,
        map_state=phase_of,
    )
    assert report.ok, str(report)
    unchecked = [c.name for c in report.checks if c.outcome != "ok"]
    assert unchecked == ["create_is_idempotent"]


async def test_without_the_token_in_the_name_there_are_second_runs(
    service: Running, made: list[DatabricksConnector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The witness sees what the promise is worth without its mechanism."""
    monkeypatch.setattr(_body, "run_name", lambda name, _: name)
    monkeypatch.setenv("DATABRICKS_KEY", PAT)
    service.tell("/-/forget", {"ended": True})
    connector = DatabricksConnector(host=service.url)
    connector.policy = QUICK
    made.append(connector)
    report = await check_connector(
        connector,
        TASK,
        {"s": 0.0},
        long_inputs={"s": 600.0},
        count_jobs=service.count,
        crash_points=("create.after_call",),
    )
    failed = [check.name for check in report.failed]
    assert failed == ["find", "crash at create.after_call"]


@pytest.mark.parametrize("forgets", [False, True], ids=["remembers", "forgets"])
async def test_a_repeated_create_is_as_good_as_the_services_memory(
    service: Running,
    made: list[DatabricksConnector],
    monkeypatch: pytest.MonkeyPatch,
    forgets: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Why ``remembers`` is not set by default: there would be second runs."""
    connector = DatabricksConnector(host=service.url, remembers=timedelta(hours=1))
    made.append(connector)
    monkeypatch.setenv("DATABRICKS_KEY", PAT)
    service.tell("/-/forget", {"ended": forgets})
    report = await check_connector(
        connector,
        TASK,
        {"s": 0.0},
        long_inputs={"s": 600.0},
        count_jobs=service.count,
        crash_points=("create.after_call",),
    )
    failed = [check.name for check in report.failed]
    expected = ["create_is_idempotent", "crash at create.after_call"]
    assert failed == (expected if forgets else [])
