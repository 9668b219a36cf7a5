"""The search for a run whose create gave no answer."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._clock import SystemClock
from orchestrator._ids import Ids, create_token
from orchestrator.connectors.databricks import _find
from orchestrator.connectors.databricks._find import CLOCKS_APART_MS, since_ms
from orchestrator.errors import PermanentError, TransientError
from tests.connectors.databricks.kit import NAMED, SECRETS, attempt, made, notebook, sdk

if TYPE_CHECKING:
    from orchestrator.connectors.databricks import DatabricksConnector
    from tests.emulators import Running


def defined(service: Running, *parameters: str) -> int:
    """Define a job and return its number."""
    body = {
        "name": "defined",
        "parameters": [{"name": name, "default": ""} for name in parameters],
        "tasks": [{"task_key": "t", "notebook_task": {"notebook_path": "/n"}}],
    }
    job: Any = sdk(service).api_client.do("POST", "/api/2.2/jobs/create", body=body)
    return int(job["job_id"])


async def test_a_run_is_found_on_any_page(
    service: Running, connector: DatabricksConnector
) -> None:
    """By the token at the end of its name, among all that were submitted since."""
    one = attempt(notebook(sleep="600"), outputs={"result": str})
    meta = await made(connector, one)
    for _ in range(60):
        await made(connector, attempt())
    before = service.calls("find").get("", 0)
    assert await connector.find(one.token, one.template, **SECRETS) == meta
    assert service.calls("find")[""] - before >= 3
    found = await connector.find(one.token, **SECRETS)
    assert found is not None
    assert found.run_id == meta.run_id
    assert await connector.find(attempt().token, **SECRETS) is None


async def test_the_search_ends_at_the_submission(
    service: Running, connector: DatabricksConnector
) -> None:
    """The execution's id tells when that was, so that older runs are not listed."""
    clock = SystemClock()
    token = create_token(Ids(clock, Random(1)).execution_id(), 1)
    now_ms = clock.now_us() // 1000
    since = since_ms(token)
    assert since is not None
    assert 0 <= now_ms - CLOCKS_APART_MS - since < 60_000
    assert since_ms(attempt().token) is None
    future = create_token(f"{now_ms + 2 * CLOCKS_APART_MS:012x}7{'0' * 19}", 1)
    one = attempt()
    one.token = future
    await made(connector, one)
    assert service.count(future) == 1
    assert await connector.find(future, **SECRETS) is None


async def test_a_list_without_an_end_proves_nothing(
    connector: DatabricksConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be taken for "none"."""
    for _ in range(30):
        await made(connector, attempt())
    monkeypatch.setattr(_find, "PAGES_MAX", 1)
    with pytest.raises(TransientError, match="has no end"):
        await connector.find(attempt().token, **SECRETS)


async def test_runs_of_a_job_without_the_token_are_not_guessed_at(
    service: Running, connector: DatabricksConnector
) -> None:
    """None is certain; one may be ours, or that of somebody else."""
    job_id = defined(service)
    one = attempt({"job_id": job_id})
    assert await connector.find(one.token, one.template, **SECRETS) is None
    await made(connector, attempt({"job_id": job_id}))
    with pytest.raises(PermanentError, match="token_parameter"):
        await connector.find(one.token, one.template, **SECRETS)
    told = defined(service, "token")
    sure = attempt({"job_id": told}, **NAMED)
    await made(connector, attempt({"job_id": told}, **NAMED))
    assert await connector.find(sure.token, sure.template, **SECRETS) is None


async def test_the_token_goes_where_the_job_takes_parameters(
    service: Running, connector: DatabricksConnector
) -> None:
    """Job parameters cannot go along with those of notebooks."""
    body = {"job_id": defined(service), "notebook_params": {"day": "mon"}}
    one = attempt(body, **NAMED)
    meta = await made(connector, one)
    request = service.body(str(meta.run_id))["request"]
    assert request["notebook_params"] == {"day": "mon", "token": one.token}
    assert await connector.find(one.token, one.template, **SECRETS) == meta
