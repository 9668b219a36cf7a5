"""Queries through Snowflake's client: submitted, followed, found, cancelled, read."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors.snowflake import SnowflakeConnector, _history, read
from orchestrator.errors import (
    ConfigurationError,
    PermanentError,
    ResourceGoneError,
    TransientError,
)
from orchestrator.io import DataFrame
from orchestrator.testing import State
from tests.connectors.measures import measured
from tests.connectors.snowflake.kit import Attempt, attempt, tell

if TYPE_CHECKING:
    from tests.emulators import Running

UNKNOWN = "00000000-0000-0000-0000-000000000000"


async def ended(connector: SnowflakeConnector, one: Attempt) -> Any:
    """Run *one* and return what is told of it."""
    return await connector.get(await one.create(connector))


async def rows(connector: SnowflakeConnector, one: Attempt, form: Any = "rows") -> Any:
    """Run *one* and return its rows."""
    told = await ended(connector, one)
    reference = told.outputs["results"]
    return await asyncio.to_thread(read, reference, form, endpoint=connector.endpoint)


async def test_a_query_runs_and_tells_what_it_cost(
    service: Running, connector: SnowflakeConnector
) -> None:
    """Status, history, link and the reference to its rows."""
    one = attempt("SELECT 1 AS one")
    meta = await one.create(connector)
    told = await connector.get(meta)
    assert told.phase == TaskExecution.SUCCEEDED
    assert told.outputs == {
        "results": DataFrame(
            f"snowflake://RUNNER/shop-main/SMALL/SHOP/PUBLIC/{meta.query_id}"
        )
    }
    info = told.custom_info or {}
    assert (info["status"], info["query_id"]) == ("SUCCESS", meta.query_id)
    assert (info["rows_produced"], info["warehouse_size"]) == (1, "X-Small")
    assert (await measured(connector, meta))["rows_produced"] == 1
    assert told.log_links is not None
    (link,) = told.log_links
    assert link.uri == (
        "https://app.snowflake.com/shop/main/#/compute/history/queries/"
        f"{meta.query_id}/detail"
    )
    assert service.count(one.token) == 1


async def test_statistics_are_asked_for_only_if_they_are_wanted(
    service: Running,
) -> None:
    """They are a query of their own, on the task's warehouse."""
    connector = SnowflakeConnector(endpoint=service.url, statistics=False)
    meta = await attempt().create(connector)
    before = sum(service.calls("find").values())
    told = await connector.get(meta)
    connector.close()
    assert told.phase == TaskExecution.SUCCEEDED
    assert sum(service.calls("find").values()) == before
    assert "rows_produced" not in (told.custom_info or {})


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("RUNNING", TaskExecution.RUNNING),
        ("BLOCKED", TaskExecution.RUNNING),
        ("QUEUED", TaskExecution.QUEUED),
        ("RESUMING_WAREHOUSE", TaskExecution.INITIALIZING),
        ("QUEUED_REPARING_WAREHOUSE", TaskExecution.INITIALIZING),
        ("RESTARTED", TaskExecution.RUNNING),
        ("ABORTING", TaskExecution.RUNNING),
        ("ABORTED", TaskExecution.ABORTED),
        ("FAILED_WITH_INCIDENT", TaskExecution.RETRYABLE_FAILED),
        ("DISCONNECTED", TaskExecution.RETRYABLE_FAILED),
        ("SOMETHING_NEW", TaskExecution.UNDEFINED),
    ],
)
async def test_every_status_has_its_phase_on_the_way_through_the_client(
    connector: SnowflakeConnector, word: str, phase: TaskExecution.Phase
) -> None:
    """One that nobody has heard of is no news."""
    told = await ended(connector, attempt(f"SELECT 1 /* sleep=600 status={word} */"))
    assert told.phase == phase
    unknown = "unknown state 'SOMETHING_NEW', polled on"
    shown = unknown if phase == TaskExecution.UNDEFINED else word
    assert (told.message or "").startswith(shown)


@pytest.mark.parametrize(
    ("code", "phase"),
    [
        ("100038", TaskExecution.FAILED),
        ("000630", TaskExecution.FAILED),
        ("000603", TaskExecution.RETRYABLE_FAILED),
        ("000604", TaskExecution.ABORTED),
    ],
)
async def test_a_failed_query_fails_by_its_code(
    connector: SnowflakeConnector, code: str, phase: TaskExecution.Phase
) -> None:
    """The service's text and code are told."""
    told = await ended(connector, attempt(f"SELECT 1 /* fail={code} */"))
    assert told.phase == phase
    assert "failed as scripted" in str(told.message)
    assert (told.custom_info or {})["error_code"] == int(code)


async def test_a_query_is_cancelled_once_and_get_sees_its_end(
    service: Running, connector: SnowflakeConnector
) -> None:
    """Again it changes nothing; one that has succeeded stays so."""
    one = attempt("SELECT 1 /* sleep=600 */")
    meta = await one.create(connector)
    await connector.delete(meta)
    await connector.delete(meta)
    told = await connector.get(meta)
    assert told.phase == TaskExecution.ABORTED
    assert [job.state for job in service.jobs(one.token)] == [State.ABORTED]
    done = await attempt().create(connector)
    assert (await connector.get(done)).phase == TaskExecution.SUCCEEDED
    await connector.delete(done)
    assert (await connector.get(done)).phase == TaskExecution.SUCCEEDED


async def test_what_is_unknown_is_gone(connector: SnowflakeConnector) -> None:
    """To get, by history and monitoring both, and to delete."""
    meta = await attempt().create(connector)
    meta.query_id = UNKNOWN
    with pytest.raises(ResourceGoneError):
        await connector.get(meta)
    with pytest.raises(ResourceGoneError):
        await connector.delete(meta)


