"""Triggers and audit views: what tables alone cannot say. One source per dialect.

A migration that recreates a table calls `drop_all` before and `create_all` after,
since SQLite drops a table's triggers with it and refuses while a view reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator._storage._schema import TERMINAL_SQL

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_PERMIT = "NOT EXISTS (SELECT 1 FROM prune_permit)"
_OLD_TERMINAL = TERMINAL_SQL.replace("phase IN", "OLD.phase IN")


def _refuse(name: str, event: str, table: str, when: str, why: str) -> tuple[str, str]:
    sql = (
        f"CREATE TRIGGER {name} BEFORE {event} ON {table}"
        + (f" WHEN {when}" if when else "")
        + f" BEGIN SELECT RAISE(ABORT, '{why}'); END"
    )
    return name, sql


SQLITE_TRIGGERS = dict(
    [
        _refuse(
            "history_no_update",
            "UPDATE",
            "history",
            "",
            "history is append-only",
        ),
        _refuse(
            "history_no_delete",
            "DELETE",
            "history",
            _NO_PERMIT,
            "history is append-only",
        ),
        _refuse(
            # INSERT OR REPLACE deletes without a delete trigger.
            "history_no_replace",
            "INSERT",
            "history",
            "EXISTS (SELECT 1 FROM history WHERE execution_id = NEW.execution_id"
            " AND version = NEW.version)",
            "history is append-only",
        ),
        _refuse(
            "execution_terminal",
            "UPDATE",
            "execution",
            _OLD_TERMINAL,
            "a terminal row never changes",
        ),
        _refuse(
            "execution_version",
            "UPDATE OF phase",
            "execution",
            "NEW.phase <> OLD.phase AND NEW.version <> OLD.version + 1",
            "a transition adds one to the version",
        ),
        _refuse(
            "execution_no_delete",
            "DELETE",
            "execution",
            _NO_PERMIT,
            "executions are pruned, never deleted",
        ),
        _refuse(
            "execution_no_replace",
            "INSERT",
            "execution",
            "EXISTS (SELECT 1 FROM execution WHERE id = NEW.id)",
            "an execution is never replaced",
        ),
        _refuse(
            "timer_epoch",
            "UPDATE OF epoch",
            "timer",
            "NEW.epoch < OLD.epoch",
            "the lease epoch never goes back",
        ),
        _refuse(
            "external_job_no_delete",
            "DELETE",
            "external_job",
            _NO_PERMIT,
            "the ledger is append-only",
        ),
        _refuse(
            "external_job_facts",
            "UPDATE OF execution_id, attempt, job_key, shared_key, meta, meta_version,"
            " recorded_at",
            "external_job",
            "",
            "the ledger is append-only",
        ),
        _refuse(
            "external_job_cleanup",
            "UPDATE OF adopted_at",
            "external_job",
            "OLD.cleanup <> 'NONE' AND NEW.adopted_at IS NOT OLD.adopted_at",
            "an entry once due is never adopted",
        ),
    ]
)


def _iso(column: str) -> str:
    """Return SQL that shows stored microseconds as ISO-8601, exactly."""
    return (
        f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
        f" || printf('.%06dZ', {column} % 1000000)"
    )


SQLITE_VIEWS = {
    "executions_v1": f"""
SELECT e.id, e.name, e.task_type, e.task_version, e.phase, e.attempt, e.max_attempts,
 e.version, e.remote_phase, e.message, e.hold, e.waiting_on, e.error_code,
 e.error_message, e.labels, e.priority, e.idempotency_key, e.retry_of, e.job_key,
 e.inputs_json AS inputs, e.outputs_json AS outputs,
 e.polls + coalesce(t.polls, 0) AS polls, coalesce(t.errors, 0) AS poll_errors,
 t.last_error, {_iso("e.submitted_at")} AS submitted_at,
 {_iso("e.start_at")} AS start_at, {_iso("e.updated_at")} AS updated_at,
 {_iso("e.finished_at")} AS finished_at, {_iso("e.deadline_at")} AS deadline_at,
 {_iso("t.due_at")} AS due_at,
 {_iso("e.abort_requested_at")} AS abort_requested_at, e.abort_reason,
 (coalesce(e.finished_at, e.updated_at) - e.submitted_at) / 1e6 AS seconds
