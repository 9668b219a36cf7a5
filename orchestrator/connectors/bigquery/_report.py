"""What a BigQuery job tells, as a Resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator._connector import Resource
from orchestrator.connectors.bigquery._states import STATES, phase_of
from orchestrator.connectors.utils import redacted
from orchestrator.io import DataFrame

if TYPE_CHECKING:
    from google.cloud.bigquery import TableReference
    from google.cloud.bigquery.job import QueryJob

    from orchestrator.connectors.bigquery._meta import BigQueryMeta


def report(job: QueryJob, meta: BigQueryMeta) -> Resource:
    """Return phase, message, link, statistics and, at the end, the results."""
    error = job.error_result
    phase = phase_of(str(job.state), str(error.get("reason")) if error else None)
    outputs = None
    if phase == TaskExecution.SUCCEEDED and "results" in meta.outputs:
        outputs = _results(job)
    return Resource(
        phase=phase,
        message=_message(job, error),
        log_links=[console_link(meta)],
        outputs=outputs,
        custom_info=statistics(job),
    )


def console_link(meta: BigQueryMeta) -> TaskLog:
    """Return the link to the job's page in Google's console."""
    job = quote(f"bq:{meta.location}:{meta.job_id}", safe=":")
    uri = (
        "https://console.cloud.google.com/bigquery"
        f"?project={quote(meta.project, safe=':')}&j={job}&page=queryresults"
    )
    link_type = TaskLog.DASHBOARD
    return TaskLog(uri=uri, name="BigQuery Console", ready=True, link_type=link_type)


def statistics(job: QueryJob) -> dict[str, Any]:
    """Return cost and progress as JSON; what is not known yet is left out."""
    plan, timeline = job.query_plan, job.timeline
    told: dict[str, Any] = {
        "state": job.state,
        "statement_type": job.statement_type,
        "total_bytes_processed": job.total_bytes_processed,
        "total_bytes_billed": job.total_bytes_billed,
        "slot_millis": job.slot_millis,
        "cache_hit": job.cache_hit,
        "rows_affected": job.num_dml_affected_rows,
        "child_jobs": job.num_child_jobs or None,
        "created": job.created and job.created.isoformat(),
        "started": job.started and job.started.isoformat(),
        "ended": job.ended and job.ended.isoformat(),
        "error": job.error_result,
        "destination": job.destination and _uri(job.destination),
    }
    if plan:
        complete = sum(stage.status == "COMPLETE" for stage in plan)
        told |= {"stages": len(plan), "stages_complete": complete}
    if timeline:
        last = timeline[-1]
        told |= {
            "units_complete": last.completed_units,
            "units_active": last.active_units,
            "units_pending": last.pending_units,
        }
    return {name: value for name, value in told.items() if value is not None}


def _message(job: QueryJob, error: dict[str, Any] | None) -> str:
    if not error:
        return STATES.words(str(job.state))
    where = f" (at {error['location']})" if error.get("location") else ""
    text = f"{error.get('reason')}: {error.get('message')}{where}"
    return redacted(text)


def _results(job: QueryJob) -> dict[str, DataFrame]:
    """Return the reference to the results; nothing for a statement without a table."""
    return {"results": DataFrame(uri=_uri(job.destination))} if job.destination else {}


def _uri(table: TableReference) -> str:
    """Return the destination as Flyte writes it."""
    return f"bq://{table.project}:{table.dataset_id}.{table.table_id}"
