"""What each process could know when it decided: its time, and its connectors."""

# ruff: noqa: S608 - the pieces are constants of this module

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from orchestrator._clock import duration_to_us
from orchestrator._ids import create_token
from orchestrator._phase import Cause
from orchestrator._tasks._limits import as_timedelta

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orchestrator import Timeout
    from tests.simulation.clock import SteppingClock
    from tests.simulation.invariants import Database
    from tests.simulation.world import Kind, World

SMALL_STEP_US = 5_000_000
"""A step that no process notices; limits may be off by as much."""

GETS_MAX = 40
"""More calls of ``get`` for one job in a minute are a storm."""
_MINUTE_US = 60_000_000

_DEADLINES = (Cause.DEADLINE_EXCEEDED, Cause.DEADLINE_UNSUBMITTED)
_QUEUED = (Cause.QUEUED_TIMEOUT, Cause.QUEUED_TIMEOUT_UNSUBMITTED)
_EXPIRED = "', '".join((*_DEADLINES, *_QUEUED, Cause.RUN_TIMEOUT))

_WITHOUT_CONNECTOR = (
    # What needs no call goes on; the rest waits.
    Cause.HOLD_SET,
    Cause.ABORTED_UNSUBMITTED,
    *(Cause.DEADLINE_UNSUBMITTED, Cause.QUEUED_TIMEOUT_UNSUBMITTED),
    *(Cause.KNOWN_ABSENT_DELAYED, Cause.GIVEN_UP),
)
_UNREADABLE = ("%cannot be decoded%", "%run the newer code%")


class Life(NamedTuple):
    """One process: since when it lives, in real time, and what it cannot run."""

    began: int
    missing: Kind | None


def early(
    database: Database,
    limits: Mapping[str, Timeout],
    lives: Mapping[str, Life],
    world: World,
) -> Iterator[str]:
    """Return the time limits that fired before their time, by real time.

    What the wall clock did before a process began nobody can tell it, so that it
    believes it; a step in its own life it has to see through.
    """
    clock = world.clock
    query = f"""SELECT execution_id, attempt, cause, at, node FROM history
                WHERE cause IN ('{_EXPIRED}') ORDER BY execution_id, version"""
    for execution_id, attempt, cause, at, node in database.rows(query):
        life, timeout = lives.get(node), limits[execution_id]
        if life is None:
            continue
        if cause in _DEADLINES:
            limit, since = timeout.deadline, _began(database, clock, execution_id, 1)
        elif cause in _QUEUED:
            limit = timeout.max_queued_time
            since = _began(database, clock, execution_id, attempt)
        else:
            limit = timeout.max_runtime
            jobs = world.of_token(create_token(execution_id, attempt))
            since = min(job.runs_at for job in jobs)
        assert limit is not None
        fired = clock.when(at)[1]
        steps = clock.stepped(since, fired)
        small = sum(abs(s.size) for s in steps if abs(s.size) <= SMALL_STEP_US)
        unseen = sum(s.size for s in steps if s.at <= life.began)
        believed = fired - since + small + max(unseen, 0)
        if believed < duration_to_us(as_timedelta(limit)):
            yield (
                f"early: {cause} of {execution_id}-{attempt} after"
                f" {(fired - since) / 1e6} s, believed {believed / 1e6}, of {limit}"
            )


def _began(
    database: Database, clock: SteppingClock, execution_id: str, attempt: int
) -> int:
    """Return when an attempt began, in real time."""
    query = """SELECT at FROM history WHERE execution_id = ? AND attempt <= ?
               ORDER BY version DESC LIMIT 1"""
    if attempt == 1:
        query = "SELECT at FROM history WHERE execution_id = ? AND version = ?"
        return clock.when(database.number(query, execution_id, 1))[0]
    # The last transition of the attempt before, which begins this one.
    return clock.when(database.number(query, execution_id, attempt - 1))[0]


def burnt(database: Database, lives: Mapping[str, Life]) -> Iterator[str]:
    """Return what a missing connector or an unreadable meta cost an execution."""
    for node, life in lives.items():
        if life.missing is None:
            continue
        query = """SELECT h.execution_id, h.cause FROM history h
                   JOIN execution e ON e.id = h.execution_id
                   WHERE h.node = ? AND e.task_type = ?"""
        kind = f"sim-{life.missing.lower()}"
        for execution_id, cause in database.rows(query, node, kind):
            if cause not in _WITHOUT_CONNECTOR:
                yield f"burnt: {execution_id} has {cause} without a connector"
    query = """SELECT execution_id, cause, message FROM history
               WHERE (message LIKE ? OR message LIKE ?) AND cause <> 'HOLD_SET'"""
    for execution_id, cause, message in database.rows(query, *_UNREADABLE):
        yield f"burnt: {execution_id} has {cause}: {message}"


def storms(world: World) -> Iterator[str]:
    """Return the jobs that were asked about far too often, by real time."""
    for job_id, moments in world.gets.items():
        most = busiest(moments)
        if most > GETS_MAX:
            yield f"storm: {most} calls of get for {job_id} within a minute"


def busiest(moments: Iterable[int]) -> int:
    """Return how many of *moments*, in order, lie within one minute at most."""
    known = list(moments)
    return max(
        (i + 1 - bisect_left(known, at - _MINUTE_US) for i, at in enumerate(known)),
        default=0,
    )
