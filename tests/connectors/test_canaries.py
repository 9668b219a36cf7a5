"""No secret of any connector stays anywhere, whatever its service quotes.

Each connector of ``tests.connectors.canaries`` runs jobs that succeed, fail and are
refused, with canaries as secrets, before a service that quotes them in every text.
Then they are searched for in the database's files, in what the API returns, in files
of ours, and in logs at DEBUG: by default in our own; in those of everybody, the
vendors' libraries included, where the program's handler carries a RedactingFilter.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator import Config, Orchestrator, Registry
from orchestrator.connectors.snowflake import _sessions
from orchestrator.errors import ExecutionFailedError
from orchestrator.testing._check._canaries import Logs
from tests.api.project import ROOT
from tests.connectors.canaries import CASES, QUICK, Bench
from tests.crash.canaries import redact_nothing, traces, traces_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator import Handle

LIMIT = timedelta(seconds=20)


# One of each way that a service can quote.
ONE_OF_EACH = (
    "process",
    "http_bearer",
    "bigquery",
    "databricks_oauth",
    "snowflake_password",
    "remote",
)


@pytest.fixture(params=CASES)
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Start a case."""
    with ExitStack() as stack:
        made = stack.enter_context(CASES[request.param](tmp_path))
        for name, value in made.environ.items():
            monkeypatch.setenv(name, value)
        made.connector.policy = QUICK
        yield made


async def told(orch: Orchestrator, handle: Handle) -> list[str]:
    """Return all that the API says of an execution, as text."""
    execution = await handle.get()
    said = [f"execution: {execution!r}", f"history: {await orch.history(handle.id)!r}"]
    said.append(f"jobs: {await orch.jobs(handle.id)!r}")
    try:
        said.append(f"result: {await handle.result()!r}")
    except ExecutionFailedError as error:
        said.append(f"error: {error} {error!r}")
    try:
        said += [f"log: {line}" async for line in orch.logs(handle.id)]
    except Exception as error:  # noqa: BLE001 - a connector without logs
        said.append(f"error of logs: {error} {error!r}")
    return said


class Unfiltered(Logs):
    """Keeps what is logged, as a handler has it that was told nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.filters.clear()


async def lived(bench: Bench, folder: Path) -> list[str]:
    """Run the rounds; return every text that was said or logged meanwhile."""
    registry, asked, default = Registry(), Logs(), Unfiltered()
    registry.register(bench.connector)
    said: list[str] = []
    # The default comes first: it sees records that no other handler has redacted.
    with default.kept(), asked.kept():
        async with Orchestrator(
            folder / "jobs.db", config=Config(), registry=registry
        ) as orch:
            for turn in bench.rounds:
                turn.arrange()
                handle = await orch.submit(turn.task, turn.inputs)
                ended = await handle.wait(LIMIT)
                assert ended.phase == turn.ends, ended
                said += await told(orch, handle)
            said.append(f"stuck: {await orch.stuck()!r}")
            # With its -wal and -shm, which are gone when it is closed.
            found = await asyncio.to_thread(stored, folder)
    own = [line for line in default.lines if line.startswith("orchestrator")]
    said += [f"log of {line}" for line in (*asked.lines, *own)]
    return said + [f"file: {line}" for line in found]


def stored(folder: Path) -> list[str]:
    """Return where in the database's files a canary stands."""
    return traces_in(folder.glob("jobs.db*"))


def found_in(bench: Bench, said: list[str], folder: Path) -> list[str]:
    """Return where a canary was found."""
    found = [line[6:] for line in said if line.startswith("file: ")]
    for text in said:
        found += traces(text[:150], text.encode(errors="replace"))
    found += stored(folder)
    files = [p for f in bench.folders for p in f.rglob("*") if p.is_file()]
    return found + traces_in(p for p in files if p.name not in bench.allowed)


async def test_no_canary_stays_anywhere(bench: Bench, tmp_path: Path) -> None:
    """Not a half of one either, where a text was cut."""
    said = await lived(bench, tmp_path)
    assert not "\n".join(await asyncio.to_thread(found_in, bench, said, tmp_path))


@pytest.mark.parametrize("bench", ONE_OF_EACH, indirect=True)
async def test_without_redaction_the_search_finds_them(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The services do quote, and the search sees it: in rows, and in what is said."""
    redact_nothing(monkeypatch.setattr)
    said = await lived(bench, tmp_path)
    found = "\n".join(await asyncio.to_thread(found_in, bench, said, tmp_path))
    assert "in jobs.db" in found
    assert "in execution:" in found


@pytest.mark.parametrize("bench", ["snowflake_key"], indirect=True)
async def test_a_token_that_the_client_made_is_found_as_well(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows it, so it is told by its looks: switched off, it is everywhere."""
    monkeypatch.setattr(_sessions, "login", nullcontext)
    said = await lived(bench, tmp_path)
    found = "\n".join(await asyncio.to_thread(found_in, bench, said, tmp_path))
    assert "a signed token, in jobs.db" in found


def test_every_connector_has_a_case() -> None:
    """One that is not listed is not searched."""
    built_in = {
        path.parent.name for path in ROOT.glob("orchestrator/connectors/*/__init__.py")
    }
    assert {name.partition("_")[0] for name in CASES} == built_in | {"remote"}
