"""Queries for people: executions, history, the ledger, what waits and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Select, and_, or_, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from orchestrator._clock import to_datetime
from orchestrator._phase import Cleanup, Phase, RemotePhase
from orchestrator._records import Execution, Job, Transition
from orchestrator._storage._lenient import is_sound, mended, raw
from orchestrator._storage._schema import (
    execution,
    external_job,
    history,
    node,
    template,
    timer,
)
from orchestrator._storage._tx import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

_T = TypeVar("_T")
_EXECUTION = (
    *execution.c,
    timer.c.due_at,
    timer.c.polls.label("timer_polls"),
    timer.c.errors.label("poll_errors"),
    timer.c.last_error,
)
FAR_US = 2**62
"""Later than every moment. Text and BLOBs count as later still, for SQLite."""
# Compared as text: a path would have to be spelled as the stored JSON spells it.
_LABELLED = (
    "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(execution.labels)"
    " THEN execution.labels END) WHERE key = :key_{0} AND value = :value_{0})"
)
_JOINED = execution.outerjoin(timer, timer.c.execution_id == execution.c.id)


def _moment(us: int | None) -> datetime | None:
    return None if us is None else to_datetime(us)


async def _records(
    connection: AsyncConnection,
    columns: Sequence[Any],
    query: Select[Any],
    make: Callable[[Any], _T],
) -> list[_T]:
    """Return what *make* makes of each row of *query*, which has *columns*.

    One row that cannot be read does not take the others away: then all are read
    again as bytes, and what is spoiled has a stand-in and says so.
    """
    try:
        rows = (await connection.execute(query)).all()
        if all(is_sound(row, columns) for row in rows):
            return [make(row) for row in rows]
    except (*UNREADABLE, DBAPIError, OverflowError) as error:
        if isinstance(error, DBAPIError) and "decode" not in str(error.orig):
            raise  # the database is away
        # A statement that failed midway would hold this moment of the database.
        await connection.rollback()
        if not isinstance(connection.sync_engine.pool, StaticPool):
            await connection.invalidate()
    spoiled = query.with_only_columns(*raw(columns), maintain_column_froms=True)
    rows = (await connection.execute(spoiled)).all()
    return [make(mended(row, columns)) for row in rows]


def _execution(row: Any) -> Execution:
    return Execution(
        id=row.id,
        name=row.name,
        task_type=row.task_type,
        task_version=row.task_version,
        phase=Phase(row.phase),
        attempt=row.attempt,
        version=row.version,
        submitted_at=to_datetime(row.submitted_at),
        updated_at=to_datetime(row.updated_at),
        start_at=_moment(row.start_at),
        finished_at=_moment(row.finished_at),
        deadline_at=_moment(row.deadline_at),
        due_at=_moment(row.due_at),
        remote_phase=RemotePhase(row.remote_phase) if row.remote_phase else None,
        message=row.message,
        inputs=json.loads(row.inputs_json),
        outputs=None if row.outputs_json is None else json.loads(row.outputs_json),
        outputs_proto=row.outputs,
        error_code=row.error_code,
        error_message=row.error_message,
        labels=json.loads(row.labels),
        priority=row.priority,
        idempotency_key=row.idempotency_key,
        retry_of=row.retry_of,
        job_key=row.job_key,
        resource_meta=row.meta,
        log_links=json.loads(row.log_links) if row.log_links else (),
        custom_info=json.loads(row.custom_info) if row.custom_info else None,
        hold=row.hold,
        waiting_on=row.waiting_on,
        abort_requested_at=_moment(row.abort_requested_at),
        abort_reason=row.abort_reason,
        polls=row.polls if row.timer_polls is None else row.timer_polls,
        poll_errors=row.poll_errors or 0,
        last_error=row.last_error,
        max_attempts=row.max_attempts,
        template_hash=row.template_hash,
    )


async def get(connection: AsyncConnection, execution_id: str) -> Execution | None:
    """Return one execution, None without it."""
    query = select(*_EXECUTION).select_from(_JOINED)
    query = query.where(execution.c.id == execution_id)
    rows = await _records(connection, _EXECUTION, query, _execution)
    return rows[0] if rows else None


async def find(
    connection: AsyncConnection,
    *,
    phases: Sequence[str] | None = None,
    task_type: str | None = None,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    held: bool | None = None,
    limit: int = 50,
    after: str | None = None,
) -> list[Execution]:
    """Return executions that match all filters, newest first.

    Ordering: by id, which is by submission time. *after* is the last id of the
    page before; rows submitted meanwhile never shift a page.
    """
    query: Select[Any] = select(*_EXECUTION).select_from(_JOINED)
    if phases is not None:
        query = query.where(execution.c.phase.in_(phases))
    if task_type is not None:
        query = query.where(execution.c.task_type == task_type)
    if name is not None:
        query = query.where(execution.c.name == name)
    if held is not None:
        query = query.where(execution.c.hold.is_not(None) == held)
    for number, (key, value) in enumerate((labels or {}).items()):
        bound = {f"key_{number}": key, f"value_{number}": value}
        query = query.where(text(_LABELLED.format(number)).bindparams(**bound))
    if after is not None:
        query = query.where(execution.c.id < after)
    query = query.order_by(execution.c.id.desc()).limit(limit)
    return await _records(connection, _EXECUTION, query, _execution)


async def terminal_of(
    connection: AsyncConnection, execution_ids: Sequence[str]
) -> list[str]:
    """Return which of these executions are terminal."""
    query = text(
        "SELECT id FROM execution WHERE finished_at IS NOT NULL"
        " AND id IN (SELECT value FROM json_each(:ids))"
    )
    result = await connection.execute(query, {"ids": json.dumps(list(execution_ids))})
    return [row[0] for row in result]


async def transitions(
    connection: AsyncConnection, execution_id: str
) -> list[Transition]:
    """Return an execution's history, oldest first."""
    query = select(history).where(history.c.execution_id == execution_id)
    rows = await connection.execute(query.order_by(history.c.version))
    return [
        Transition(
            execution_id=row.execution_id,
            version=row.version,
            attempt=row.attempt,
            cause=row.cause,
            from_phase=row.from_phase,
            to_phase=row.to_phase,
            remote_phase=row.remote_phase,
            at=to_datetime(row.at),
            message=row.message,
            node=row.node,
        )
        for row in rows
    ]


