"""Log lines that quote a secret, as terminals and commands write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
)

from orchestrator.connectors import ConnectorSecretsMixin
from tests.engine.kit import Clock, Script, a_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

pytestmark = pytest.mark.may_block

CANARY = "c4nary-s3cret-value-0123456789"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhki\nG9w0BAQEFAASCBKc\n-----END KEY-----\n"


class _Talks(ConnectorSecretsMixin, Script):
    said: tuple[str, ...] = ()
    problem: Exception | None = None

    def __init__(self) -> None:
        super().__init__(secrets={"api_key": "CANARY_VARIABLE"})

    async def get_logs(self, resource_meta: Any, **_: Any) -> GetTaskLogsResponse:
        if self.problem is not None:
            raise self.problem
        return GetTaskLogsResponse(body=GetTaskLogsResponseBody(results=self.said))


async def _ended(engine: Start, clock: Clock, script: _Talks) -> Any:
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.until_ended(orchestrator, handle.id)
    return orchestrator.logs(handle.id)


async def test_colours_inside_of_a_secret_do_not_hide_it(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are removed, and the value stands there whole."""
    monkeypatch.setenv("CANARY_VARIABLE", CANARY)
    script = _Talks()
    script.said = (f"key {CANARY[:7]}\x1b[0m{CANARY[7:]}",)
    lines = [line async for line in await _ended(engine, clock, script)]
    assert lines == ["key ***"]


async def test_the_lines_of_a_key_are_hidden_one_by_one(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that prints a key prints lines."""
    monkeypatch.setenv("CANARY_VARIABLE", KEY)
    script = _Talks()
    script.said = tuple(f"  {line}" for line in KEY.splitlines())
    lines = [line async for line in await _ended(engine, clock, script)]
    assert not [line for line in lines if "MII" in line or "G9w" in line]


async def test_an_error_of_get_logs_shows_no_secret(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`orchestrator logs` prints it."""
    monkeypatch.setenv("CANARY_VARIABLE", CANARY)
    script = _Talks()
    script.problem = ValueError(f"denied: {CANARY}")
    with pytest.raises(Exception, match="denied") as caught:
        _ = [line async for line in await _ended(engine, clock, script)]
    assert CANARY not in str(caught.value)
