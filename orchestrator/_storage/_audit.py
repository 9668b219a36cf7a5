"""The invariants of every committed state: one query each, which must find nothing.

Made from the table of transitions and from constants, never from what a user gave.
Each query is one SELECT that names its columns, the execution's id first (null
where none is to blame). They hold at any moment, also while processes write; what
has to be over before it can be judged is asked by the tests, of the services too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from orchestrator._machine import INTENTS, NEXT_ATTEMPT, TRANSITIONS
from orchestrator._phase import LIVE, TERMINAL, Cause, Cleanup, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

SHOWN_MAX = 20
"""Offending rows of one invariant that a finding shows; all are counted."""

_WISH_SLACK_US = 60_000_000
"""A wish is stamped when it is asked for, and committed a little later."""
_UNWATCHED_US = 86_400_000_000
"""A create call that nobody owns is looked for long before this."""


class Invariant(NamedTuple):
    """What must hold.

    Attributes:
        name: Short and stable, such as ``Q3``.
        says: What must hold, in one sentence.
        query: Finds what breaks it.
        elsewhere: What of it a database cannot say of itself, and who checks that.
    """

    name: str
    says: str
    query: str
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant that is broken.

    Attributes:
        name: The invariant's.
        says: What must hold, and does not.
        count: How many rows break it.
        rows: Some of them, as column to value, ``execution_id`` first; fewer than
            *count* if there are many, none if they cannot be read.
    """

    name: str
    says: str
    count: int
    rows: tuple[Mapping[str, Any], ...]


def _in(words: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in sorted(map(str, words))) + ")"


_ENDED = _in(TERMINAL)
_JOBLESS = _in(p for p in LIVE if p not in (Phase.RUNNING, Phase.ABORTING))
_INTENTS = _in(INTENTS)
_NEXT = _in(NEXT_ATTEMPT)
_JOB_ENDED = _in(NEXT_ATTEMPT & {c for p, c in TRANSITIONS if p is Phase.RUNNING})
_EDGES = ", ".join(
    f"('{source or '-'}', '{cause}', '{target}')"
    for (source, cause), target in sorted(TRANSITIONS.items(), key=str)
)
_WITNESS = "the simulation and the crash campaign ask the services"

_HISTORY = (
    Invariant(
        "Q1",
        "the last transition is the row's phase, version and attempt",
        f"""
        SELECT e.id AS execution_id, e.phase, e.version, e.attempt, h.cause,
          h.to_phase, h.version AS last_version, h.attempt AS last_attempt
        FROM execution e LEFT JOIN history h ON h.execution_id = e.id
         AND h.version = (SELECT max(version) FROM history
                          WHERE execution_id = e.id)
        WHERE h.version IS NULL OR h.version <> e.version OR h.to_phase <> e.phase
          -- what begins an attempt is the last transition of the one before
          OR e.attempt <> h.attempt + CASE WHEN h.cause IN {_NEXT} THEN 1 ELSE 0 END
        """,
    ),
    Invariant(
        "Q2",
        "versions count from 1 without a gap",
        """
        SELECT execution_id, count(*) AS transitions, min(version) AS first_version,
          max(version) AS last_version
        FROM history GROUP BY execution_id
        HAVING count(*) <> max(version) OR min(version) <> 1""",
    ),
    Invariant(
        "Q3",
        "a transition starts in the phase in which the one before ended",
        """
        SELECT h.execution_id, h.version, h.from_phase, p.to_phase AS ended_in
        FROM history h JOIN history p
          ON p.execution_id = h.execution_id AND p.version = h.version - 1
        WHERE coalesce(h.from_phase, '-') <> p.to_phase""",
    ),
    Invariant(
        "Q4",
        "every transition is in the table of phases and causes",
        f"""
        SELECT execution_id, version, from_phase, cause, to_phase FROM history
        WHERE (coalesce(from_phase, '-'), cause, to_phase) NOT IN (VALUES {_EDGES})
        """,
    ),
    Invariant(
        "Q5",
        "the lease epoch of an execution never goes back",
        """
        SELECT h.execution_id, h.version, p.epoch AS before, h.epoch AS epoch
        FROM history h JOIN history p
          ON p.execution_id = h.execution_id AND p.version = h.version - 1
        WHERE h.epoch < p.epoch
        UNION ALL
        SELECT t.execution_id, NULL, max(h.epoch), t.epoch
        FROM timer t JOIN history h ON h.execution_id = t.execution_id
        GROUP BY t.execution_id, t.epoch HAVING t.epoch < max(h.epoch)""",
        "only epochs that a transition or the timer shows are compared; a test lets"
        " a paused process write",
    ),
)

