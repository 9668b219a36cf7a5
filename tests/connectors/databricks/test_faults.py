"""What goes wrong between client and service, and what it means to an execution."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._config import Config, Policy
from orchestrator._orchestrator import Orchestrator
from orchestrator._registry import Registry
from orchestrator.connectors.databricks import DatabricksConnector
from orchestrator.errors import (
    AuthError,
    ConnectorError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from tests.connectors.databricks.kit import (
    PAT,
    SECRETS,
    attempt,
    made,
    notebook,
    sdk,
    task,
)
from tests.emulators import Fault, Rule, Running

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Policy(
    poll_delay_min=timedelta(milliseconds=10),
    poll_delay_max=timedelta(milliseconds=50),
    error_delay_min=timedelta(milliseconds=10),
    error_delay_max=timedelta(milliseconds=50),
    create_timeout=timedelta(seconds=5),
    find_settle=timedelta(milliseconds=100),
)
SLOW = notebook(sleep="600")


def impatient(service: Running) -> DatabricksConnector:
    """Return a connector that waits for no answer for long."""
    return DatabricksConnector(host=service.url, timeout=timedelta(seconds=0.5))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, PermanentError),
        (401, AuthError),
        (403, AuthError),
        (404, PermanentError),
        (429, ThrottledError),
    ],
)
async def test_a_refused_create_says_that_there_is_no_run(
    service: Running, connector: DatabricksConnector, status: int, kind: type
) -> None:
    """By the status, and at once: the SDK does not wait for ``Retry-After``."""
    one = attempt()
    service.script(Rule(do=Fault.REFUSE, verb="create", status=status, retry_after=70))
    with pytest.raises(ConnectorError) as caught:
        await made(connector, one)
    assert type(caught.value) is kind
    assert PAT not in str(caught.value)
    assert service.count(one.token) == 0
    if isinstance(caught.value, ThrottledError):
        assert caught.value.retry_after == 70


@pytest.mark.parametrize(
    "rule",
    [
        Rule(do=Fault.REFUSE, status=409, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=500, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=503, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=418, verb="create", times=1),
        Rule(do=Fault.CUT, verb="create", times=1),
        Rule(do=Fault.HANG, verb="create", times=1),
        Rule(do=Fault.LOSE, verb="create", times=1),
        Rule(do=Fault.HANG_AFTER, verb="create", times=1),
        Rule(do=Fault.LATE, delay_s=1, verb="create", times=1),
    ],
    ids=lambda rule: f"{rule.do}-{rule.status}",
)
async def test_whatever_else_happens_to_a_create_is_unknown(
    service: Running, rule: Rule
) -> None:
    """Neither SDK nor connector repeats it by itself; what is there is found."""
    one, connector = attempt(SLOW), impatient(service)
    service.script(rule)
    with pytest.raises(ConnectorError) as caught:
        await made(connector, one)
    assert type(caught.value) is ConnectorError
    count = service.count(one.token)
    assert service.calls("create").get(one.token, 0) == count
    found = await connector.find(one.token, one.template, **SECRETS)
    assert (found is not None) == (count == 1)
    again = await made(connector, one)
    assert found in (None, again)
    assert service.count(one.token) == 1
    connector.close()


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (Rule(do=Fault.REFUSE, status=400), TransientError),
        (Rule(do=Fault.REFUSE, status=401), AuthError),
        (Rule(do=Fault.REFUSE, status=403), AuthError),
        (Rule(do=Fault.REFUSE, status=404), ResourceGoneError),
        (Rule(do=Fault.REFUSE, status=429, retry_after=3), ThrottledError),
        (Rule(do=Fault.REFUSE, status=503), TransientError),
        (Rule(do=Fault.CUT), TransientError),
        (Rule(do=Fault.HANG), TransientError),
    ],
    ids=lambda value: f"{value.do}-{value.status}" if isinstance(value, Rule) else "",
)
async def test_a_failing_get_or_delete_is_tried_later(
    service: Running, rule: Rule, kind: type
) -> None:
    """Once each: the engine repeats, not the SDK."""
    one, connector = attempt(SLOW), impatient(service)
    meta = await made(connector, one)
    service.script(rule)
    before = sum(service.witness.faults().values())
    for call in (connector.get, connector.delete):
        with pytest.raises(ConnectorError) as caught:
            await call(meta, **SECRETS)
        assert type(caught.value) is kind
    assert sum(service.witness.faults().values()) == before + 2
    connector.close()


async def test_nobody_there_is_unknown_to_create_and_transient_to_get() -> None:
    """A refused connection, at a port where nothing listens."""
    connector = DatabricksConnector(host="http://127.0.0.1:9")
    with pytest.raises(ConnectorError) as caught:
        await made(connector, attempt())
    assert type(caught.value) is ConnectorError
    with pytest.raises(TransientError):
        await connector.find(attempt().token, **SECRETS)
    connector.close()


async def test_a_deleted_run_is_not_made_again(
    service: Running, connector: DatabricksConnector
) -> None:
    """The service refuses its token, which proves nothing about earlier calls."""
    one = attempt()
    meta = await made(connector, one)
    sdk(service).jobs.delete_run(meta.run_id)
    with pytest.raises(PermanentError, match="deleted"):
        await made(connector, one)


@pytest.mark.parametrize("forgets", [False, True], ids=["remembers", "forgets"])
async def test_an_engine_adopts_the_run_whose_answer_was_lost(
    service: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forgets: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """One run each, also if it has ended, or is aborted before anybody knows of it."""
    monkeypatch.setenv("DATABRICKS_KEY", PAT)
    service.tell("/-/forget", {"ended": forgets})
    service.script(Rule(do=Fault.LOSE, verb="create", times=1))
    registry, connector = Registry(), impatient(service)
    connector.policy = QUICK
    registry.register(connector)
    key: dict[str, Any] = {"databricks_token": "DATABRICKS_KEY"}
    async with Orchestrator(
        tmp_path / "o.db", registry=registry, config=Config()
    ) as orch:
        quick = await orch.submit(task(notebook(), **key), {})
        slow = await orch.submit(task(SLOW, **key), {})
        await orch.abort(slow.id, reason="enough")
        done = await quick.wait(timeout=20)
        ended = await slow.wait(timeout=20)
        causes = [step.cause for step in await quick.history()]
    assert (done.phase, ended.phase) == ("SUCCEEDED", "ABORTED")
    assert "ADOPTED" in causes
    assert service.count(f"o{done.id}-1") == 1
    token = f"o{ended.id}-1"
    assert service.count(token) <= 1
    assert all(not job.live for job in service.jobs(token))
    connector.close()
