"""The one writer: group commit, bad rows alone, cancellation after the commit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._faults import FAULT_POINTS
from orchestrator._phase import Phase
from orchestrator._records import Change
from orchestrator._storage._items import Run
from orchestrator.errors import StoreUnavailableError
from tests.support.factories import NOW, TASK_TYPE, make_job, make_new
from tests.support.stores import (
    REFUSED,
    apply,
    claim,
    dump,
    make_row,
    query,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator._storage import Store
    from orchestrator._storage._tx import Tx


async def _no_op(tx: Tx) -> str:
    return "done"


async def test_what_is_ready_together_is_committed_together(store: Store) -> None:
    commits = store.writer.commits
    await asyncio.gather(*(store.submit([make_new()], NOW) for _ in range(500)))
    assert store.writer.commits - commits <= 3
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 500}


async def test_what_comes_during_a_commit_is_the_next_batch(store: Store) -> None:
    commits = store.writer.commits
    async with store.writer.lock:
        first = asyncio.create_task(store.submit([make_new()], NOW))
        for _ in range(5):
            await asyncio.sleep(0)
        later = [
            asyncio.create_task(store.submit([make_new()], NOW)) for _ in range(50)
        ]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not first.done()
    await asyncio.gather(first, *later)
    assert store.writer.commits - commits == 2


async def test_nothing_is_acknowledged_before_its_commit(store: Store) -> None:
    async with store.writer.lock:
        task = asyncio.create_task(store.submit([make_new()], NOW))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
    await task


@pytest.mark.parametrize("at", [0, 137, 299])
async def test_one_bad_row_of_300_fails_alone(store: Store, at: int) -> None:
    """The others are committed, and nothing of them is written twice."""
    news = [make_new(attempt=0 if n == at else 1) for n in range(300)]
    commits = store.writer.commits
    results = await asyncio.gather(
        *(store.submit([new], NOW) for new in news), return_exceptions=True
    )
    failed = [n for n, r in enumerate(results) if isinstance(r, BaseException)]
    assert failed == [at]
    assert isinstance(results[at], REFUSED)
    stored = await query(store, "SELECT id FROM execution ORDER BY id")
    ids = [new.row["id"] for n, new in enumerate(news) if n != at]
    assert [row[0] for row in stored] == ids
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 299}
    assert store.writer.commits - commits <= 10, "halves, not one by one"


async def test_a_statement_that_fails_rolls_back_every_kind_of_its_batch(
    store: Store,
) -> None:
    """What was written before it is written once more, and so once in all."""
    row = await make_row(store, Phase.RUNNING)
    unknown = await make_row(store, Phase.CREATE_UNKNOWN)
    seen: list[int] = []

    async def count_and_fail(tx: Tx) -> None:
        seen.append(await tx.scalar("SELECT count(*) FROM execution"))
        await tx.run("INSERT INTO nowhere VALUES (1)")

    poll = Change(Phase.RUNNING, 1, sets={"message": "news"}, due_at=NOW)
    results = await asyncio.gather(
        store.submit([make_new()], NOW),
        apply(store, row, poll),
        store.record(unknown, 1, make_job(), NOW),
        store.writer.write(Run(count_and_fail)),
        return_exceptions=True,
    )
    assert [isinstance(r, Exception) for r in results] == [False, False, False, True]
    assert "nowhere" in str(results[3])
    assert seen[0] == 3, "it ran after the others, in their transaction"
    assert await store.counts() == {
        (TASK_TYPE, "QUEUED"): 1,
        (TASK_TYPE, "RUNNING"): 1,
        (TASK_TYPE, "CREATE_UNKNOWN"): 1,
    }
    assert len(await store.jobs()) == 1


async def test_a_failed_item_leaves_no_trace(store: Store) -> None:
    before = await dump(store)

    async def half(tx: Tx) -> None:
        await tx.run("INSERT INTO quota (task_type, task_version) VALUES ('t', 0)")
        msg = "in the middle"
        raise LookupError(msg)

    with pytest.raises(LookupError, match="in the middle"):
        await store.writer.write(Run(half))
    assert await dump(store) == before
    assert await store.writer.write(Run(_no_op)) == "done"


async def test_a_cancelled_caller_s_write_is_committed_and_then_it_is_cancelled(
    store: Store,
) -> None:
    new = make_new()
    async with store.writer.lock:
        task = asyncio.create_task(store.submit([new], NOW))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done(), "it waits for the commit that it is part of"
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.get(new.row["id"]) is not None


async def test_a_cancelled_caller_does_not_disturb_the_others_of_its_batch(
    store: Store,
) -> None:
    news = [make_new() for _ in range(10)]
    tasks = [asyncio.create_task(store.submit([new], NOW)) for new in news]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(r, asyncio.CancelledError) for r in results] == [
        True,
        False,
    ] * 5
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 10}


@pytest.mark.parametrize("turns", range(12))
async def test_a_writer_that_was_cancelled_writes_again(
    open_store: Callable[[], Store], turns: int
) -> None:
    """At whatever await of its transaction: nothing of it is half there."""
    store = open_store()
    await store.open()
    first, second = make_new(), make_new()
    writing = asyncio.create_task(store.submit([first], NOW))
    for _ in range(turns):
        await asyncio.sleep(0)
    assert store.writer._task is not None
    store.writer._task.cancel()
    await asyncio.wait([store.writer._task])
    store.writer.start()
    await store.submit([second], NOW)
    outcome = await asyncio.gather(writing, return_exceptions=True)
    found = {row[0] for row in await query(store, "SELECT id FROM execution")}
    assert second.row["id"] in found
    if not isinstance(outcome[0], BaseException):
        assert first.row["id"] in found
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): len(found)}


async def test_a_closed_store_takes_nothing_and_loses_nothing(
    open_store: Callable[[], Store],
) -> None:
    store = open_store()
    await store.open()
    pending = asyncio.create_task(store.submit([make_new()], NOW))
    await asyncio.sleep(0)
    await store.close()
    assert len(await pending) == 1
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.submit([make_new()], NOW)
    again = open_store()
    await again.open()
    assert await again.counts() == {(TASK_TYPE, "QUEUED"): 1}


async def test_a_connection_that_broke_is_replaced(
    open_store: Callable[[], Store],
) -> None:
    """Whatever closed it: the engine's writes go on without anybody noticing."""
    store = open_store()
    await store.open()
    await store.submit([make_new()], NOW)
    connection = store.writer._connection
    assert connection is not None
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.close()
    results = await asyncio.gather(
        claim(store), store.submit([make_new()], NOW), return_exceptions=True
    )
    assert isinstance(results[0], list)
    assert isinstance(results[1], (list, StoreUnavailableError))
    await store.submit([make_new()], NOW)


