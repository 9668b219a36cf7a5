"""Secrets reach the calls as keyword arguments, and nothing else anywhere."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
    GetTaskMetricsResponse,
)
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Secret
from orchestrator._clock import SystemClock
from orchestrator._config import Config
from orchestrator.connectors import ConnectorSecretsMixin, Resource
from orchestrator.errors import ConnectorError, ThrottledError
from tests.engine.kit import (
    DEADLINE_S,
    DONE,
    FAILED,
    RUNNING,
    Clock,
    Script,
    a_task,
    registry_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from orchestrator import Orchestrator, SecretReference

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block

CANARY = "c4nary/s3cret+value=="
FORMS = (CANARY, quote(CANARY, safe=""), base64.b64encode(CANARY.encode()).decode())


class SecretScript(ConnectorSecretsMixin, Script):
    """A script with a secret of its own."""

    def __init__(self, **answers: Any) -> None:
        """Name the variable that has the value."""
        super().__init__(secrets={"api_key": "CANARY_VARIABLE"}, **answers)


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variable."""
    monkeypatch.setenv("CANARY_VARIABLE", CANARY)


def _clean(text: str) -> None:
    for form in FORMS:
        assert form not in text


def _clean_files(path: Path) -> None:
    """Search every byte of the database, its WAL and its lock files."""
    for file in path.parent.iterdir():
        data = file.read_bytes()
        for form in FORMS:
            assert form.encode() not in data, f"{form} in {file.name}"


async def test_every_call_gets_the_value_by_keyword(
    engine: Start, clock: Clock, path: Path
) -> None:
    script = SecretScript(
        create=[ConnectionError("cut")], find=[None], get=RUNNING, delete_is_final=True
    )
    script.answers["create"] = [ConnectionError("cut"), None]
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(60, orchestrator)
    await handle.abort()
    await clock.until_ended(orchestrator, handle.id)
    called = {call for call, given in script.calls if given.get("api_key") == CANARY}
    assert called == {"create", "find", "get", "delete"}
    assert all(given["api_key"] == CANARY for _, given in script.calls)
    _clean_files(path)