_JOBS = (
    Invariant(
        "Q6",
        "every create call has a committed intent",
        f"""
        SELECT j.execution_id, j.attempt, j.job_key, NULL AS creates
        FROM external_job j WHERE NOT EXISTS (
          SELECT 1 FROM history h WHERE h.execution_id = j.execution_id
          AND h.attempt = j.attempt
          AND h.cause IN ('{Cause.CREATE_INTENT}', '{Cause.ATTACHED}'))
        UNION ALL
        SELECT e.id, e.attempt, NULL, e.creates FROM execution e
        WHERE e.creates > (
          SELECT count(*) FROM history h WHERE h.execution_id = e.id
          AND h.attempt = e.attempt AND h.cause IN {_INTENTS})""",
        "here: a job in the ledger and a counted call have their intent."
        f" Calls that left no trace: {_WITNESS} how often each token was created",
    ),
    Invariant(
        "Q7",
        "an attempt has one token, and attempts count up by one, by a retry",
        f"""
        SELECT h.execution_id, h.version, h.attempt, p.cause AS after_cause,
          NULL AS token
        FROM history h LEFT JOIN history p
          ON p.execution_id = h.execution_id AND p.version = h.version - 1
        WHERE h.attempt <>
          p.attempt + CASE WHEN p.cause IN {_NEXT} THEN 1 ELSE 0 END
          OR (h.version = 1 AND h.attempt <> 1)
        UNION ALL
        SELECT execution_id, NULL, attempt, NULL, token FROM sweep
        WHERE token <> 'o' || execution_id || '-' || attempt
        UNION ALL
        SELECT j.execution_id, NULL, j.attempt, NULL, j.job_key FROM external_job j
        JOIN history h ON h.execution_id = j.execution_id AND h.version = 1
        WHERE j.job_key <> 'o' || j.execution_id || '-' || j.attempt
          -- a job that is named by a token is that attempt's, unless taken over
          AND substr(j.job_key, 1, 1) = 'o' AND substr(j.job_key, 34, 1) = '-'
          AND EXISTS (SELECT 1 FROM execution o WHERE o.id = substr(j.job_key, 2, 32))
          AND h.cause <> '{Cause.ATTACHED}'""",
        "a token is made of id and attempt, and is not stored: here what it is made"
        f" of, and where it shows. What calls carried: {_WITNESS}",
    ),
    Invariant(
        "Q8",
        "an attempt adopts one job; the others owe cleanup",
        f"""
        SELECT execution_id, attempt, min(job_key) AS job_key, count(*) AS adopted
        FROM external_job WHERE adopted_at IS NOT NULL
        GROUP BY execution_id, attempt HAVING count(*) > 1
        UNION ALL
        SELECT j.execution_id, j.attempt, j.job_key, 0 FROM external_job j
        JOIN execution e ON e.id = j.execution_id
        WHERE j.adopted_at IS NULL AND j.cleanup = '{Cleanup.NONE}'
          AND (e.phase NOT IN {_JOBLESS} OR e.attempt <> j.attempt)""",
        f"jobs that no answer told of are not in the ledger: {_WITNESS}",
    ),
    Invariant(
        "Q9",
        "a terminal execution's job was seen ended, or its end is confirmed or owed",
        f"""
        SELECT j.execution_id, j.attempt, j.job_key, e.phase, h.cause
        FROM external_job j
        JOIN execution e ON e.id = j.execution_id AND e.attempt = j.attempt
        JOIN history h ON h.execution_id = e.id AND h.version = e.version
        WHERE e.phase IN {_ENDED} AND j.adopted_at IS NOT NULL
          AND j.cleanup = '{Cleanup.NONE}'
          AND coalesce(h.from_phase, '-') <> '{Phase.RUNNING}'""",
        f"whether the job is really over: {_WITNESS}. Jobs still owed are listed by"
        " orphans_v1",
    ),
    Invariant(
        "Q10",
        "SUCCEEDED means that the attempt's own job was seen succeeding",
        f"""
        SELECT e.id AS execution_id, e.attempt, e.job_key, e.remote_phase,
          h.cause, h.remote_phase AS seen
        FROM execution e
        LEFT JOIN history h ON h.execution_id = e.id AND h.version = e.version
        WHERE e.phase = '{Phase.SUCCEEDED}' AND (
          coalesce(e.remote_phase, '-') <> 'SUCCEEDED'
          OR coalesce(h.remote_phase, '-') <> 'SUCCEEDED'
          OR NOT EXISTS (
            SELECT 1 FROM external_job j WHERE j.task_type = e.task_type
            AND j.task_version = e.task_version AND j.job_key = e.job_key
            AND j.adopted_at IS NOT NULL)
          OR EXISTS (
            SELECT 1 FROM external_job j WHERE j.execution_id = e.id
            AND j.attempt = e.attempt AND j.adopted_at IS NOT NULL
            AND j.job_key <> e.job_key))""",
        f"whether that job succeeded, with these outputs: {_WITNESS}",
    ),
    Invariant(
        "Q11",
        "no attempt starts after an abort was wished",
        f"""
        SELECT h.execution_id, h.version, h.attempt, h.at, e.abort_requested_at
        FROM history h JOIN execution e ON e.id = h.execution_id
        WHERE h.cause = '{Cause.CREATE_INTENT}' AND (
          EXISTS (SELECT 1 FROM history w WHERE w.execution_id = h.execution_id
                  AND w.version < h.version AND w.cause = '{Cause.ABORT_REQUESTED}')
          OR (h.at > e.abort_requested_at + {_WISH_SLACK_US}
              AND h.version < e.version
              -- no clock was set back between the two
              AND NOT EXISTS (SELECT 1 FROM history l
                              WHERE l.execution_id = h.execution_id
                              AND l.version > h.version AND l.at < h.at)))""",
        "times tell it to a minute, and not where a clock was set back and forth; a"
        " test holds the guard that refuses such an intent in its commit",
    ),
    Invariant(
        "Q12",
        "attempt k+1 starts only when job k was seen ended, or is confirmed gone",
        f"""
        SELECT j.execution_id, j.attempt, j.job_key, j.cleanup, h.cause
        FROM external_job j
        JOIN execution e ON e.id = j.execution_id AND e.attempt > j.attempt
        JOIN history h ON h.execution_id = j.execution_id AND h.version = (
          SELECT max(l.version) FROM history l
          WHERE l.execution_id = j.execution_id AND l.attempt = j.attempt)
        WHERE j.adopted_at IS NOT NULL AND j.cleanup <> '{Cleanup.DONE}'
          AND h.cause NOT IN {_JOB_ENDED}""",
        f"whether two of its jobs lived at one time: {_WITNESS}",
    ),
    Invariant(
        "Q13",
        "no open create call, and no other claim, is without an owner",
        f"""
        SELECT t.execution_id, e.phase, t.node, n.ended_at, t.due_at, NULL AS job_key
        FROM timer t JOIN execution e ON e.id = t.execution_id
        LEFT JOIN node n ON n.id = t.node
        WHERE (t.node IS NOT NULL AND (n.id IS NULL OR n.ended_at IS NOT NULL))
          -- a call without owner is found when due: soon, unless on hold
          OR (t.node IS NULL AND e.phase = '{Phase.CREATING}' AND e.hold IS NULL
              AND t.due_at > e.updated_at + {_UNWATCHED_US})
        UNION ALL
        SELECT j.execution_id, NULL, j.cleanup_node, n.ended_at, j.cleanup_due_at,
          j.job_key
        FROM external_job j LEFT JOIN node n ON n.id = j.cleanup_node
        WHERE j.cleanup_node IS NOT NULL
          AND (n.id IS NULL OR n.ended_at IS NOT NULL)""",
        "whether the owner's process lives is told by its lock and lease, which"
        " doctor shows; what a call does that outlives its owner is found by asking"
        " the services",
    ),
)

