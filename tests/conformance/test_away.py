"""The database is away: engines wait, users are told, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._machine import decide
from orchestrator._phase import Phase, RemotePhase
from orchestrator._records import Got
from orchestrator._storage._items import Run
from orchestrator.errors import StoreError, StoreUnavailableError
from tests.support.factories import NOW, TASK_TYPE, make_new, make_policies
from tests.support.faulty import write_locked
from tests.support.stores import apply, claim, dump, make_row, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator._records import Claimed
    from orchestrator._storage import Store
    from orchestrator._storage._tx import Tx
    from orchestrator.testing import ManualClock


@pytest.fixture
async def store(open_store: Callable[[], Store]) -> Store:
    """Return an open store of a database that others can open."""
    store = open_store()
    await store.open()
    return store


async def _poll(store: Store, row: Claimed) -> bool:
    answer = Got(RemotePhase.QUEUED, "news")
    change = decide(row, answer, NOW, make_policies(), Random(1))
    return await apply(store, row, change)


async def test_a_user_is_told_soon_that_another_process_holds_the_database(
    store: Store,
) -> None:
    before = await dump(store)
    with write_locked(store):
        for refused in (
            store.submit([make_new()], NOW),
            store.wish_abort("0" * 32, "why", NOW),
            store.wake("0" * 32, NOW),
        ):
            with pytest.raises(StoreUnavailableError, match="locked") as caught:
                await refused
            assert caught.value.__cause__ is not None
            assert store.path in str(caught.value)
    assert await dump(store) == before


async def test_reads_go_on_while_another_process_writes(store: Store) -> None:
    row = await make_row(store, Phase.RUNNING)
    with write_locked(store):
        assert await store.get(row.id) is not None
        assert await store.counts() == {(TASK_TYPE, "RUNNING"): 1}


async def test_the_engine_waits_for_a_database_that_is_held(
    store: Store, clock: ManualClock
) -> None:
    row = await make_row(store, Phase.RUNNING)
    with write_locked(store):
        waiting = asyncio.create_task(_poll(store, row))
        assert await clock.sleeping() > 0
    await clock.drive(waiting)
    assert waiting.result() is True
    assert len(await store.transitions(row.id)) == row.version + 1


async def test_the_wait_for_a_database_that_stays_away_grows(
    store: Store, clock: ManualClock
) -> None:
    waits = []
    with write_locked(store):
        waiting = asyncio.create_task(claim(store))
        for _ in range(4):
            waits.append(await clock.sleeping())
            clock.advance(waits[-1])
    await clock.drive(waiting)
    assert waits == [0.1, 0.2, 0.4, 0.8]


async def test_of_one_batch_users_fail_and_the_engine_s_part_is_written(
    store: Store, clock: ManualClock
) -> None:
    row = await make_row(store, Phase.RUNNING)
    with write_locked(store):
        waiting = asyncio.create_task(_poll(store, row))
        with pytest.raises(StoreUnavailableError):
            await store.submit([make_new()], NOW)
        await clock.sleeping()
    await clock.drive(waiting)
    assert await store.counts() == {(TASK_TYPE, "RUNNING"): 1}


async def test_a_database_that_turns_read_only_is_told_and_mended(
    store: Store, clock: ManualClock
) -> None:
    row = await make_row(store, Phase.RUNNING)
    await _forbid_writes(store)
    with pytest.raises(StoreUnavailableError, match="read-only"):
        await store.submit([make_new()], NOW)
    await _forbid_writes(store)
    waiting = asyncio.create_task(_poll(store, row))
    await clock.sleeping()
    await clock.drive(waiting)
    assert waiting.result() is True


async def _forbid_writes(store: Store) -> None:
    """Let the writer's connection refuse writes, until it is replaced."""
    connection = await store.writer._connect()
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.execute("PRAGMA query_only = ON")


async def test_a_user_whose_half_of_a_cut_batch_has_to_wait_is_refused(
    store: Store, clock: ManualClock
) -> None:
    """One row breaks the batch, then the database goes: nobody else was written."""
    locked = sqlite3.OperationalError("database is locked")
    locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
    errors = [ValueError("a bad row"), locked]

    async def write(tx: Tx) -> None:
        if errors:
            raise errors.pop(0)

    waiting = asyncio.create_task(store.writer.write(Run(write)))
    submitting = asyncio.create_task(store.submit([make_new()], NOW))
    with pytest.raises(StoreUnavailableError):
        await submitting
    await clock.sleeping()
    await clock.drive(waiting)
    assert not errors
    assert await store.counts() == {}, "what was refused is not written later"


async def test_a_store_that_is_closed_while_the_database_is_away_does_not_hang(
    store: Store, clock: ManualClock
) -> None:
    with write_locked(store):
        waiting = asyncio.create_task(claim(store))
        await clock.sleeping()
        store.writer.hurry()
        with pytest.raises(StoreUnavailableError):
            await waiting
        await store.close()


async def test_a_database_that_is_gone_is_told(store: Store) -> None:
    """Somebody deleted a table: the reader says so, in our words."""
    with write_locked(store) as connection:
        connection.execute("DROP TABLE outbox")
        connection.execute("COMMIT")
    with pytest.raises(StoreError, match="outbox"):
        await query(store, "SELECT * FROM outbox")


async def test_a_full_disk_loses_nothing_that_was_acknowledged(
    store: Store, shared_url: str
) -> None:
    """A user is told, the engine waits, reads go on, and all goes on with room."""
    told = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.support.full_disk", shared_url],
        capture_output=True,
        check=True,
        timeout=15,
    )
    facts = json.loads(told.stdout)
    assert len(facts["stored"]) > 10
    assert store.path in facts["error"]
    found = {row[0] for row in await query(store, "SELECT id FROM execution")}
    assert found == set(facts["stored"]), "what was refused is not there either"
    assert facts["readable"] is True
    assert facts["claimed"] == len(facts["stored"]) - 1
    assert await query(store, "PRAGMA integrity_check") == [("ok",)]
