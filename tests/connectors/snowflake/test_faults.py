"""What goes wrong between client and service, and what it means to an execution."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from snowflake.connector import __version__

from orchestrator._config import Config, Policy
from orchestrator._orchestrator import Orchestrator
from orchestrator._registry import Registry
from orchestrator.connectors.snowflake import SnowflakeConnector
from orchestrator.errors import AuthError, ConnectorError, TransientError
from tests.connectors.snowflake.kit import attempt, task, tell
from tests.emulators import Fault, Rule, Running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = int(__version__.split(".")[0]) < 5
QUICK = Policy(
    poll_delay_min=timedelta(milliseconds=10),
    poll_delay_max=timedelta(milliseconds=50),
    error_delay_min=timedelta(milliseconds=10),
    error_delay_max=timedelta(milliseconds=50),
    find_settle=timedelta(milliseconds=100),
)


@pytest.fixture
def registry(service: Running) -> Iterator[Registry]:
    """Register a connector that believes the stand-in's history at once."""
    connector = SnowflakeConnector(endpoint=service.url, timeout=timedelta(seconds=2))
    connector.policy = QUICK
    made = Registry()
    made.register(connector)
    yield made
    connector.close()


@pytest.mark.parametrize(
    "rule",
    [
        Rule(do=Fault.REFUSE, status=400, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=403, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=429, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=500, verb="create", times=1),
        Rule(do=Fault.REFUSE, status=503, verb="create", times=1),
        Rule(do=Fault.CUT, verb="create", times=1),
        Rule(do=Fault.HANG, verb="create", times=1),
        Rule(do=Fault.LOSE, verb="create", times=1),
        Rule(do=Fault.HANG_AFTER, verb="create", times=1),
        Rule(do=Fault.LATE, delay_s=2, verb="create", times=1),
    ],
    ids=lambda rule: f"{rule.do}-{rule.status}",
)
async def test_whatever_happens_to_a_create_is_unknown_and_tells_itself_by_the_tag(
    service: Running, connector: SnowflakeConnector, rule: Rule
) -> None:
    """The client does not repeat it; the history knows whether it took effect."""
    one = attempt("SELECT 1 /* sleep=600 */")
    tell(service, "/-/requests", {"remember": False})
    service.script(rule)
    with pytest.raises(ConnectorError) as caught:
        await one.create(connector)
    tell(service, "/-/requests", {"remember": True})
    assert type(caught.value) is ConnectorError
    made = rule.do in (Fault.LOSE, Fault.HANG_AFTER, Fault.LATE)
    assert service.count(one.token) == made
    assert sum(service.witness.faults().values()) >= 1
    found = await one.find(connector)
    assert (found is not None) == made


async def test_a_session_that_ends_on_submission_says_that_nothing_runs(
    service: Running, connector: SnowflakeConnector
) -> None:
    """A 401 is a refusal of this very request."""
    one = attempt()
    service.script(Rule(do=Fault.REFUSE, status=401, verb="create"))
    with pytest.raises(ConnectorError) as caught:
        await one.create(connector)
    assert type(caught.value) is (ConnectorError if OLD else TransientError)
    assert service.count(one.token) == 0


@pytest.mark.parametrize(
    "rule",
    [
        Rule(do=Fault.REFUSE, status=503, verb="login"),
        Rule(do=Fault.CUT, verb="login"),
        Rule(do=Fault.HANG, verb="login"),
    ],
    ids=lambda rule: f"{rule.do}-{rule.status}",
)
async def test_without_a_session_nothing_was_submitted(
    service: Running, connector: SnowflakeConnector, rule: Rule
) -> None:
    """So create says that it may be tried again."""
    one = attempt()
    service.script(rule)
    with pytest.raises(TransientError) as caught:
        await one.create(connector)
    assert not isinstance(caught.value, AuthError)
    assert service.count(one.token) == 0


@pytest.mark.parametrize(
    "rule",
    [
        Rule(do=Fault.REFUSE, status=400),
        Rule(do=Fault.REFUSE, status=404),
        Rule(do=Fault.REFUSE, status=429),
        Rule(do=Fault.REFUSE, status=503),
        Rule(do=Fault.CUT),
        Rule(do=Fault.HANG),
    ],
    ids=lambda rule: f"{rule.do}-{rule.status}",
)
async def test_a_failing_get_find_or_delete_is_tried_later(
    service: Running, connector: SnowflakeConnector, rule: Rule
) -> None:
    """And says nothing of the query, which goes on."""
    one = attempt("SELECT 1 /* sleep=600 */")
    meta = await one.create(connector)
    service.script(rule)
    for call in (connector.get(meta), connector.delete(meta), one.find(connector)):
        with pytest.raises(TransientError):
            await call
    service.script()
    assert [job.live for job in service.jobs(one.token)] == [True]


async def test_nobody_there_is_transient_to_all() -> None:
    """Not even a create was sent."""
    connector = SnowflakeConnector(
        endpoint="http://127.0.0.1:9", timeout=timedelta(seconds=1)
    )
    with pytest.raises(TransientError):
        await attempt().create(connector)
    connector.close()


async def test_an_engine_adopts_the_query_whose_answer_was_lost(
    service: Running, registry: Registry, tmp_path: Path
) -> None:
    """One query, also when it is aborted before anybody knows of it."""
    service.script(
        Rule(do=Fault.LOSE, verb="create", times=2),
        Rule(do=Fault.REFUSE, status=503, verb="find", times=1),
    )
    async with Orchestrator(
        tmp_path / "o.db", registry=registry, config=Config()
    ) as orch:
        quick = await orch.submit(task("SELECT 5 AS five"), {})
        slow = await orch.submit(task("SELECT 6 /* sleep=600 */"), {})
        await orch.abort(slow.id, reason="enough")
        done = await quick.wait(timeout=20)
        ended = await slow.wait(timeout=20)
    assert (done.phase, ended.phase) == ("SUCCEEDED", "ABORTED")
    assert service.count(f"o{done.id}-1") == 1
    token = f"o{ended.id}-1"
    assert service.count(token) <= 1
    assert all(not job.live for job in service.jobs(token))


async def test_a_query_that_never_arrived_is_submitted_again(
    service: Running, registry: Registry, tmp_path: Path
) -> None:
    """Once the history has had time to show it."""
    service.script(Rule(do=Fault.CUT, verb="create", times=1))
    async with Orchestrator(
        tmp_path / "o.db", registry=registry, config=Config()
    ) as orch:
        handle = await orch.submit(task("SELECT 5 AS five"), {})
        done = await handle.wait(timeout=20)
        causes = [step.cause for step in await handle.history()]
    assert (done.phase, done.attempt) == ("SUCCEEDED", 1)
    assert "KNOWN_ABSENT" in causes
    assert service.count(f"o{done.id}-1") == 1