def _job(row: Any) -> Job:
    return Job(
        id=row.id,
        execution_id=row.execution_id,
        attempt=row.attempt,
        task_type=row.task_type,
        task_version=row.task_version,
        job_key=row.job_key,
        shared_key=row.shared_key,
        meta=row.meta,
        meta_version=row.meta_version,
        recorded_at=to_datetime(row.recorded_at),
        adopted_at=_moment(row.adopted_at),
        cleanup=Cleanup(row.cleanup),
        cleanup_due_at=_moment(row.cleanup_due_at),
        cleanup_tries=row.cleanup_tries,
        cleanup_error=row.cleanup_error,
    )


async def jobs(
    connection: AsyncConnection,
    *,
    execution_id: str | None = None,
    owing: bool = False,
    limit: int = 1000,
) -> list[Job]:
    """Return ledger entries, oldest first; *owing* keeps only DUE and ABANDONED."""
    query = select(external_job).order_by(external_job.c.id).limit(limit)
    if execution_id is not None:
        query = query.where(external_job.c.execution_id == execution_id)
    if owing:
        query = query.where(external_job.c.cleanup.in_(["DUE", "ABANDONED"]))
    return await _records(connection, list(external_job.c), query, _job)


async def adoptable(
    connection: AsyncConnection, execution_id: str, attempt: int
) -> Job | None:
    """Return the ledger entry that this attempt may adopt: its first, not yet due."""
    query = (
        select(external_job)
        .where(
            and_(
                external_job.c.execution_id == execution_id,
                external_job.c.attempt == attempt,
                external_job.c.cleanup == "NONE",
            )
        )
        .order_by(external_job.c.id)
        .limit(1)
    )
    row = (await connection.execute(query)).first()
    return None if row is None else _job(row)