async def test_sql_that_cannot_be_compiled_ends_the_attempt(
    connector: SnowflakeConnector,
) -> None:
    """Version 4 of the client says so at once, 5 tells an id, whose query failed."""
    one = attempt("SELEC 1")
    try:
        told = await ended(connector, one)
    except PermanentError as error:
        assert "001003" in str(error)  # noqa: PT017 - one of two good ends
    else:
        assert told.phase == TaskExecution.FAILED
        assert (told.custom_info or {})["error_code"] == 1003


async def test_a_query_is_found_by_its_tag(
    service: Running, connector: SnowflakeConnector
) -> None:
    """Also one that has ended; of a token that nobody used there is none."""
    for text in ("SELECT 1", "SELECT 1 /* sleep=600 */"):
        one = attempt(text)
        assert await one.find(connector) is None
        meta = await one.create(connector)
        assert await one.find(connector) == meta
        assert service.count(one.token) == 1


async def test_a_history_that_is_too_long_proves_nothing(
    connector: SnowflakeConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the part that is shown is found all the same."""
    monkeypatch.setattr(_history, "LIMIT", 3)
    old = attempt("SELECT 'old'")
    await old.create(connector)
    newer = [attempt() for _ in range(3)]
    metas = [await one.create(connector) for one in newer]
    assert [await one.find(connector) for one in newer] == metas
    with pytest.raises(TransientError, match="there may be one before"):
        await old.find(connector)


async def test_another_endpoint_is_not_asked_about_a_query(
    connector: SnowflakeConnector,
) -> None:
    """It would take it for gone."""
    meta = await attempt().create(connector)
    meta.endpoint = ""
    for call in (connector.get, connector.delete):
        with pytest.raises(TransientError, match="is at Snowflake"):
            await call(meta)


async def test_inputs_are_parameters_that_the_client_quotes(
    connector: SnowflakeConnector,
) -> None:
    """No text can end the literal that it stands in."""
    values = {
        "text": 'it\'s\\ 100%, "so" ; -- /* x */',
        "n": -3,
        "x": 0.5,
        "yes": True,
        "raw": b"\x00\xff",
        "exact": Decimal("1.50"),
        "day": date(2024, 2, 29),
        "at": datetime(2024, 2, 29, 12, tzinfo=UTC),
        "hour": time(12, 30),
        "none": None,
        "many": [1, 2],
    }
    inputs = {name: type(value) for name, value in values.items()}
    inputs |= {"none": str | None, "many": list[int]}  # type: ignore[dict-item]
    marks = ", ".join(f"%({n})s AS {n}" for n in values if n != "many")
    query = f"SELECT {marks}, 2 IN (%(many)s) AS found, '%%' AS percent"
    (row,) = await rows(connector, attempt(query, inputs, values))
    assert row["TEXT"] == values["text"]
    assert (row["N"], row["X"], row["FOUND"], row["PERCENT"]) == (-3, 0.5, 1, "%")
    assert row["NONE"] is None
    assert bytes(row["RAW"]) == b"\x00\xff"
    assert (row["DAY"], row["HOUR"]) == ("2024-02-29", "12:30:00")
    assert str(row["AT"]).startswith("2024-02-29")


async def test_a_batch_is_one_statement_with_all_rows(
    connector: SnowflakeConnector,
) -> None:
    """Other text stays as it is."""
    one = attempt(
        "SELECT * FROM (VALUES (%(a)s, 'x%%', %(b)s))",
        {"a": list[int], "b": list[str]},
        {"a": [1, 2], "b": ["p", "q"]},
        batch=True,
    )
    found = [list(row.values()) for row in await rows(connector, one)]
    assert found == [[1, "x%", "p"], [2, "x%", "q"]]


async def test_rows_come_as_arrow_or_dicts(connector: SnowflakeConnector) -> None:
    """All of them."""
    one = attempt("SELECT 7 AS n, 'a' AS t, NULL AS x /* rows=2500 */")
    table = await rows(connector, one, "arrow")
    assert (table.num_rows, table.column_names) == (2500, ["N", "T", "X"])
    again = await rows(connector, attempt("SELECT 7 AS n /* rows=2 */"))
    assert again == [{"N": 7}] * 2


def test_nothing_to_read_is_said(service: Running) -> None:
    """A result that is gone, a reference of another kind, a form that is unknown."""
    uri = f"snowflake://u/a/w/d/s/{UNKNOWN}"
    with pytest.raises(ResourceGoneError):
        read(uri, "rows", endpoint=service.url)
    with pytest.raises(ConfigurationError, match="no snowflake://"):
        read(DataFrame("s3://bucket/table"))
    with pytest.raises(ConfigurationError, match="none of arrow"):
        read(uri, "csv")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no account identifier"):
        read(f"snowflake://u/a%2F.evil.example/w/d/s/{UNKNOWN}")


async def test_a_restart_of_the_service_does_not_end_a_query(
    service: Running, connector: SnowflakeConnector
) -> None:
    """Sessions and tokens that are gone are replaced, and never taken for an end."""
    one = attempt("SELECT 1 /* sleep=600 */")
    meta = await one.create(connector)
    for end in ("token", "session"):
        for again in (connector.get(meta), one.find(connector)):
            tell(service, "/-/sessions", {"end": end})
            found: Any = await again
            assert getattr(found, "phase", TaskExecution.RUNNING) == (
                TaskExecution.RUNNING
            )
        tell(service, "/-/sessions", {"end": end})
        other = attempt()
        await other.create(connector)
        assert service.count(other.token) == 1
    tell(service, "/-/sessions", {"end": "session"})
    await connector.delete(meta)
    assert (await connector.get(meta)).phase == TaskExecution.ABORTED
