"""The kit that an author of a connector uses, on ours: every check is made and good."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator._config import Policy
from orchestrator.connectors.snowflake import SnowflakeConnector, SnowflakeMeta
from orchestrator.connectors.snowflake._states import CODES, STATES, phase_of
from orchestrator.testing import check_connector
from tests.connectors.snowflake.kit import task

if TYPE_CHECKING:
    import pytest
    from flyteidl2.core.execution_pb2 import TaskExecution

    from orchestrator.connectors.snowflake._place import Place
    from orchestrator.connectors.snowflake._sessions import Credentials
    from tests.emulators import Running

STATES_AND_CODES = [
    *((state, None) for state in STATES.table),
    *(("FAILED_WITH_ERROR", code) for code in (*CODES, 1003)),
]


def phase(state: tuple[str, int | None]) -> TaskExecution.Phase:
    """Return the phase of a status and an error code."""
    return phase_of(*state)


def quick(connector: SnowflakeConnector) -> SnowflakeConnector:
    """Let *connector* believe the stand-in's history at once."""
    connector.policy = Policy(find_settle=timedelta(milliseconds=100))
    return connector


class Forgetful(SnowflakeConnector):
    """Sends no token as query tag: what Flyte's plugin does."""

    def _create(
        self,
        place: Place,
        text: str,
        values: dict[str, object] | None,
        token: str,
        credentials: Credentials,
    ) -> str:
        text += f" /* {token} */"
        return super()._create(place, text, values, "", credentials)


async def test_without_the_token_as_tag_no_query_is_found(service: Running) -> None:
    """The witness and the kit see what the promise is worth without its mechanism."""
    connector = quick(Forgetful(endpoint=service.url))
    report = await check_connector(
        connector,
        task("SELECT 1 /* sleep=0.05 */"),
        crash_points=("create.after_call",),
    )
    connector.close()
    assert "find" in [check.name for check in report.failed]


async def test_the_connector_keeps_its_promises(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens, crashes at each point, deleting, finding, states, secrets, the loop."""
    made: list[SnowflakeConnector] = []

    def make() -> SnowflakeConnector:
        made.append(quick(SnowflakeConnector(endpoint=service.url)))
        return made[-1]

    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "a password of 32 characters, not")
    report = await check_connector(
        make,
        task(
            "SELECT %(n)s AS n /* sleep=%(s)s */",
            {"n": int, "s": float},
            snowflake_password="SNOWFLAKE_PASSWORD",  # noqa: S106 - a variable
        ),
        {"n": 1, "s": 0.05},
        long_inputs={"s": 600.0},
        count_jobs=service.count,
        states=STATES_AND_CODES,
        map_state=phase,
    )
    for connector in made:
        connector.close()
    assert report.ok, str(report)
    unchecked = [c.name for c in report.checks if c.outcome != "ok"]
    assert unchecked == ["create_is_idempotent"], str(report)


def test_a_handle_survives_the_database() -> None:
    """With all that is needed to ask about the query."""
    meta = SnowflakeMeta("q", "a", "u", "d", "s", "w", {"role": "R"}, "", ["results"])
    assert SnowflakeMeta.decode(meta.encode()) == meta
