"""What a run tells, as a Resource: phase, message, links, cost and progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator._connector import Resource
from orchestrator.connectors.databricks._states import (
    STATES,
    details_of,
    phase_of,
    result_of,
    state_of,
)
from orchestrator.connectors.utils import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.connectors.databricks._meta import DatabricksMeta
    from orchestrator.connectors.databricks._outputs import Given

TASKS_MAX = 100
CLUSTERS_MAX = 5
REPAIRS_MAX = 20
_TRACE_MAX = 8000
_TIMES = ("queue", "setup", "execution", "cleanup", "run")
_REPAIR = "REPAIR"


def latest_tasks(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of a run, of each the latest attempt, repairs included."""
    latest: dict[str, dict[str, Any]] = {}
    for task in run.get("tasks") or ():
        key = str(task.get("task_key", ""))
        if key not in latest or _age(task) >= _age(latest[key]):
            latest[key] = task
    return list(latest.values())


def _age(task: Mapping[str, Any]) -> tuple[int, int]:
    return int(task.get("attempt_number") or 0), int(task.get("start_time") or 0)


def report(
    run: Mapping[str, Any],
    meta: DatabricksMeta,
    given: Given,
    outputs: dict[str, Any] | None,
) -> Resource:
    """Return all that is known of a run.

    Args:
        run: As ``runs/get`` shows it, with all its tasks.
        meta: Its handle.
        given: What its tasks gave, as far as that was asked for.
        outputs: The task's outputs, None before the end or without any.
    """
    tasks = latest_tasks(run)
    links = [
        *_run_links(run, meta),
        *_cluster_links(meta.host, [run, *tasks]),
        *_repair_links(run),
        *(_link(f"Output of {key}", uri) for key, uri in given.links.items()),
    ]
    phase = phase_of(run)
    return Resource(
        phase=phase,
        message=_message(run, phase, given),
        log_links=links,
        outputs=outputs,
        custom_info=_info(run, meta, tasks, given),
    )


def _run_links(run: Mapping[str, Any], meta: DatabricksMeta) -> list[TaskLog]:
    """Return the link to the run's own page, nothing if nobody knows that."""
    job, page = run.get("job_id") or meta.job_id, run.get("run_page_url")
    if not page and job:
        page = f"{meta.host}/#job/{job}/run/{meta.run_id}"
    return [_link("Databricks run", str(page))] if page else []


def clusters_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return each cluster's id with the id of its Spark context, "" for none yet."""
    found: dict[str, str] = {}
    for run in runs:
        instance = run.get("cluster_instance") or {}
        cluster = instance.get("cluster_id") or run.get("existing_cluster_id")
        if cluster:
            context = str(instance.get("spark_context_id") or "")
            found[str(cluster)] = found.get(str(cluster)) or context
    return found


def _cluster_links(host: str, runs: Sequence[Mapping[str, Any]]) -> list[TaskLog]:
    links = []
    for cluster, context in [*clusters_of(runs).items()][:CLUSTERS_MAX]:
        base = f"{host}/#setting"
        uri = f"{base}/clusters/{cluster}/configuration"
        links.append(_link(f"Cluster {cluster}", uri))
        uri = f"{base}/sparkui/{cluster}/driver-logs"
        links.append(_link(f"Driver logs of {cluster}", uri))
        if context:
            uri = f"{base}/sparkui/{cluster}/{context}"
            links.append(_link(f"Spark UI of {cluster}", uri))
    return links


def _repair_links(run: Mapping[str, Any]) -> list[TaskLog]:
    """Return a link for each repair: the page of the first task that it ran again."""
    pages = {t.get("run_id"): t.get("run_page_url") for t in run.get("tasks") or ()}
    links = []
    for number, repair in enumerate(_repairs(run), 1):
        ran = (pages.get(task) for task in repair.get("task_run_ids") or ())
        uri = next(filter(None, ran), None)
        if uri:
            links.append(_link(f"Repair {number}", uri))
    return links


def _repairs(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    history = run.get("repair_history") or ()
    return [item for item in history if item.get("type") == _REPAIR][:REPAIRS_MAX]


def _link(name: str, uri: str) -> TaskLog:
    return TaskLog(uri=uri, name=name, ready=True, link_type=TaskLog.DASHBOARD)


def _message(run: Mapping[str, Any], phase: TaskExecution.Phase, given: Given) -> str:
    state = state_of(run)
    if phase == TaskExecution.UNDEFINED:
        state = STATES.words(state)
    said = [
        " ".join(filter(None, (state, result_of(run)))),
        str((run.get("state") or {}).get("state_message") or "")
        or str(details_of(run).get("message") or ""),
        *(f"{key}: {error}" for key, error in given.errors.items()),
        given.problem,
    ]
    return redacted("; ".join(filter(None, said)))


def _info(
    run: Mapping[str, Any],
    meta: DatabricksMeta,
    tasks: Sequence[Mapping[str, Any]],
    given: Given,
) -> dict[str, Any]:
    """Return cost and progress as JSON; what is not known yet is left out."""
    told = {
        "run_id": meta.run_id,
        "job_id": run.get("job_id") or meta.job_id,
        "attempt_number": run.get("attempt_number"),
        "original_attempt_run_id": run.get("original_attempt_run_id"),
        "creator": run.get("creator_user_name"),
        "run_type": run.get("run_type"),
        "performance_target": run.get("effective_performance_target"),
        "cluster_ids": [*clusters_of([run, *tasks])],
        **_progress(run),
        "tasks": {
            str(task.get("task_key", "")): _plain(
                {
                    "run_id": task.get("run_id"),
                    "attempt_number": task.get("attempt_number"),
                    "cluster_ids": [*clusters_of([task])],
                    **_progress(task),
                }
            )
            for task in tasks[:TASKS_MAX]
        },
        "tasks_total": len(tasks),
        "repairs": [
            _plain({"id": repair.get("id"), **_progress(repair)})
            for repair in _repairs(run)
        ],
        "errors": dict(given.errors),
        "error_trace": redacted(given.trace, _TRACE_MAX),
    }
    return _plain(told)


def _progress(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return state and times of a run, a task or a repair."""
    state, details = run.get("state") or {}, details_of(run)
    queue = (run.get("status") or {}).get("queue_details") or {}
    return {
        "state": state_of(run),
        "result": state.get("result_state"),
        "message": state.get("state_message"),
        "termination_code": details.get("code"),
        "termination_type": details.get("type"),
        "queue_reason": state.get("queue_reason") or queue.get("code"),
        "start_time_ms": run.get("start_time"),
        "end_time_ms": run.get("end_time"),
        **{f"{what}_ms": run.get(f"{what}_duration") for what in _TIMES},
    }


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """Return *told* without what is unknown, which Databricks also writes as 0."""
    return {
        name: value
        for name, value in told.items()
        if value or (value == 0 and name == "attempt_number")
    }
