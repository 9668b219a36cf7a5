"""What the database itself refuses: whoever writes, with whatever tool."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from orchestrator._machine import decide
from orchestrator._phase import TERMINAL, Phase, RemotePhase
from orchestrator._records import Due, Got
from tests.support.factories import (
    NOW,
    make_claimed,
    make_job,
    make_policies,
    succeeded,
)
from tests.support.stores import (
    REFUSED,
    apply,
    dump,
    execute,
    make_queued,
    make_row,
    query,
)

if TYPE_CHECKING:
    from orchestrator._records import Claimed, Observation
    from orchestrator._storage import Store

PERMIT = "INSERT INTO prune_permit (id, reason, at) VALUES (1, 'retention', 0)"
NO_PERMIT = "DELETE FROM prune_permit"


async def _refused(store: Store, *statements: str, match: str = ".") -> None:
    before = await dump(store)
    with pytest.raises(REFUSED, match=match):
        await execute(store, *statements)
    assert await dump(store) == before


ENDS: dict[Phase, tuple[Claimed, Observation]] = {
    Phase.SUCCEEDED: (make_claimed(Phase.RUNNING), succeeded()),
    Phase.FAILED: (make_claimed(Phase.RUNNING), Got(RemotePhase.FAILED)),
    Phase.ABORTED: (make_claimed(abort_requested_at=NOW), Due()),
    Phase.TIMED_OUT: (make_claimed(deadline_at=NOW), Due()),
}


async def _ended(store: Store, phase: Phase = Phase.SUCCEEDED) -> str:
    template, observation = ENDS[phase]
    row = await make_row(store, template)
    change = decide(row, observation, NOW, make_policies(), Random(1))
    assert await apply(store, row, change)
    return row.id


# Terminal rows


@pytest.mark.parametrize("phase", sorted(TERMINAL))
async def test_a_terminal_row_never_changes_again(store: Store, phase: Phase) -> None:
    await _ended(store, phase)
    for assignment in (
        "message = 'late'",
        "phase = 'RUNNING', version = version + 1",
        "phase = 'QUEUED', version = version + 1, finished_at = NULL",
        "outputs = NULL",
        "labels = '{}'",
    ):
        await _refused(store, f"UPDATE execution SET {assignment}", match="terminal")  # noqa: S608


async def test_a_terminal_row_takes_no_wish(store: Store) -> None:
    ended = await _ended(store)
    before = await dump(store)
    assert await store.wish_abort(ended, "too late", NOW) is False
    assert await store.wake(ended, NOW) is False
    assert await dump(store) == before


async def test_no_execution_is_deleted_or_replaced(store: Store) -> None:
    await _ended(store)
    await make_queued(store)
    await _refused(store, "DELETE FROM execution")
    columns = [
        name for _, name, *_ in await query(store, "PRAGMA table_info(execution)")
    ]
    listed = ", ".join(columns)
    await _refused(
        store,
        f"INSERT OR REPLACE INTO execution ({listed}) SELECT {listed} FROM execution",  # noqa: S608
        match="never replaced",
    )


# History


async def test_history_is_append_only(store: Store) -> None:
    await _ended(store)
    await _refused(store, "UPDATE history SET message = 'x'", match="append-only")
    await _refused(store, "DELETE FROM history", match="append-only")
    await _refused(
        store,
        "INSERT OR REPLACE INTO history SELECT * FROM history",
        match="append-only",
    )
    await _refused(
        store, "REPLACE INTO history SELECT * FROM history", match="append-only"
    )
    await _refused(
        store,
        "INSERT INTO history SELECT * FROM history WHERE true"
        " ON CONFLICT DO UPDATE SET message = 'x'",
        match="append-only",
    )


async def test_history_takes_one_row_for_each_version(store: Store) -> None:
    """Were the guard of a change missing, this key would stop a second writer."""
    await _ended(store)
    await _refused(store, "INSERT INTO history SELECT * FROM history WHERE version = 2")


# The prune door


async def test_history_leaves_through_the_prune_door_children_first(
    store: Store,
) -> None:
    await _ended(store)
    await execute(
        store,
        PERMIT,
        "DELETE FROM outbox",
        "DELETE FROM history",
        "DELETE FROM external_job",
        "DELETE FROM execution",
        "DELETE FROM counter",
        NO_PERMIT,
    )
    tables = await dump(store)
    assert {name for name, rows in tables.items() if rows} == {"template"}


async def test_no_child_is_deleted_with_its_parent(store: Store) -> None:
    await _ended(store)
    await _refused(store, PERMIT, "DELETE FROM execution", NO_PERMIT, match="FOREIGN")


async def test_the_door_is_shut_when_its_transaction_ends(store: Store) -> None:
    """A permit that is left open refuses the commit, and with it what was pruned."""
    await _ended(store)
    await _refused(store, PERMIT)
    await _refused(store, PERMIT, "DELETE FROM outbox", "DELETE FROM history")
    await _refused(store, "DELETE FROM history", match="append-only")


async def test_there_is_one_door(store: Store) -> None:
    await _refused(
        store,
        PERMIT,
        "INSERT INTO prune_permit (id, reason, at) VALUES (2, 'another', 0)",
        NO_PERMIT,
    )


async def test_the_door_does_not_open_what_is_never_pruned(store: Store) -> None:
    """With a permit rows may leave; that they change is never allowed."""
    await _ended(store)
    for change in (
        "UPDATE history SET message = 'x'",
        "UPDATE execution SET message = 'x'",
        "INSERT OR REPLACE INTO history SELECT * FROM history",
    ):
        await _refused(store, PERMIT, change, NO_PERMIT)


# Illegal rows

ILLEGAL = {
    "an unknown phase": "phase = 'PAUSED', version = version + 1",
    "an end without a time": "phase = 'ABORTED', error_code = 'X',"
    " version = version + 1",
    "a time without an end": "finished_at = 1",
    "a failure without a code": "phase = 'FAILED', finished_at = 1,"
    " version = version + 1",
    "a code without a failure": "error_code = 'X'",
    "a success with a code": "phase = 'SUCCEEDED', finished_at = 1, error_code = 'X',"
    " version = version + 1",
    "a job without a handle": "phase = 'RUNNING', job_key = 'k', version = version + 1",
    "a job without a key": "phase = 'RUNNING', meta = x'00', meta_version = 1,"
    " version = version + 1",
    "a handle without its version": "meta = x'00', meta_version = NULL",
    "a create without an intent": "phase = 'CREATING', creates = 0,"
    " version = version + 1",
    "an abort without a reason": "phase = 'ABORTING', meta = x'00', meta_version = 1,"
    " job_key = 'k', version = version + 1",
    "a held end": "phase = 'ABORTED', finished_at = 1, error_code = 'X',"
    " hold = 'POISON', version = version + 1",
    "an attempt too many": "attempt = max_attempts + 1",
    "attempt zero": "attempt = 0",
    "version zero": "version = 0",
    "less than no creates": "creates = -1",
    "no name": "name = NULL",
    "a template that is not there": "template_hash = 'nothing'",
    "a phase that skips a version": "phase = 'CREATING', creates = 1,"
    " version = version + 2",
    "a phase without a version": "phase = 'CREATING', creates = 1",
}


@pytest.mark.parametrize("illegal", ILLEGAL)
async def test_an_illegal_row_is_refused(store: Store, illegal: str) -> None:
    await make_queued(store)
    await _refused(store, f"UPDATE execution SET {ILLEGAL[illegal]}")  # noqa: S608


BESIDE = {
    "a claim that goes back": "UPDATE timer SET epoch = epoch - 1",
    "less than no polls": "UPDATE timer SET polls = -1",
    "less than no errors": "UPDATE timer SET errors = -1",
    "a timer without a time": "UPDATE timer SET due_at = NULL",
    "a timer of nobody": (
        "INSERT INTO timer (execution_id, task_type, task_version, due_at) "
        "VALUES ('nobody', 't', 0, 0)"
    ),
    "a first version from somewhere": (
        "INSERT INTO history (execution_id, version, attempt, cause, to_phase, "
        "at, epoch) SELECT id, 5, 1, 'X', 'QUEUED', 0, 0 FROM execution"
    ),
    "history of nobody": (
        "INSERT INTO history (execution_id, version, attempt, cause, "
        "from_phase, to_phase, at, epoch) VALUES ('nobody', 2, 1, 'X', "
        "'QUEUED', 'QUEUED', 0, 0)"
    ),
    "an unknown cleanup": "UPDATE external_job SET cleanup = 'LATER'",
    "a debt without a time": (
        "UPDATE external_job SET cleanup = 'DUE', cleanup_due_at = NULL"
    ),
    "a time without a debt": "UPDATE external_job SET cleanup_due_at = 1",
    "less than no jobs": (
        "INSERT INTO quota (task_type, task_version, live) VALUES ('t', 0, -1)"
    ),
    "an event of nobody": (
        "INSERT INTO outbox (execution_id, version, phase, created_at) VALUES "
        "('nobody', 1, 'ABORTED', 0)"
    ),
}


@pytest.mark.parametrize("illegal", BESIDE)
async def test_an_illegal_row_beside_it_is_refused(store: Store, illegal: str) -> None:
    await store.record(await make_row(store, Phase.CREATE_UNKNOWN), 1, make_job(), NOW)
    await _refused(store, BESIDE[illegal])
