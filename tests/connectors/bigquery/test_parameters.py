"""Inputs as query parameters: types, values, NULLs, and what is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from orchestrator.connectors.bigquery import BigQueryConnector, read
from orchestrator.connectors.bigquery._job import Plan
from orchestrator.connectors.bigquery._parameters import parameter, text_of, type_of
from orchestrator.errors import ConfigurationError, PermanentError
from tests.connectors.bigquery.kit import Attempt, attempt, task

if TYPE_CHECKING:
    from tests.emulators import Running

MOMENT = datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC)

# name: type, BigQuery's type if it is not the default one, value, what comes back
SENT: dict[str, tuple[Any, str | None, Any, Any]] = {
    "int64": (int, None, -(2**63), -(2**63)),
    "float64": (float, None, 0.1, 0.1),
    "inf": (float, None, float("inf"), float("inf")),
    "bool_": (bool, None, True, True),
    "string": (str, None, "Ä'; --\n", "Ä'; --\n"),
    "bytes_": (bytes, None, b"\x00\xff", b"\x00\xff"),
    "day": (date, None, date(2024, 2, 29), date(2024, 2, 29)),
    "at": (datetime, None, MOMENT, MOMENT),
    "local": (datetime, "datetime", MOMENT, MOMENT.replace(tzinfo=None)),
    "clock": (time, None, time(1, 2, 3, 4), time(1, 2, 3, 4)),
    "exact": (Decimal, None, Decimal("1.000000001"), Decimal("1.000000001")),
    "big": (str, "BIGNUMERIC", "1e-38", Decimal("1e-38")),
    "doc": (dict[str, int], "JSON", {"a": 1}, {"a": 1}),
    "place": (str, "GEOGRAPHY", "POINT(1 2)", "POINT(1 2)"),
    "choice": (Literal["a", "b"], None, "a", "a"),
    "noted": (Annotated[int, "a note"], None, 7, 7),
    "null_int": (int | None, None, None, None),
    "null_day": (date | None, None, None, None),
    "ints": (list[int], None, [1, 2], [1, 2]),
    "none_of_them": (list[str], None, [], []),
    "floats": (list[float], None, [0.5], [0.5]),
    "flags": (list[bool], None, [True, False], [True, False]),
    "texts": (list[str], None, ["a", "b"], ["a", "b"]),
    "blobs": (list[bytes], None, [b"\x00"], [b"\x00"]),
    "days": (list[date], None, [date(2024, 1, 1)], [date(2024, 1, 1)]),
    "times": (list[datetime], None, [MOMENT], [MOMENT]),
    "sums": (list[Decimal], "ARRAY<NUMERIC>", [Decimal(3)], [Decimal(3)]),
}


@pytest.fixture
def all_types() -> Attempt:
    """Make the attempt off the event loop: pydantic's first use reads files."""
    query = "SELECT " + ", ".join(f"@{name} AS {name}" for name in SENT)
    return attempt(
        query,
        {name: kind for name, (kind, *_) in SENT.items()},
        {name: value for name, (_, _, value, _) in SENT.items()},
        parameter_types={n: own for n, (_, own, *_) in SENT.items() if own},
    )


async def test_every_type_arrives_as_it_was_sent(
    service: Running, connector: BigQueryConnector, all_types: Attempt
) -> None:
    """All types in one query, and its rows read with Google's own client."""
    meta = await all_types.create(connector)
    told = await connector.get(meta)
    assert told.outputs, told.message
    outputs: Any = told.outputs
    results = outputs["results"]
    (row,) = await asyncio.to_thread(read, results, "rows", endpoint=service.url)
    assert row == {name: back for name, (*_, back) in SENT.items()}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT64", True),
        ("INT64", 2**63),
        ("INT64", "1"),
        ("FLOAT64", "1"),
        ("BOOL", 1),
        ("STRING", 1),
        ("BYTES", "text"),
        ("NUMERIC", Decimal("1e-10")),
        ("NUMERIC", Decimal("1e29")),
        ("NUMERIC", Decimal("NaN")),
        ("NUMERIC", "one"),
        ("DATE", 1),
        ("DATE", "tomorrow"),
        ("TIMESTAMP", datetime(2024, 1, 1)),  # noqa: DTZ001 - what is refused
        ("TIMESTAMP", date(2024, 1, 1)),
        ("TIME", time(1, tzinfo=UTC)),
        ("JSON", "{"),
        ("ARRAY<INT64>", 1),
        ("ARRAY<INT64>", [None]),
        ("ARRAY<INT64>", ["1"]),
        ("ARRAY<INT64>", None),
    ],
)
def test_a_value_that_is_none_of_its_type_is_refused(kind: str, value: Any) -> None:
    """Nothing is rounded, cut or guessed."""
    with pytest.raises(ValueError, match=r"\w"):
        parameter("p", kind, value)


def test_numbers_and_moments_are_written_as_bigquery_reads_them() -> None:
    """Exactly, in UTC, with all digits."""
    east = timezone(timedelta(hours=2))
    assert text_of("TIMESTAMP", datetime(900, 1, 1, 2, tzinfo=east)) == (
        "0900-01-01 00:00:00.000000+00:00"
    )
    assert text_of("DATETIME", "2024-01-01T01:00:00+02:00") == (
        "2023-12-31T23:00:00.000000"
    )
    assert text_of("NUMERIC", Decimal("1E+3")) == "1000"
    assert text_of("NUMERIC", 0.1) == "0.1"
    assert text_of("NUMERIC", Decimal("9" * 29 + "." + "9" * 9)) == (
        "9" * 29 + "." + "9" * 9
    )
    assert text_of("FLOAT64", float("nan")) == "nan"
    assert text_of("DATE", MOMENT) == "2024-02-29"


@pytest.mark.parametrize(
    "declared",
    [
        dict[str, int],
        timedelta,
        Any,
        int | str,
        list[list[int]],
        list[int | None],
        list[int] | None,
        list[Any],
        Literal[1],
    ],
)
def test_a_type_without_a_counterpart_is_refused_when_declared(declared: Any) -> None:
    """Where ``parameter_types`` can still say what is meant."""
    assert type_of(declared) is None
    with pytest.raises(ConfigurationError, match="parameter_types"):
        task("SELECT @x", {"x": declared})


async def test_an_input_that_cannot_be_sent_ends_the_create(
    service: Running, connector: BigQueryConnector
) -> None:
    """With its name, and without a job."""
    one = attempt("SELECT @x", {"x": Decimal}, {"x": Decimal("1e-10")})
    with pytest.raises(PermanentError, match="input 'x'"):
        await one.create(connector)
    assert service.count(one.token) == 0


def test_a_template_of_flytes_own_task_is_understood() -> None:
    """It has no types: they are its plugin's, where a datetime is a DATETIME."""
    one = attempt("SELECT @a, @b", {"a": int, "b": datetime}, {"a": 1, "b": MOMENT})
    one.template.custom.fields.pop("QueryParameterTypes")
    one.template.custom.update({"Domain": "development", "priority": "BATCH"})
    plan = Plan.of(one.template, one.inputs, one.metadata, "")
    query = plan.configuration["query"]
    kinds = [p["parameterType"]["type"] for p in query["queryParameters"]]
    assert kinds == ["INT64", "DATETIME"]
    assert query["priority"] == "BATCH"
    assert "Domain" not in query
    one.template.custom.update({"Location": None})
    with pytest.raises(ValueError, match="Location must be named"):
        Plan.of(one.template, one.inputs, one.metadata, "")
