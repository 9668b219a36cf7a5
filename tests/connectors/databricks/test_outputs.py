"""What tasks give: results, links, errors and log lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.errors import PermanentError, TransientError
from tests.connectors.databricks.kit import SECRETS, attempt, made, notebook, program
from tests.emulators import Fault, Rule, Running

if TYPE_CHECKING:
    from orchestrator.connectors.databricks import DatabricksConnector

TWO = {
    "tasks": [
        {"task_key": key, "notebook_task": {"base_parameters": {f"output_{key}": key}}}
        for key in ("first", "second")
    ]
}


@pytest.mark.parametrize(
    ("body", "outputs", "expected"),
    [
        (notebook(output="text"), {"result": str}, {"result": "text"}),
        (notebook(output="[1, 2]"), {"result": list[int]}, {"result": [1, 2]}),
        (notebook(output="[1, 2]"), {"result": str}, {"result": "[1, 2]"}),
        (
            notebook(output=json.dumps({"rows": 3, "ok": True, "more": None})),
            {"rows": int, "ok": bool},
            {"rows": 3, "ok": True},
        ),
        (program("logs=a\nb"), {"result": str}, {"result": "a\nb"}),
        (notebook(output="text"), None, None),
    ],
)
async def test_outputs_are_what_the_task_gave(
    connector: DatabricksConnector, body: Any, outputs: Any, expected: Any
) -> None:
    """A str as it is, other types as JSON, other names as its members."""
    meta = await made(connector, attempt(body, outputs=outputs))
    resource = await connector.get(meta, **SECRETS)
    assert resource.phase == TaskExecution.SUCCEEDED
    assert resource.outputs == expected


@pytest.mark.parametrize(
    ("body", "outputs", "problem"),
    [
        (notebook(), {"result": str}, "no task gave one"),
        (TWO, {"result": str}, "first, second gave one"),
        (notebook(output="no JSON"), {"rows": int}, "no JSON"),
        (notebook(output="[" * 200_000), {"rows": int}, "no JSON"),
        (notebook(output="x", truncated="1"), {"result": str}, "longer than"),
        (program("truncated=1"), {"result": str}, "longer than"),
    ],
)
async def test_outputs_that_are_not_there_are_left_out_with_the_reason(
    connector: DatabricksConnector, body: Any, outputs: Any, problem: str
) -> None:
    """The engine then refuses them: a part is never taken for the whole."""
    meta = await made(connector, attempt(body, outputs=outputs))
    resource = await connector.get(meta, **SECRETS)
    assert resource.outputs == {}
    assert problem in (resource.message or "")


async def test_one_of_several_tasks_may_be_named(
    connector: DatabricksConnector,
) -> None:
    """By its key."""
    one = attempt(TWO, outputs={"result": str}, output_task="second")
    resource = await connector.get(await made(connector, one), **SECRETS)
    assert resource.outputs == {"result": "second"}


async def test_a_sql_task_gives_the_link_to_its_result(
    service: Running, connector: DatabricksConnector
) -> None:
    """Also where no output is declared, the link is shown."""
    sql = {"query": {"query_id": "q"}, "warehouse_id": "w"}
    one = attempt({"sql_task": sql}, outputs={"result": str})
    meta = await made(connector, one)
    resource = await connector.get(meta, **SECRETS)
    link = f"{service.url}/sql/output/{meta.run_id + 1}"
    assert resource.outputs == {"result": link}
    assert link in {log.uri for log in resource.log_links or ()}
    resource = await connector.get(
        await made(connector, attempt({"sql_task": sql})), **SECRETS
    )
    assert [log.name for log in resource.log_links or ()][-1] == "Output of main"


async def test_the_artifacts_of_dbt_are_linked_without_their_keys(
    connector: DatabricksConnector,
) -> None:
    """The headers with which they are fetched hold a secret."""
    body = {"dbt_task": {"commands": ["dbt run"]}}
    meta = await made(connector, attempt(body, outputs={"result": str}))
    resource = await connector.get(meta, **SECRETS)
    assert resource.outputs is not None
    assert str(resource.outputs).count("dbt.tgz") == 1
    assert "secret" not in repr(resource)


async def test_why_a_run_failed_is_told_if_it_can_be_asked(
    service: Running, connector: DatabricksConnector
) -> None:
    """The end of the run does not wait for it."""
    meta = await made(connector, attempt(notebook(result="FAILED")))
    resource = await connector.get(meta, **SECRETS)
    assert resource.custom_info
    assert resource.custom_info["errors"] == {"main": "ValueError: as scripted"}
    assert resource.custom_info["error_trace"].startswith("Traceback")
    service.script(Rule(do=Fault.REFUSE, verb="output", status=500))
    resource = await connector.get(meta, **SECRETS)
    assert resource.phase == TaskExecution.FAILED
    assert resource.custom_info
    assert resource.custom_info["errors"] == {"main": "as scripted"}


async def test_logs_are_those_of_ended_tasks_and_are_read_on(
    connector: DatabricksConnector,
) -> None:
    """The token is the number of lines that were read."""
    meta = await made(connector, attempt(program()))
    pages = [page async for page in connector.get_logs(meta, "", **SECRETS)]
    assert [line.message for line in pages[0].body.lines] == ["line 1", "line 2"]
    assert pages[0].body.lines[0].short_pod_name == "main"
    assert [page.header.token for page in pages] == ["", "2"]
    later = [page async for page in connector.get_logs(meta, "2", **SECRETS)]
    assert [page.header.token for page in later] == ["2"]
    running = await made(connector, attempt(program("sleep=600")))
    none = [page async for page in connector.get_logs(running, "", **SECRETS)]
    assert [page.header.token for page in none] == ["0"]
    with pytest.raises(PermanentError, match="no log token"):
        _ = [page async for page in connector.get_logs(meta, "x", **SECRETS)]


async def test_an_output_that_is_gone_is_not_a_run_that_is_gone(
    service: Running, connector: DatabricksConnector
) -> None:
    """The run succeeded; what it gave is said to be missing."""
    one = attempt(notebook(output="x"), outputs={"result": str})
    meta = await made(connector, one)
    service.script(Rule(do=Fault.REFUSE, verb="output", status=404))
    resource = await connector.get(meta, **SECRETS)
    assert resource.phase == TaskExecution.SUCCEEDED
    assert resource.outputs == {}
    service.script(Rule(do=Fault.REFUSE, verb="output", status=503))
    with pytest.raises(TransientError):
        await connector.get(meta, **SECRETS)


async def test_a_run_that_was_cancelled_has_no_outputs(
    connector: DatabricksConnector,
) -> None:
    """And does not complain of them."""
    meta = await made(connector, attempt(program("sleep=600"), outputs={"result": str}))
    await connector.delete(meta, **SECRETS)
    resource = await connector.get(meta, **SECRETS)
    assert (resource.phase, resource.outputs) == (TaskExecution.ABORTED, None)
    assert "output" not in (resource.message or "")