_BOOKS = (
    Invariant(
        "timer",
        "a live execution has a timer, a terminal one has none",
        f"""
        SELECT e.id AS execution_id, e.phase, t.due_at FROM execution e
        LEFT JOIN timer t ON t.execution_id = e.id
        WHERE (e.phase IN {_ENDED}) = (t.execution_id IS NOT NULL)
        UNION ALL SELECT t.execution_id, NULL, t.due_at FROM timer t
        LEFT JOIN execution e ON e.id = t.execution_id WHERE e.id IS NULL""",
    ),
    Invariant(
        "end",
        "a terminal execution has one terminal transition and one event, others none",
        f"""
        SELECT execution_id, phase, ends, events, own_events FROM (
          SELECT e.id AS execution_id, e.phase,
            CASE WHEN e.phase IN {_ENDED} THEN 1 ELSE 0 END AS wanted,
            (SELECT count(*) FROM history h WHERE h.execution_id = e.id
             AND h.to_phase IN {_ENDED}) AS ends,
            (SELECT count(*) FROM outbox o WHERE o.execution_id = e.id) AS events,
            (SELECT count(*) FROM outbox o WHERE o.execution_id = e.id
             AND o.version = e.version AND o.phase = e.phase) AS own_events
          FROM execution e) AS counted
        WHERE ends <> wanted OR events <> wanted OR own_events <> wanted""",
    ),
    Invariant(
        "counter",
        "the counters count the executions",
        """
        SELECT NULL AS execution_id, task_type, phase, sum(counted) AS counted,
          sum(found) AS found
        FROM (SELECT task_type, phase, executions AS counted, 0 AS found FROM counter
              UNION ALL
              SELECT task_type, phase, 0, count(*) FROM execution
              GROUP BY task_type, phase) AS books
        GROUP BY task_type, phase HAVING sum(counted) <> sum(found)""",
    ),
    Invariant(
        "job",
        "an execution that is RUNNING or ABORTING has its job in the ledger",
        f"""
        SELECT e.id AS execution_id, e.phase, e.job_key FROM execution e
        WHERE e.phase IN ('{Phase.RUNNING}', '{Phase.ABORTING}') AND NOT EXISTS (
          SELECT 1 FROM external_job j WHERE j.task_type = e.task_type
          AND j.task_version = e.task_version AND j.job_key = e.job_key
          AND j.adopted_at IS NOT NULL)""",
    ),
    Invariant(
        "key",
        "an idempotency key leads to the execution that has it",
        """
        SELECT k.execution_id, k.key, e.idempotency_key FROM idempotency_key k
        LEFT JOIN execution e ON e.id = k.execution_id
        WHERE e.id IS NULL OR coalesce(e.idempotency_key, '') <> k.key""",
    ),
)

INVARIANTS: tuple[Invariant, ...] = (*_HISTORY, *_JOBS, *_BOOKS)
"""All of them, in the order in which they are asked."""


async def findings(
    connection: AsyncConnection, shown: int, *, begin: bool
) -> list[Finding]:
    """Return the invariants that are broken, with up to *shown* rows each.

    One committed state is asked, also while others write, who do not wait for it:
    *begin* opens the transaction for that. Standing inside ``FROM ( )``, a query
    cannot be anything but a read.
    """
    if begin:
        await connection.exec_driver_sql("BEGIN")
    broken = []
    for invariant in INVARIANTS:
        inner = f"FROM ({invariant.query}) AS broken"
        counted = await connection.execute(text(f"SELECT count(*) {inner}"))
        count = int(counted.scalar_one())
        if count:
            query = text(f"SELECT * {inner} LIMIT {int(shown)}")
            try:
                rows = (await connection.execute(query)).mappings().all()
            except DBAPIError:  # text that is none: that rows are broken stays true
                rows = []
            found = tuple(dict(row) for row in rows)
            broken.append(Finding(invariant.name, invariant.says, count, found))
    return broken
