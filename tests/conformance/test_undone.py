"""What was undone, or never begun, is not taken for committed, nor waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._storage import _claim, _cleanups
from orchestrator._storage._tx import Tx
from orchestrator.errors import StoreUnavailableError
from tests.support.factories import NOW, TASK_TYPE, make_new
from tests.support.stores import LOADED, NODE, claim, query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._storage import Store


@pytest.mark.parametrize("taking", [_claim._TAKE, _claim._SELECT, _claim._SELECT_ONE])
async def test_what_was_written_beside_a_claim_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch, taking: str
) -> None:
    """An I/O error, or an interrupt, in any statement undoes the whole transaction."""
    await store.submit([make_new()], NOW)
    _undo_once(monkeypatch, taking)
    new = make_new()
    await asyncio.gather(store.submit([new], NOW), claim(store))
    stored = await query(store, "SELECT id FROM execution ORDER BY id")
    assert (new.row["id"],) in stored
    assert await query(store, "SELECT count(*) FROM execution WHERE hold <> ''") == [
        (0,)
    ]


async def test_what_was_written_beside_a_debts_claim_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _undo_once(monkeypatch, _cleanups._SELECT)
    new = make_new()
    debts = store.claim_cleanups(node=NODE, limit=9, loaded=LOADED, now=NOW)
    await asyncio.gather(store.submit([new], NOW), debts)
    assert await query(store, "SELECT id FROM execution") == [(new.row["id"],)]


def _undo_once(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Let the statement *at* fail once as SQLite fails where it undoes everything."""
    run, scalar = Tx.run, Tx.scalar
    left = [at]
    if at == _claim._SELECT_ONE:
        # Only claims row by row come to it.
        left.insert(0, _claim._SELECT)

    async def undo(tx: Tx, sql: str) -> None:
        if not left or sql != left[0]:
            return
        left.pop(0)
        if left:
            raise ValueError("this batch of rows cannot be read")
        driver = tx._driver
        await driver.set_progress_handler(lambda: 1, 1)
        try:
            await driver.execute("UPDATE timer SET woken = woken + 1")
        finally:
            await driver.set_progress_handler(None, 1)  # type: ignore[arg-type]

    async def undoing_run(tx: Tx, sql: str, params: Sequence[Any] = ()) -> int:
        await undo(tx, sql)
        return await run(tx, sql, params)

    async def undoing_scalar(tx: Tx, sql: str, params: Sequence[Any] = ()) -> Any:
        await undo(tx, sql)
        return await scalar(tx, sql, params)

    monkeypatch.setattr(Tx, "run", undoing_run)
    monkeypatch.setattr(Tx, "scalar", undoing_scalar)


@pytest.mark.parametrize("turns", range(4))
async def test_nobody_waits_for_a_writer_that_was_cancelled(
    store: Store, turns: int
) -> None:
    """As a loop that shuts down does, in whatever turn the writer is."""
    if turns:
        submitted = asyncio.create_task(store.submit([make_new()], NOW))
        for _ in range(turns):
            await asyncio.sleep(0)
        _cancel_writer(store)
    else:
        _cancel_writer(store)
        submitted = asyncio.create_task(store.submit([make_new()], NOW))
    await asyncio.wait([submitted], timeout=5)
    done = submitted.done()
    store.writer.start()
    assert done
    with pytest.raises((StoreUnavailableError, asyncio.CancelledError)):
        await submitted
    await store.submit([make_new()], NOW)
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 1}


def _cancel_writer(store: Store) -> None:
    assert store.writer._task is not None
    store.writer._task.cancel()
