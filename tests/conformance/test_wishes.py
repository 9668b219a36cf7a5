"""Wishes: columns of their own, a row that is woken, and never a phase."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from orchestrator._machine import decide
from orchestrator._phase import LIVE, Phase, RemotePhase, Resolution
from orchestrator._records import Due, Got
from tests.support.factories import (
    HOUR,
    NOW,
    SECOND,
    make_claimed,
    make_new,
    make_policies,
)
from tests.support.stores import (
    NODE,
    apply,
    claim,
    dump,
    execute,
    make_queued,
    make_row,
    query,
)

if TYPE_CHECKING:
    from orchestrator._storage import Store

LATER = NOW + HOUR


async def _waiting(store: Store, phase: Phase = Phase.RUNNING) -> str:
    """Return an execution that nobody holds and that is due in an hour."""
    row = await make_row(store, phase)
    await execute(store, f"UPDATE timer SET node = NULL, due_at = {LATER}")  # noqa: S608
    return row.id


@pytest.mark.parametrize("phase", LIVE)
async def test_an_abort_is_a_wish_and_no_phase(store: Store, phase: Phase) -> None:
    """Version, phase and history stay; the row is due at once."""
    execution_id = await _waiting(store, phase)
    before = await dump(store)
    assert await store.wish_abort(execution_id, "superseded", NOW) is True
    found = await store.get(execution_id)
    assert found is not None
    assert (found.phase, found.abort_reason) == (phase, "superseded")
    assert found.abort_requested_at is not None
    after = await dump(store)
    for table in ("history", "counter", "outbox", "external_job"):
        assert after[table] == before[table]
    [row] = await claim(store)
    assert (row.version, row.abort_reason) == (found.version, "superseded")


async def test_the_first_abort_stands(store: Store) -> None:
    execution_id = await _waiting(store)
    assert await store.wish_abort(execution_id, "first", NOW) is True
    assert await store.wish_abort(execution_id, "second", NOW + 1) is False
    found = await store.get(execution_id)
    assert found is not None
    assert found.abort_reason == "first"


async def test_a_wish_for_what_is_not_there_is_false(store: Store) -> None:
    before = await dump(store)
    assert await store.wish_abort("0" * 32, "x", NOW) is False
    assert await store.wake("0" * 32, NOW) is False
    assert await store.wish_resolve("0" * 32, Resolution.ABSENT, NOW) is False
    assert await dump(store) == before


async def test_a_wake_brings_a_row_forward_and_never_back(store: Store) -> None:
    execution_id = await _waiting(store)
    assert await store.wake(execution_id, NOW) is True
    assert await store.wake(execution_id, NOW + 5) is True
    assert await query(store, "SELECT due_at FROM timer") == [(NOW,)]


@pytest.mark.parametrize("wish", ["abort", "wake"])
async def test_a_wish_that_comes_while_the_row_is_at_work_is_kept(
    store: Store, wish: str
) -> None:
    """The step's release makes the row due at once instead of at its next poll."""
    row = await make_row(store, Phase.RUNNING)
    if wish == "abort":
        assert await store.wish_abort(row.id, "now", NOW)
    else:
        assert await store.wake(row.id, NOW)
    held = await query(store, "SELECT node, epoch FROM timer")
    assert held == [(NODE, row.epoch)], "the claim is not disturbed"
    poll = decide(row, Got(RemotePhase.RUNNING), NOW, make_policies(), Random(1))
    assert poll.due_at is not None
    assert poll.due_at > NOW
    assert await apply(store, row, poll, now=NOW + 3), "no version was bumped"
    assert await query(store, "SELECT due_at FROM timer") == [(NOW + 3,)]
    [again] = await claim(store, now=NOW + 3)
    assert await query(store, "SELECT woken FROM timer") == [(0,)]
    assert (again.abort_requested_at is not None) == (wish == "abort")


async def test_a_wish_between_two_writes_of_a_step_is_kept(store: Store) -> None:
    row = await make_queued(store)
    intent = decide(row, Due(), NOW, make_policies(), Random(1))
    assert await apply(store, row, intent)
    assert await store.wish_abort(row.id, "in the call", NOW)
    row = row._replace(phase="CREATING", version=2, creates=1)
    again = await store.read_again(row, NODE)
    assert again is not None
    assert again.abort_reason == "in the call"


async def test_a_wish_does_not_count_twice(store: Store) -> None:
    """The claim that sees it takes it back: the next release keeps its time."""
    execution_id = await _waiting(store)
    await store.wake(execution_id, NOW)
    [row] = await claim(store)
    poll = decide(row, Got(RemotePhase.RUNNING), NOW, make_policies(), Random(1))
    assert await apply(store, row, poll)
    assert await query(store, "SELECT due_at FROM timer") == [(poll.due_at,)]


@pytest.mark.parametrize("phase", LIVE)
@pytest.mark.parametrize("resolution", Resolution)
async def test_a_resolution_is_taken_where_it_means_something(
    store: Store, phase: Phase, resolution: Resolution
) -> None:
    """Of an unknown create; a queued row can only be given up."""
    execution_id = await _waiting(store, phase)
    before = await dump(store)
    taken = phase is Phase.CREATE_UNKNOWN or (
        phase is Phase.QUEUED and resolution is Resolution.GIVE_UP
    )
    assert await store.wish_resolve(execution_id, resolution, NOW) is taken
    if taken:
        [row] = await claim(store)
        assert row.resolution == resolution
    else:
        assert await dump(store) == before


async def test_a_connector_that_comes_wakes_the_rows_that_waited_for_it(
    store: Store,
) -> None:
    missing = make_claimed(Phase.RUNNING, hold="CONNECTOR_MISSING")
    waiting = await make_row(store, missing)
    other = await make_row(store, make_claimed(Phase.RUNNING, hold="UNAUTHORIZED"))
    await execute(store, f"UPDATE timer SET node = NULL, due_at = {LATER}")  # noqa: S608
    await store.see_connectors([("batch_job", 0, "Batch")], NOW)
    assert [row.id for row in await claim(store)] == [waiting.id]
    assert other.id != waiting.id


async def test_connectors_are_noted_with_the_time_they_were_seen(
    store: Store,
) -> None:
    await store.see_connectors([("a", 0, "A"), ("b", 1, "B")], NOW)
    await store.see_connectors([("a", 0, "A two")], NOW + 1)
    seen = "SELECT task_type, task_version, name, seen_at FROM connector"
    assert await query(store, seen) == [("a", 0, "A two", NOW + 1), ("b", 1, "B", NOW)]


async def test_submitting_wakes_nothing_else(store: Store) -> None:
    execution_id = await _waiting(store)
    await store.submit([make_new(ready_at=LATER)], NOW)
    assert await claim(store) == []
    assert await store.get(execution_id) is not None


async def test_after_a_step_back_what_waits_is_brought_forward(store: Store) -> None:
    """Overdue rows too, but not what waits for longer than the clock went back."""
    times = {"overdue": -1, "soon": 60 * SECOND, "tomorrow": 24 * HOUR}
    news = {
        name: make_new(ready_at=NOW + offset, start_at=NOW + offset)
        for name, offset in times.items()
    }
    await store.submit(list(news.values()), NOW)
    await store.bring_forward(NOW, HOUR)
    due = dict(await query(store, "SELECT execution_id, due_at FROM timer"))
    moved = {name: due[new.row["id"]] - NOW for name, new in news.items()}
    assert moved == {
        "overdue": -1 - HOUR,
        "soon": 60 * SECOND - HOUR,
        "tomorrow": 24 * HOUR,
    }