class _Points:
    """Notes the named points."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def reach(self, name: str) -> None:
        self.reached.append(name)


async def test_the_writer_passes_its_named_points_in_order(
    open_store: Callable[..., Store],
) -> None:
    points = _Points()
    store = open_store(faults=points)
    await store.open()
    await store.submit([make_new()], NOW)
    expected = [name for name in FAULT_POINTS if name.startswith("writer.")]
    assert points.reached == expected


async def test_another_process_s_commit_is_seen_by_the_data_version(
    open_store: Callable[[], Store],
) -> None:
    """Its own commits do not count."""
    mine, other = open_store(), open_store()
    await mine.open()
    await other.open()
    before = await mine.data_version()
    await mine.submit([make_new()], NOW)
    assert await mine.data_version() == before
    await other.submit([make_new()], NOW)
    assert await mine.data_version() != before


async def test_reads_do_not_wait_for_a_write_that_is_open(
    open_store: Callable[[], Store],
) -> None:
    store = open_store()
    await store.open()
    row = await make_row(store, Phase.RUNNING)
    inside = asyncio.Event()
    leave = asyncio.Event()

    async def stay(tx: Tx) -> None:
        await tx.run("UPDATE execution SET message = 'not yet'")
        inside.set()
        await leave.wait()

    writing = asyncio.create_task(store.writer.write(Run(stay)))
    await inside.wait()
    found = await store.get(row.id)
    assert found is not None
    assert found.message is None
    leave.set()
    await writing
