"""What the Databricks stand-in tells of a run: states, tasks, repairs and outputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.testing._jobserver._vocabulary import JobSpec
from tests.emulators._base import Entry, Script, State, packed_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_GOOD = ("SUCCESS", "SUCCESS_WITH_FAILURES")
_NO_RESULT = ("SKIPPED", "INTERNAL_ERROR")
_STATES = {
    State.QUEUED: "QUEUED",
    State.RUNNING: "RUNNING",
    State.CANCELLING: "TERMINATING",
}
_CODES = {"FAILED": "RUN_EXECUTION_ERROR", "TIMEDOUT": "CANCELED"}
_WORDS = ("code", "type", "output", "logs", "hidden", "truncated", "repair", "waits")
_ENDED = ("TERMINATED", *_NO_RESULT)


def words_of(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the ``name=value`` of all parameters in the body of a request."""
    words: dict[str, str] = {}
    for text in _parameters(body):
        name, is_pair, value = text.partition("=")
        if is_pair:
            words[name] = value
    return words


def _parameters(body: Any) -> Iterable[str]:
    """Yield parameters, wherever in the body they stand, as ``name=value``."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield from _parameters(value)
            if isinstance(value, str):
                yield f"{name}={value}"
    elif isinstance(body, list):
        for item in body:
            yield from [item] if isinstance(item, str) else _parameters(item)


def script_of(body: Mapping[str, Any], result: str = "") -> Script:
    """Return how a run behaves.

    ``sleep=5 queue=1 cancel=2`` are seconds, ``result=FAILED,SUCCESS`` how each attempt
    ends: a result state, SKIPPED or INTERNAL_ERROR.
    """
    words = words_of(body)
    if result:
        words["result"] = result
    own = packed_in(json.dumps(body))
    if own is not None:
        return Script(own, words)
    ends = words.get("result", "SUCCESS").split(",")
    spec = JobSpec(
        queue_s=float(words.get("queue") or 0),
        run_s=float(words.get("sleep") or 0),
        delete_s=float(words.get("cancel") or 0),
        ends=tuple(State.SUCCEEDED if e in _GOOD else State.FAILED for e in ends),
    )
    return Script(spec, words)


def state_of(entry: Entry) -> dict[str, Any]:
    """Return ``state`` and ``status`` of a run."""
    words = entry.body["words"]
    if entry.state in _STATES:
        life = words.get("waits") or _STATES[entry.state]
        new = "WAITING" if life == "WAITING_FOR_RETRY" else life
        return {
            "state": {"life_cycle_state": life, "state_message": "as scripted"},
            "status": {"state": new},
        }
    script = Script(words=words)
    result = script.word_of("result", entry.token) or "SUCCESS"
    if entry.state is State.ABORTED:
        result = "CANCELED"
    elif entry.state is State.SUCCEEDED and result not in _GOOD:
        result = "SUCCESS"  # told so by a test
    elif entry.state is State.FAILED and result in _GOOD:
        result = "FAILED"
    code = script.word_of("code", entry.token) or _CODES.get(result, result)
    if entry.state is State.ABORTED:
        code = "USER_CANCELED"
    kind = words.get("type") or ("SUCCESS" if result in _GOOD else "CLIENT_ERROR")
    details = {"code": code, "type": kind, "message": "as scripted"}
    old: dict[str, Any] = {"life_cycle_state": "TERMINATED", "result_state": result}
    if result in _NO_RESULT:
        old = {"life_cycle_state": result}
    return {
        "state": {
            **old,
            "state_message": "as scripted",
            "user_cancelled_or_timedout": False,
        },
        "status": {"state": "TERMINATED", "termination_details": details},
    }


def times_of(entry: Entry, now_us: int) -> dict[str, int]:
    """Return when a run began and ended, and what it spent its time with."""
    job = entry.job
    begun = {"start_time": job.created_us // 1000, "setup_duration": 1000}
    if entry.state in _STATES:
        spent = (now_us - job.created_us) // 1000
        return {**begun, "end_time": 0, "execution_duration": spent}
    spent = (job.state_us - job.created_us) // 1000
    over = {"end_time": job.state_us // 1000, "run_duration": spent + 1500}
    return {**begun, **over, "execution_duration": spent, "cleanup_duration": 500}


def tasks_of(
    number: int, entry: Entry, repairs: list[Entry], url: str, now_us: int
) -> list[dict[str, Any]]:
    """Return the tasks of a run, those of its repairs last."""
    told = []
    for attempt, life in enumerate([entry, *repairs]):
        for index, task in enumerate(life.body["tasks"], 1):
            run_id = number + attempt * 100_000 + index
            cluster = task.get("existing_cluster_id") or f"job-{number}-cluster"
            instance = {"cluster_id": cluster, "spark_context_id": f"{number}"}
            serverless = "environment_key" in task or "sql_task" in task
            told.append(
                {
                    **task,
                    "run_id": run_id,
                    "attempt_number": attempt,
                    "run_page_url": f"{url}/#job/{number}/run/{run_id}",
                    **({} if serverless else {"cluster_instance": instance}),
                    **times_of(life, now_us),
                    **state_of(life),
                }
            )
    return told


def history_of(
    number: int, entry: Entry, repairs: list[Entry], now_us: int
) -> list[dict[str, Any]]:
    """Return the repair history of a run, the original run first."""
    told = []
    for attempt, life in enumerate([entry, *repairs]):
        ids = [
            number + attempt * 100_000 + n for n, _ in enumerate(life.body["tasks"], 1)
        ]
        kind = (
            {"type": "REPAIR", "id": number + attempt}
            if attempt
            else {"type": "ORIGINAL"}
        )
        told.append(
            {**kind, "task_run_ids": ids, **times_of(life, now_us), **state_of(life)}
        )
    return told


def output_of(
    task: Mapping[str, Any], words: Mapping[str, str], url: str
) -> dict[str, Any]:
    """Return what ``runs/get-output`` tells of a task."""
    output: dict[str, Any] = {"metadata": dict(task)}
    state = task["state"]
    if state["life_cycle_state"] not in _ENDED:
        return output
    if state.get("result_state") not in _GOOD:
        output |= {
            "error": "ValueError: as scripted",
            "error_trace": "Traceback\n  as scripted",
        }
    elif "notebook_task" in task:
        given = words.get(f"output_{task['task_key']}") or words.get("output")
        notebook: dict[str, Any] = {} if given is None else {"result": given}
        output["notebook_output"] = {**notebook, "truncated": "truncated" in words}
    elif "sql_task" in task:
        link = f"{url}/sql/output/{task['run_id']}"
        output["sql_output"] = {"query_output": {"output_link": link}}
    elif "dbt_task" in task:
        secret = {"x-amz-server-side-encryption-customer-key": "secret"}
        output["dbt_output"] = {
            "artifacts_link": f"{url}/dbt.tgz",
            "artifacts_headers": secret,
        }
    if "spark_python_task" in task or "spark_jar_task" in task:
        output["logs"] = words.get("logs", "line 1\nline 2\n")
        output["logs_truncated"] = "truncated" in words
    return output
