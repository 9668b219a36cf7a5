"""Secrets reach the calls as keyword arguments, and nothing else anywhere."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Secret
from orchestrator.connectors import ConnectorSecretsMixin, Resource
from tests.engine.kit import DONE, FAILED, RUNNING, Clock, Script, a_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from orchestrator import Orchestrator

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
    monkeypatch.setattr(orchestrator._engine.calls, "_got", broken)
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