async def template_proto(connection: AsyncConnection, digest: str) -> bytes | None:
    """Return a stored template, None without it."""
    query = select(template.c.proto).where(template.c.hash == digest)
    found = (await connection.execute(query)).scalar()
    return None if found is None else bytes(found)


async def inputs_proto(connection: AsyncConnection, execution_id: str) -> bytes | None:
    """Return an execution's encoded inputs, None without the execution."""
    query = select(execution.c.inputs).where(execution.c.id == execution_id)
    found = (await connection.execute(query)).scalar()
    return None if found is None else bytes(found)


async def next_due(
    connection: AsyncConnection, loaded: Sequence[tuple[str, int]], grace_us: int
) -> int | None:
    """Return when the next unclaimed row is due, None without one.

    Rows of task types that are not *loaded* count as due *grace_us* later.
    """
    known = json.dumps([f"{name} {version}" for name, version in loaded])
    query = text(
        "SELECT min(due) FROM ("
        "SELECT * FROM (SELECT due_at AS due FROM timer WHERE node IS NULL AND"
        " due_at <= :far AND task_type || ' ' || task_version IN"
        " (SELECT value FROM json_each(:known))"
        " ORDER BY due_at LIMIT 1) UNION ALL "
        "SELECT * FROM (SELECT due_at + :grace FROM timer WHERE node IS NULL"
        " AND due_at <= :far ORDER BY due_at LIMIT 1) UNION ALL "
        "SELECT * FROM (SELECT cleanup_due_at FROM external_job"
        " WHERE cleanup = 'DUE' AND cleanup_node IS NULL"
        " AND cleanup_due_at <= :far AND task_type || ' ' || task_version IN"
        " (SELECT value FROM json_each(:known)) ORDER BY cleanup_due_at LIMIT 1)"
        " UNION ALL "
        "SELECT * FROM (SELECT due_at FROM sweep"
        " WHERE task_type || ' ' || task_version IN"
        " (SELECT value FROM json_each(:known)) ORDER BY due_at LIMIT 1))"
    )
    found = (
        await connection.execute(
            query, {"known": known, "grace": grace_us, "far": FAR_US}
        )
    ).scalar()
    return None if found is None else int(found)


async def counts(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    """Return the rollup counters: (task type, phase) -> number of executions."""
    rows = await connection.execute(
        text("SELECT task_type, phase, executions FROM counter WHERE executions <> 0")
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def nodes(connection: AsyncConnection) -> list[Row[Any]]:
    """Return the nodes that have not ended, oldest first."""
    query = select(node).where(node.c.ended_at.is_(None))
    rows = await connection.execute(query.order_by(node.c.started_at, node.c.id))
    return list(rows)


async def orphans(connection: AsyncConnection, since: int) -> list[Row[Any]]:
    """Return jobs that are owed, or were lost since a moment, oldest first."""
    query = text(
        "SELECT execution_id, attempt, task_type, job_key, state, error"
        " FROM orphans_v1 WHERE state = 'DUE' OR recorded_at >= :since"
        " ORDER BY recorded_at"
    )
    moment = to_datetime(since).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return list(await connection.execute(query, {"since": moment}))


async def stuck(connection: AsyncConnection, overdue_before: int) -> list[Execution]:
    """Return live rows that wait for somebody: held, or due before a moment."""
    query = (
        select(*_EXECUTION)
        .select_from(_JOINED)
        .where(
            or_(
                execution.c.hold.is_not(None),
                timer.c.due_at < overdue_before,
                timer.c.due_at > FAR_US,  # garbage: it never comes due
            )
        )
        .order_by(execution.c.id)
        .limit(1000)
    )
    return await _records(connection, _EXECUTION, query, _execution)