FROM execution e LEFT JOIN timer t ON t.execution_id = e.id""",
    "history_v1": f"""
SELECT h.execution_id, h.version, h.attempt, h.cause, h.from_phase, h.to_phase,
 h.remote_phase, {_iso("h.at")} AS at, h.message, h.node, h.epoch,
 (h.at - lag(h.at) OVER (PARTITION BY h.execution_id ORDER BY h.version)) / 1e6
 AS seconds_since_previous
FROM history h""",
    "attempts_v1": f"""
SELECT h.execution_id, h.attempt, count(*) AS transitions,
 {_iso("min(h.at)")} AS began_at, {_iso("max(h.at)")} AS last_at,
 (max(h.at) - min(h.at)) / 1e6 AS seconds,
 (SELECT l.to_phase FROM history l WHERE l.execution_id = h.execution_id
  AND l.attempt = h.attempt ORDER BY l.version DESC LIMIT 1) AS phase,
 (SELECT l.cause FROM history l WHERE l.execution_id = h.execution_id
  AND l.attempt = h.attempt ORDER BY l.version DESC LIMIT 1) AS cause
FROM history h GROUP BY h.execution_id, h.attempt""",
    "jobs_v1": f"""
SELECT j.id, j.execution_id, j.attempt, j.task_type, j.task_version, j.job_key,
 j.shared_key, CAST(j.meta AS TEXT) AS meta, j.meta_version,
 {_iso("j.recorded_at")} AS recorded_at,
 {_iso("j.adopted_at")} AS adopted_at, j.cleanup,
 {_iso("j.cleanup_due_at")} AS cleanup_due_at, j.cleanup_tries, j.cleanup_error
FROM external_job j""",
    "orphans_v1": f"""
SELECT j.execution_id, j.attempt, j.task_type, j.job_key, j.shared_key,
 j.cleanup AS state,
 j.cleanup_error AS error, {_iso("j.recorded_at")} AS recorded_at
FROM external_job j WHERE j.cleanup IN ('DUE', 'ABANDONED')
UNION ALL
SELECT e.id, e.attempt, e.task_type, NULL, NULL, e.error_code, e.error_message,
 {_iso("e.finished_at")}
FROM execution e WHERE e.error_code = 'CREATE_OUTCOME_UNKNOWN'""",
    "polls_v1": """
SELECT e.task_type, e.task_version, count(*) AS executions,
 sum(e.polls + coalesce(t.polls, 0)) AS polls,
 avg(e.polls + coalesce(t.polls, 0)) AS polls_per_execution,
 sum(coalesce(t.errors, 0)) AS errors_now
FROM execution e LEFT JOIN timer t ON t.execution_id = e.id
GROUP BY e.task_type, e.task_version""",
    "connectors_v1": f"""
SELECT c.task_type, c.task_version, c.name, {_iso("c.seen_at")} AS seen_at,
 {_iso("c.paused_at")} AS paused_at, c.paused_reason,
 {_iso("c.broken_until")} AS broken_until, c.errors, c.last_error,
 (SELECT coalesce(sum(k.executions), 0) FROM counter k
  WHERE k.task_type = c.task_type AND k.phase = 'RUNNING') AS running
FROM connector c""",
}


def create_all(execute: Callable[[str], object]) -> None:
    """Create every trigger and view with *execute*, a function of one statement."""
    for sql in SQLITE_TRIGGERS.values():
        execute(sql)
    for name, sql in SQLITE_VIEWS.items():
        execute(f"CREATE VIEW {name} AS{sql}")


def drop_all(execute: Callable[[str], object]) -> None:
    """Drop every view and trigger, views first."""
    for name in reversed(SQLITE_VIEWS):
        execute(f"DROP VIEW IF EXISTS {name}")
    for name in SQLITE_TRIGGERS:
        execute(f"DROP TRIGGER IF EXISTS {name}")
