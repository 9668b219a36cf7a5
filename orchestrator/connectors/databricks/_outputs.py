"""What the tasks of a run gave: results, links, errors and log lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flyteidl2.connector.connector_pb2 import (
    GetTaskLogsResponse,
    GetTaskLogsResponseBody,
    GetTaskLogsResponseHeader,
)
from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.logs.dataplane.payload_pb2 import LogLine, LogLineOriginator

from orchestrator.connectors.databricks._report import latest_tasks
from orchestrator.connectors.databricks._states import (
    RESULTS,
    TERMINATED,
    phase_of,
    result_of,
    state_of,
)
from orchestrator.connectors.utils import redacted
from orchestrator.errors import ConnectorError, PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.connectors.databricks._meta import DatabricksMeta

    Ask = Callable[[int], Mapping[str, Any]]
    """Returns the answer of ``runs/get-output`` for the run of a task."""

TASKS_ASKED_MAX = 20
ERRORS_MAX = 3
_ERROR_MAX = 1000
_LINES_MAX = 10_000
_OVER = (TERMINATED, "SKIPPED", "INTERNAL_ERROR")


@dataclass
class Given:
    """What tasks gave, by task key.

    Attributes:
        values: Results as text.
        links: Where results are to be seen.
        errors: Why tasks failed.
        trace: Where the first of them did.
        problem: Why the declared outputs are not to be had, "" if they are.
    """

    values: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    trace: str = ""
    problem: str = ""


def given_by(run: Mapping[str, Any], meta: DatabricksMeta, ask: Ask) -> Given:
    """Ask for what an ended run gave: results if it succeeded, else errors."""
    given, phase = Given(), phase_of(run)
    tasks = latest_tasks(run)
    if phase == TaskExecution.SUCCEEDED:
        asked = [
            task
            for task in tasks
            if ("sql_task" in task or meta.outputs)
            and meta.output_task in ("", task.get("task_key"))
        ]
        for task in asked[:TASKS_ASKED_MAX]:
            _take(given, str(task.get("task_key", "")), ask(int(task["run_id"])))
    elif phase in (TaskExecution.FAILED, TaskExecution.RETRYABLE_FAILED):
        failed = [task for task in tasks if _failed(task)]
        for task in failed[:ERRORS_MAX]:
            _blame(given, task, ask)
    return given


def _failed(task: Mapping[str, Any]) -> bool:
    if state_of(task) == TERMINATED:
        return RESULTS.get(result_of(task)) != TaskExecution.SUCCEEDED
    return state_of(task) == "INTERNAL_ERROR"


def _blame(given: Given, task: Mapping[str, Any], ask: Ask) -> None:
    """Note why a task failed; the run's end does not wait for it."""
    try:
        output = ask(int(task["run_id"]))
    except ConnectorError:
        output = {}
    said = output.get("error") or (task.get("state") or {}).get("state_message")
    if said:
        given.errors[str(task.get("task_key", ""))] = redacted(str(said), _ERROR_MAX)
    given.trace = given.trace or str(output.get("error_trace") or "")


def _take(given: Given, key: str, output: Mapping[str, Any]) -> None:
    """Note what a task that succeeded gave."""
    notebook, dbt = output.get("notebook_output") or {}, output.get("dbt_output") or {}
    link = _sql_link(output.get("sql_output") or {}) or dbt.get("artifacts_link")
    if link:
        given.links[key] = given.values[key] = str(link)
    elif notebook.get("truncated"):
        given.problem = f"the result of {key} is longer than Databricks keeps"
    elif notebook.get("result") is not None:
        given.values[key] = str(notebook["result"])
    elif output.get("logs") is not None:
        if output.get("logs_truncated"):
            given.problem = f"the output of {key} is longer than Databricks keeps"
        else:
            given.values[key] = str(output["logs"])


def _sql_link(output: Mapping[str, Any]) -> str | None:
    """Return where the result of a SQL task is to be seen."""
    for kind in ("query_output", "alert_output"):
        if link := (output.get(kind) or {}).get("output_link"):
            return str(link)
    widgets = (output.get("dashboard_output") or {}).get("widgets") or ()
    links = (widget.get("output_link") for widget in widgets)
    return next(filter(None, links), None)


def outputs_of(meta: DatabricksMeta, given: Given) -> dict[str, Any] | None:
    """Return the declared outputs, None if none are.

    What is not there is left out, and ``given.problem`` says why: the engine refuses
    the outputs.
    """
    if not meta.outputs:
        return None
    if given.problem:
        return {}
    if len(given.values) != 1:
        keys = ", ".join(given.values) or "no task"
        given.problem = f"one task's output is wanted, {keys} gave one: see output_task"
        return {}
    (text,) = given.values.values()
    outputs: dict[str, Any] = {}
    if "result" in meta.outputs and meta.text:
        outputs["result"] = text
    names = [name for name in meta.outputs if name not in outputs]
    if not names:
        return outputs
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        given.problem = "the result is no JSON, which these outputs need"
        return {}
    if "result" in names:
        outputs["result"] = data
    members = data if isinstance(data, dict) else {}
    return outputs | {n: members[n] for n in names if n != "result" and n in members}


def log_pages(
    run: Mapping[str, Any], token: str, ask: Ask
) -> Iterator[GetTaskLogsResponse]:
    """Yield what ended tasks printed, in order of their ends, and where to go on.

    Raises:
        PermanentError: *token* is none of ours.
    """
    if token and not token.isdecimal():
        raise PermanentError(f"{token[:80]!r} is no log token (a number of lines)")
    ended = [t for t in latest_tasks(run) if state_of(t) in _OVER]
    ended.sort(key=lambda task: int(task.get("end_time") or 0))
    lines = []
    for task in ended[:TASKS_ASKED_MAX]:
        output = ask(int(task["run_id"]))
        texts = [output.get(what) or "" for what in ("logs", "error", "error_trace")]
        for text in filter(None, texts):
            shown = redacted(str(text), len(str(text)))  # a secret may have lines
            lines += [_line(words, task) for words in shown.splitlines()]
    seen = int(token or 0)
    fresh = lines[seen : seen + _LINES_MAX]
    if fresh:
        yield GetTaskLogsResponse(body=GetTaskLogsResponseBody(lines=fresh))
    after = str(seen + len(fresh))
    yield GetTaskLogsResponse(header=GetTaskLogsResponseHeader(token=after))


def _line(words: str, task: Mapping[str, Any]) -> LogLine:
    """Return one line; the task stands where Flyte names the pod."""
    return LogLine(
        message=words,
        originator=LogLineOriginator.USER,
        short_pod_name=str(task.get("task_key", "")),
    )