async def test_what_quotes_a_secret_is_redacted_everywhere(
    engine: Start, clock: Clock, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages, errors, tracebacks: no table, WAL, log record or exception has it."""
    quoting = Resource(
        phase=TaskExecution.RUNNING,
        message=f"called with {FORMS[0]}",
        custom_info={"url": f"https://x/?key={FORMS[1]}"},
    )
    failed = Resource(phase=TaskExecution.FAILED, message=f"401 for {FORMS[2]}")
    script = SecretScript(
        create=[ConnectionError(f"cut at {FORMS[1]}"), None],
        create_is_idempotent=True,
        get=[quoting, ValueError(f"denied: {CANARY}"), quoting, failed],
    )
    caplog.set_level(logging.DEBUG)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.error_code == "REMOTE_FAILED"
    assert "***" in (ended.error_message or "")
    with pytest.raises(RuntimeError) as caught:
        await handle.result()
    _clean(str(caught.value))
    _clean(repr(caught.value.execution))  # type: ignore[attr-defined]
    for transition in await handle.history():
        _clean(repr(transition))
    for record in caplog.records:
        _clean(record.getMessage())
        _clean(str(record.__dict__.get("exc_text") or ""))
    assert caplog.records, "the log was looked at"
    _clean_files(path)
    await orchestrator.close()
    _clean_files(path)


async def test_a_step_that_breaks_logs_no_secret(
    engine: Start,
    clock: Clock,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bug of ours that quotes a value still shows it to nobody."""
    script = SecretScript(get=[RUNNING, DONE])
    orchestrator = await engine(script)

    def broken(*_: Any, **__: Any) -> None:
        raise AssertionError(f"our bug has {CANARY}")

    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    monkeypatch.setattr(orchestrator._engine.calls._answers, "_got", broken)
    caplog.set_level(logging.DEBUG)
    await clock.pass_(1, orchestrator)
    assert (await handle.get()).poll_errors == 1
    _clean(caplog.text)
    _clean_files(path)


async def test_a_secret_without_a_value_holds_and_names_the_variable(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt is burnt; when the variable is set, it goes on."""
    script = SecretScript()
    orchestrator = await engine(script)
    monkeypatch.delenv("CANARY_VARIABLE")
    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    held = await handle.get()
    assert (held.phase, held.hold) == ("QUEUED", "SECRET_UNRESOLVED")
    assert "CANARY_VARIABLE" in (held.last_error or "")
    assert script.number("create") == 0
    monkeypatch.setenv("CANARY_VARIABLE", CANARY)
    ended = await clock.until_ended(orchestrator, handle.id)
    assert (ended.phase, ended.attempt) == ("SUCCEEDED", 1)


async def test_the_tasks_own_references_win(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template's secrets go before the connector's."""
    monkeypatch.setenv("OTHER_VARIABLE", "the other value")
    script = SecretScript(get=FAILED)
    orchestrator = await engine(script)
    task = a_task(secrets=[Secret(key="api_key", as_env_var="OTHER_VARIABLE")])
    handle = await orchestrator.submit(task)
    await clock.until_ended(orchestrator, handle.id)
    assert {given["api_key"] for _, given in script.calls} == {"the other value"}


async def test_a_provider_that_hangs_delays_no_row_that_does_not_need_it(
    engine: Start,
) -> None:
    """In a thread of its own: a get in asyncio.to_thread goes on."""
    over, asked = threading.Event(), threading.Event()
    waiting: list[None] = []

    def hangs(_: SecretReference) -> str | None:
        waiting.append(None)
        if len(waiting) >= 6:
            asked.set()
        over.wait(10 * DEADLINE_S)
        return None

    async def get(**_: Any) -> Any:
        return await asyncio.to_thread(lambda: DONE)

    stuck, good = SecretScript(task_type="stuck"), Script("good", get=get)
    try:
        orchestrator = await engine(
            registry=registry_of(stuck, good),
            secrets=[hangs],
            clock=SystemClock(),
            config=Config(),
        )
        await orchestrator.submit_many(
            [(a_task(task_type="stuck"), {}) for _ in range(40)]
        )
        assert await asyncio.to_thread(asked.wait, DEADLINE_S)
        handle = await orchestrator.submit(a_task(task_type="good"))
        ended = await handle.wait(timeout=DEADLINE_S)
        assert ended.phase == "SUCCEEDED"
    finally:
        over.set()


@pytest.mark.parametrize("shown", [5, 15, 20])
async def test_no_part_of_a_secret_stays_where_a_text_is_cut(
    engine: Start, clock: Clock, shown: int
) -> None:
    """A terminal's colours inside of the value are removed; then it is cut in two."""
    kind = "ValueError: "
    cut = len(" … [shortened]")
    quoted = f"{CANARY[:-1]}\x1b[0m{CANARY[-1]}"
    text = "x" * (4000 - cut - len(kind) - shown) + quoted + " tail" * 20
    script = SecretScript(get=[ValueError(text), ValueError(text), DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(1, orchestrator)
    said = (await handle.get()).last_error or ""
    assert "xxx" in said
    assert CANARY[:5] not in said


# Logs and metrics


class Talks(SecretScript):
    """It has logs and metrics, or a problem with them, by a page or by pages."""

    said: tuple[str, ...] = ()
    problem: Exception | None = None
    by_pages = False

    async def _page(self) -> GetTaskLogsResponse:
        if self.problem is not None:
            raise self.problem
        return GetTaskLogsResponse(body=GetTaskLogsResponseBody(results=self.said))

    async def _pages(self) -> AsyncIterator[GetTaskLogsResponse]:
        yield GetTaskLogsResponse()
        yield await self._page()

    def get_logs(self, resource_meta: Any, **_: Any) -> Any:
        return self._pages() if self.by_pages else self._page()

    async def get_metrics(self, resource_meta: Any, **_: Any) -> GetTaskMetricsResponse:
        if self.problem is not None:
            raise self.problem
        said = GetTaskMetricsResponse()
        data = said.results.add(metric=f"of {CANARY}").data
        data.update({"n": 1, "of": {CANARY: [f"key={CANARY}", 2, None, True]}})
        return said


async def _ended(engine: Start, clock: Clock, script: Talks) -> Any:
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, handle.id)
    return orchestrator, handle.id


async def _lines(engine: Start, clock: Clock, script: Talks) -> list[str]:
    orchestrator, execution_id = await _ended(engine, clock, script)
    return [line async for line in orchestrator.logs(execution_id)]


async def test_colours_inside_of_a_secret_do_not_hide_it(
    engine: Start, clock: Clock
) -> None:
    """They are removed, and the value stands there whole."""
    script = Talks()
    script.said = (f"key {CANARY[:7]}\x1b[0m{CANARY[7:]}",)
    assert await _lines(engine, clock, script) == ["key ***"]


async def test_the_lines_of_a_key_are_hidden_one_by_one(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that prints a key prints lines."""
    body = "MIIEvQIBADANBgkqhki\nG9w0BAQEFAASCBKc"
    key = f"-----BEGIN KEY-----\n{body}\n-----END KEY-----\n"
    monkeypatch.setenv("CANARY_VARIABLE", key)
    script = Talks()
    script.said = tuple(f"  {line}" for line in key.splitlines())
    lines = await _lines(engine, clock, script)
    assert len(lines) == 4
    assert not [line for line in lines if "MII" in line or "G9w" in line]


PROBLEMS: dict[str, tuple[Exception, type[Exception], str]] = {
    "of its own": (
        ValueError(f"denied: {CANARY}"),
        ConnectorError,
        "ValueError: denied: ***",
    ),
    "that steers": (
        ThrottledError(f"later: {FORMS[1]}", retry_after=7),
        ThrottledError,
        "later: ***",
    ),
    "not there": (NotImplementedError(CANARY), NotImplementedError, "***"),
}


@pytest.mark.parametrize("member", ["a page", "pages", "metrics"])
@pytest.mark.parametrize("problem", PROBLEMS)
async def test_an_error_of_logs_and_metrics_shows_no_secret(
    engine: Start, clock: Clock, member: str, problem: str
) -> None:
    """``orchestrator logs`` prints it, and a tool for errors what is behind it."""
    script = Talks()
    script.problem, kind, shown = PROBLEMS[problem]
    script.by_pages = member == "pages"
    orchestrator, execution_id = await _ended(engine, clock, script)

    async def ask() -> None:
        if member == "metrics":
            await orchestrator.metrics(execution_id)
        else:
            _ = [line async for line in orchestrator.logs(execution_id)]

    with pytest.raises(kind) as caught:
        await ask()
    error = caught.value
    assert (type(error), str(error)) == (kind, shown)
    assert (error.__cause__, error.__context__) == (None, None)
    wait = getattr(script.problem, "retry_after", None)
    assert getattr(error, "retry_after", None) == wait


async def test_metrics_show_no_secret(engine: Start, clock: Clock) -> None:
    """In the strings of their values and in their names; the rest is as it was."""
    orchestrator, execution_id = await _ended(engine, clock, Talks())
    [result] = (await orchestrator.metrics(execution_id)).results
    assert result.metric == "of ***"
    wanted = GetTaskMetricsResponse()
    data = wanted.results.add(metric="of ***").data
    data.update({"n": 1, "of": {"***": ["key=***", 2, None, True]}})
    assert result == wanted.results[0]


async def test_who_ticks_by_hand_logs_its_own_words_as_they_are(
    engine: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The redactor of a tick ends with it; red when a call sets it for good."""
    script = SecretScript()
    orchestrator = await engine(script, start=False)
    await orchestrator.submit(a_task())
    await orchestrator.tick()
    assert script.calls
    logging.getLogger("the.program").warning("mine: %s", CANARY)
    assert caplog.records[-1].args == (CANARY,)
