"""What goes wrong between client and service, and what it means to an execution."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from orchestrator._config import Config, Policy
from orchestrator._orchestrator import Orchestrator
from orchestrator._registry import Registry
from orchestrator.connectors.bigquery import BigQueryConnector
from orchestrator.errors import (
    AuthError,
    ConnectorError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from tests.connectors.bigquery.kit import attempt, task
from tests.emulators import Fault, Rule, Running

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Policy(
    poll_delay_min=timedelta(milliseconds=10),
    poll_delay_max=timedelta(milliseconds=50),
    error_delay_min=timedelta(milliseconds=10),
    error_delay_max=timedelta(milliseconds=50),
    create_timeout=timedelta(seconds=5),
)


def impatient(service: Running) -> BigQueryConnector:
    """Return a connector that waits for no answer for long."""
    return BigQueryConnector(endpoint=service.url, timeout=timedelta(seconds=0.5))


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
async def test_a_refused_create_says_that_there_is_no_job(
    service: Running, connector: BigQueryConnector, status: int, kind: type
) -> None:
    """By the status; the witness agrees."""
    one = attempt()
    service.script(Rule(do=Fault.REFUSE, verb="create", status=status, retry_after=7))
    with pytest.raises(ConnectorError) as caught:
        await one.create(connector)
    assert type(caught.value) is kind
    assert service.count(one.token) == 0
    if isinstance(caught.value, ThrottledError):
        assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "rule",
    [
        Rule(do=Fault.REFUSE, status=500, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=503, verb="create", times=1),
        Rule(do=Fault.CUT, verb="create", times=1),
        Rule(do=Fault.HANG, verb="create", times=1),
        Rule(do=Fault.LOSE, verb="create", times=1),
        Rule(do=Fault.HANG_AFTER, verb="create", times=1),
        Rule(do=Fault.LATE, delay_s=1, verb="create", times=1),
    ],
    ids=lambda rule: f"{rule.do}-{rule.status}",
)
async def test_whatever_else_happens_to_a_create_is_unknown_and_repeated(
    service: Running, rule: Rule
) -> None:
    """Neither client nor connector repeats it by itself; the repetition is safe."""
    one, connector = attempt("SELECT 1 /* sleep=600 */"), impatient(service)
    service.script(rule)
    with pytest.raises(ConnectorError) as caught:
        await one.create(connector)
    assert type(caught.value) is ConnectorError
    sent = service.calls("create").get(one.token, 0)
    assert sent <= 1
    await one.create(connector)
    assert service.count(one.token) == 1
    connector.close()


async def test_a_job_that_exists_and_cannot_be_looked_at_is_unknown(
    service: Running, connector: BigQueryConnector
) -> None:
    """A 409, then no answer or a 404: that is no reason to say "not created"."""
    one = attempt()
    await one.create(connector)
    for status in (401, 404, 429, 503):
        service.script(Rule(do=Fault.REFUSE, status=status, verb="get", times=1))
        with pytest.raises(ConnectorError, match="could not be looked at") as caught:
            await one.create(connector)
        assert type(caught.value) is ConnectorError


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
    """Once each: the engine repeats, not the client."""
    one, connector = attempt("SELECT 1 /* sleep=600 */"), impatient(service)
    meta = await one.create(connector)
    service.script(rule)
    for call in (connector.get, connector.delete):
        with pytest.raises(ConnectorError) as caught:
            await call(meta)
        assert type(caught.value) is kind
    seen = service.witness.faults()
    assert service.calls("get").get(one.token, 0) == 0
    assert seen
    connector.close()


async def test_nobody_there_is_unknown_to_create_and_transient_to_get(
    service: Running,
) -> None:
    """A refused connection, at a port where nothing listens."""
    connector = BigQueryConnector(endpoint="http://127.0.0.1:9")
    with pytest.raises(ConnectorError) as caught:
        await attempt().create(connector)
    assert type(caught.value) is ConnectorError
    meta = await attempt().create(impatient(service))
    meta.endpoint = connector.endpoint
    with pytest.raises(TransientError):
        await connector.get(meta)
    connector.close()


async def test_an_engine_adopts_the_job_whose_answer_was_lost(
    service: Running, tmp_path: Path
) -> None:
    """One job, also when it is aborted before anybody knows of it."""
    service.script(
        Rule(do=Fault.LOSE, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=503, verb="create", skip=1, times=1),
    )
    registry, connector = Registry(), impatient(service)
    connector.policy = QUICK
    registry.register(connector)
    config = Config()
    async with Orchestrator(
        tmp_path / "o.db", registry=registry, config=config
    ) as orch:
        quick = await orch.submit(task("SELECT 5 AS five"), {})
        slow = await orch.submit(task("SELECT 6 /* sleep=600 */"), {})
        await orch.abort(slow.id, reason="enough")
        done = await quick.wait(timeout=20)
        ended = await slow.wait(timeout=20)
    assert (done.phase, ended.phase) == ("SUCCEEDED", "ABORTED")
    for execution in (done, ended):
        assert service.count(f"o{execution.id}-1") <= 1
    assert service.count(f"o{done.id}-1") == 1
    token = f"o{ended.id}-1"
    assert all(not job.live for job in service.jobs(token))
    connector.close()
