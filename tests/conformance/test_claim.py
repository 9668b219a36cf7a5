"""Claims: due rows, in order, each to one node, read as they are."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from orchestrator._config import Config
from orchestrator._engine._stepper import after
from orchestrator._machine import decide
from orchestrator._phase import LIVE, Phase
from orchestrator._records import Call, Due, Failure, Timer
from tests.support.factories import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    TASK_TYPE,
    failed,
    make_claimed,
    make_new,
    make_policies,
)
from tests.support.situations import situations_of
from tests.support.stores import (
    LOADED,
    NODE,
    OTHER,
    apply,
    claim,
    execute,
    make_queued,
    make_row,
    query,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator._storage import Store


UNAUTHORIZED = failed(Call.GET, Failure.UNAUTHORIZED)


async def _submit(store: Store, count: int, **changes: object) -> list[str]:
    news = [make_new(**changes) for _ in range(count)]
    await store.submit(news, NOW)
    return [new.row["id"] for new in news]


async def test_rows_come_by_due_time_then_by_id(store: Store) -> None:
    late = await _submit(store, 2, ready_at=NOW - SECOND)
    early = await _submit(store, 2, ready_at=NOW - MINUTE)
    rows = await claim(store)
    assert [row.id for row in rows] == [*early, *late]
    assert [row.due_at for row in rows] == [NOW - MINUTE] * 2 + [NOW - SECOND] * 2


async def test_a_claim_takes_no_more_than_its_limit_and_the_oldest_first(
    store: Store,
) -> None:
    ids = await _submit(store, 7)
    assert [row.id for row in await claim(store, limit=3)] == ids[:3]
    assert [row.id for row in await claim(store, limit=3)] == ids[3:6]
    assert [row.id for row in await claim(store, limit=3)] == ids[6:]
    assert await claim(store, limit=3) == []


async def test_what_is_not_due_is_left(store: Store) -> None:
    [_] = await _submit(store, 1, ready_at=NOW + 1)
    assert await claim(store, now=NOW) == []
    assert len(await claim(store, now=NOW + 1)) == 1


async def test_a_claimed_row_is_not_claimed_again_until_it_is_released(
    store: Store,
) -> None:
    await _submit(store, 1)
    [row] = await claim(store)
    assert await claim(store, OTHER, now=NOW + HOUR) == []
    wait = decide(
        row._replace(ready_at=NOW + 5), Due(), NOW, make_policies(), Random(1)
    )
    assert await apply(store, row, wait)
    [again] = await claim(store, OTHER, now=NOW + 5)
    assert again.epoch == row.epoch + 1


async def test_each_claim_is_a_new_epoch(store: Store) -> None:
    row = await make_queued(store)
    assert row.epoch == 1
    [(node, epoch, woken)] = await query(store, "SELECT node, epoch, woken FROM timer")
    assert (node, epoch, woken) == (NODE, 1, 0)


async def test_only_loaded_task_types_are_taken(store: Store) -> None:
    """Of the same type and version; a row of another waits for a node that has it."""
    mine = await _submit(store, 1)
    await _submit(store, 1, task_type="spark")
    await _submit(store, 1, task_version=1)
    assert [row.id for row in await claim(store)] == mine
    rows = await store.claim(
        node=OTHER, limit=9, loaded=[("spark", 0), (TASK_TYPE, 1)], now=NOW
    )
    assert len(rows) == 2


async def test_what_nobody_takes_is_taken_after_the_grace(store: Store) -> None:
    """So that it can be held, and is seen: 30 s by default."""
    await _submit(store, 1, task_type="spark")
    grace = 30 * SECOND
    assert await claim(store, now=NOW + grace - 1) == []
    assert len(await claim(store, now=NOW + grace)) == 1


async def test_without_any_connector_nothing_is_taken_before_the_grace(
    store: Store,
) -> None:
    await _submit(store, 3)
    assert await store.claim(node=NODE, limit=9, loaded=[], now=NOW) == []


@pytest.mark.parametrize("name", ['a"b', "a b", "a\\b", "ä%_'", "1 2"])
async def test_any_name_of_a_task_type_is_found_by_itself_alone(
    store: Store, name: str
) -> None:
    """Also by the connector that a row on hold has waited for."""
    [mine] = await _submit(store, 1, task_type=name, ready_at=NOW + HOUR)
    await execute(store, "UPDATE execution SET hold = 'CONNECTOR_MISSING'")
    await store.see_connectors([(name, 0, "its connector")], NOW)
    for other in ("a", "b", "1", name + " 0"):
        assert await store.claim(node=NODE, limit=9, loaded=[(other, 0)], now=NOW) == []
    [row] = await store.claim(node=NODE, limit=9, loaded=[(name, 0)], now=NOW)
    assert (row.id, row.task_type) == (mine, name)


@pytest.mark.parametrize("phase", LIVE)
async def test_a_claim_reads_the_row_as_it_is(store: Store, phase: Phase) -> None:
    """Every column; inputs and labels only where a create may follow."""
    timer = Timer(3, 2, 1, NOW, 7, NOW - 1, "the last error")
    template = make_claimed(
        phase,
        timer=timer,
        inputs=b"\x00\xff\n",
        labels='{"a": "b"}',
        deadline_at=NOW + HOUR,
        message="told",
        custom_info="{}",
        log_links="[]",
        abort_reason="why",
    )
    row = await make_row(store, template)
    may_create = phase in (Phase.QUEUED, Phase.CREATING, Phase.CREATE_UNKNOWN)
    assert row._replace(id="", epoch=0) == template._replace(
        id="",
        epoch=0,
        inputs=template.inputs if may_create else None,
        labels=template.labels if may_create else None,
    )


async def test_labels_that_are_empty_are_none(store: Store) -> None:
    assert (await make_queued(store)).labels is None


@pytest.mark.parametrize("phase", LIVE)
async def test_a_row_that_this_node_left_is_claimed_as_the_table_has_it(
    store: Store, phase: Phase
) -> None:
    """What is remembered of a released row is what a reader of the tables sees."""
    left = set()
    made = [(s, await make_row(store, s.row)) for s in situations_of(phase)]
    for situation, row in made:
        policies = situation.policies
        change = decide(row, situation.observation, NOW, policies, Random(1))
        assert await apply(store, row, change)
        if change.due_at is not None and change.then is None:
            store.known.leave(after(row, change))
            left.add(row.id)
    rows = {row.id: row for row in await claim(store, now=NOW + DAY, limit=1000)}
    assert set(rows) == left
    for row in rows.values():
        assert row == await store.read_again(row, NODE)
        may_create = row.phase in ("QUEUED", "CREATING", "CREATE_UNKNOWN")
        assert (row.inputs is not None) == may_create


async def test_a_wish_is_seen_by_the_next_claim_whatever_is_remembered(
    store: Store,
) -> None:
    row = await make_row(store, Phase.RUNNING)
    hold = decide(row, UNAUTHORIZED, NOW, make_policies(), Random(1))
    await store.wish_abort(row.id, "between claim and release", NOW)
    assert await apply(store, row, hold)
    store.known.leave(after(row, hold))
    [claimed] = await claim(store)
    assert claimed.abort_reason == "between claim and release"
    await apply(store, claimed, hold)
    store.known.leave(after(claimed, hold))
    await store.wake(row.id, NOW)
    [again] = await claim(store)
    assert again == await store.read_again(again, NODE)


async def test_a_row_that_another_node_had_is_read_from_the_table(
    open_store: Callable[[], Store],
) -> None:
    """Its epoch tells that what this node remembers is old."""
    mine, other = open_store(), open_store()
    await mine.open()
    await other.open()
    row = await make_row(mine, Phase.RUNNING)
    change = decide(row, UNAUTHORIZED, NOW, make_policies(), Random(1))
    assert await apply(mine, row, change)
    mine.known.leave(after(row, change))
    [theirs] = await claim(other, OTHER, now=NOW + HOUR)
    release = decide(
        theirs._replace(hold=None), UNAUTHORIZED, NOW, make_policies(), Random(1)
    )
    release.sets["message"] = "news"
    assert await apply(other, theirs, release, node=OTHER)
    [claimed] = await claim(mine, now=NOW + HOUR)
    assert claimed.message == "news"
    assert claimed == await mine.read_again(claimed, NODE)


async def test_a_row_is_read_again_only_under_its_claim(store: Store) -> None:
    row = await make_queued(store)
    assert await store.read_again(row, NODE) == row
    assert await store.read_again(row, OTHER) is None
    assert await store.read_again(row._replace(epoch=row.epoch - 1), NODE) is None


async def test_two_claims_at_once_share_nothing(store: Store) -> None:
    ids = await _submit(store, 50)
    claims = await asyncio.gather(*(claim(store, limit=7) for _ in range(10)))
    taken = [row.id for rows in claims for row in rows]
    assert sorted(taken) == ids


async def test_two_stores_of_one_database_never_claim_one_row_twice(
    open_store: Callable[..., Store],
) -> None:
    stores = [open_store(config=Config()), open_store(config=Config())]
    for store in stores:
        await store.open()
    ids = await _submit(stores[0], 100)
    taken: list[str] = []

    async def claim_all(store: Store, node: str) -> int:
        mine = 0
        while rows := await claim(store, node, limit=5):
            taken.extend(row.id for row in rows)
            mine += len(rows)
        return mine

    await asyncio.gather(
        *(claim_all(s, n) for s, n in zip(stores, (NODE, OTHER), strict=True))
    )
    assert sorted(taken) == ids


async def test_the_next_due_row_is_known(store: Store) -> None:
    """Of loaded types at its time, of others after the grace, debts included."""
    assert await store.next_due(LOADED) is None
    await _submit(store, 1, ready_at=NOW + HOUR)
    assert await store.next_due(LOADED) == NOW + HOUR
    assert await store.next_due([("spark", 0)]) == NOW + HOUR + 30 * SECOND
    await _submit(store, 1, ready_at=NOW + MINUTE)
    assert await store.next_due(LOADED) == NOW + MINUTE
    [_] = await claim(store, now=NOW + MINUTE)
    assert await store.next_due(LOADED) == NOW + HOUR, "claimed rows are at work"


async def test_rows_that_wait_for_somebody_are_listed(store: Store) -> None:
    held = await make_row(store, make_claimed(Phase.RUNNING, hold="UNAUTHORIZED"))
    [overdue] = await _submit(store, 1, ready_at=NOW - HOUR)
    await _submit(store, 1, ready_at=NOW + HOUR)
    assert {e.id for e in await store.stuck(NOW - MINUTE)} == {held.id, overdue}


SPOILED = {
    "bytes in the wide row": "UPDATE execution SET message = x'ff00' WHERE id = :id",
    "bytes in the timer": (
        "UPDATE timer SET last_error = x'ff00' WHERE execution_id = :id"
    ),
    "text that is no UTF-8": (
        "UPDATE execution SET name = CAST(x'ff' AS TEXT) WHERE id = :id"
    ),
    "text for a number": (
        "UPDATE timer SET epoch = 'garbage' WHERE execution_id = :id"
    ),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
async def test_a_row_that_cannot_be_read_is_held_and_the_others_are_claimed(
    store: Store, spoil: str
) -> None:
    bad, *good = await _submit(store, 4)
    await execute(store, spoil, id=bad)
    assert [row.id for row in await claim(store)] == good
    due = "SELECT due_at, node FROM timer WHERE execution_id = :id"
    [(due_at, node)] = await query(store, due, id=bad)
    assert due_at > NOW
    assert node is None
    hold = "SELECT hold FROM execution WHERE id = :id"
    assert await query(store, hold, id=bad) == [("POISON",)]
    assert await claim(store) == [], "it does not come back at once"


async def test_a_row_that_was_mended_is_claimed_again(store: Store) -> None:
    [bad] = await _submit(store, 1)
    await execute(store, SPOILED["bytes in the wide row"], id=bad)
    assert await claim(store) == []
    await execute(store, "UPDATE execution SET message = NULL WHERE id = :id", id=bad)
    assert await store.wake(bad, NOW)
    assert [row.id for row in await claim(store)] == [bad]
