"""Nodes: leases that are renewed, broken once, and fence what they claimed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._machine import decide
from orchestrator._phase import Cleanup, Phase, RemotePhase
from orchestrator._records import Got
from orchestrator._storage import LockFile
from orchestrator._storage._items import Run
from orchestrator._storage._nodes import break_dead
from tests.support.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    make_claimed,
    make_job,
    make_policies,
)
from tests.support.stores import (
    LOADED,
    NODE,
    OTHER,
    apply,
    claim,
    dump,
    execute,
    make_row,
    query,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator._records import Change, Claimed
    from orchestrator._storage import Store
    from orchestrator._storage._tx import Tx
    from orchestrator.testing import ManualClock

LEASE = MINUTE


async def _register(store: Store, node: str = NODE, until: int = NOW + LEASE) -> None:
    await store.register_node(node, version="1", until=until)


def _poll(row: Claimed) -> Change:
    return decide(row, Got(RemotePhase.RUNNING), NOW, make_policies(), Random(1))


async def _elsewhere(store: Store, node: str = NODE) -> None:
    """Let *node* be of another host, which proves nothing by lock files."""
    await execute(
        store, "UPDATE node SET host = 'elsewhere' WHERE id = :node", node=node
    )


async def test_a_lease_is_renewed_while_it_stands(store: Store) -> None:
    await _register(store)
    assert await store.heartbeat(NODE, NOW + HOUR) == (True, [])
    assert await query(store, "SELECT id, until FROM node") == [(NODE, NOW + HOUR)]


async def test_a_lease_that_expired_is_broken_by_whoever_sees_it(
    store: Store, clock: ManualClock
) -> None:
    await _register(store)
    await _elsewhere(store)
    await _register(store, OTHER, NOW + 2 * LEASE)
    await _elsewhere(store, OTHER)
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, [])
    clock.advance(LEASE / SECOND)
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, []), "not yet past"
    clock.advance(0.000001)
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, [NODE])
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, []), "once"
    assert await store.heartbeat(NODE, NOW + HOUR) == (False, [])


async def test_breaking_a_lease_frees_its_rows_and_bumps_their_epochs(
    store: Store, clock: ManualClock
) -> None:
    """What the broken node writes later is refused and changes nothing."""
    await _register(store)
    await _elsewhere(store)
    await _register(store, OTHER, NOW + HOUR)
    row = await make_row(store, Phase.RUNNING)
    mine = await make_row(store, Phase.RUNNING)
    await execute(
        store,
        "UPDATE timer SET node = :node WHERE execution_id = :id",
        node=OTHER,
        id=mine.id,
    )
    clock.advance(2 * LEASE / SECOND)
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, [NODE])
    timers = await query(
        store, "SELECT execution_id, node, epoch FROM timer ORDER BY 1"
    )
    assert timers == [(row.id, None, row.epoch + 1), (mine.id, OTHER, mine.epoch)]
    before = await dump(store)
    assert await apply(store, row, _poll(row)) is False
    assert await dump(store) == before
    [again] = await claim(store, OTHER, now=clock.now_us())
    assert again.epoch == row.epoch + 2
    assert await apply(store, row, _poll(row)) is False
    assert await apply(store, again, _poll(again), node=OTHER)


async def test_rows_of_a_broken_lease_are_due_at_once(
    store: Store, clock: ManualClock
) -> None:
    await _register(store)
    await _elsewhere(store)
    row = await make_row(store, Phase.RUNNING)
    await execute(store, f"UPDATE timer SET due_at = {NOW + HOUR}")  # noqa: S608
    clock.advance(2 * LEASE / SECOND)
    await _register(store, OTHER, NOW + HOUR)
    await store.heartbeat(OTHER, NOW + HOUR)
    assert [r.id for r in await claim(store, OTHER, now=clock.now_us())] == [row.id]


async def test_breaking_a_lease_frees_its_debts_and_fences_them(
    store: Store, clock: ManualClock
) -> None:
    await _register(store)
    await _elsewhere(store)
    row = await make_row(store, make_claimed(Phase.CREATE_UNKNOWN, attempt=2))
    await store.record(row, 1, make_job(), NOW)
    claiming: dict[str, Any] = {"limit": 9, "loaded": LOADED, "now": NOW}
    [owed] = await store.claim_cleanups(node=NODE, **claiming)
    clock.advance(2 * LEASE / SECOND)
    await _register(store, OTHER, NOW + HOUR)
    await store.heartbeat(OTHER, NOW + HOUR)
    done: dict[str, Any] = {"cleanup": Cleanup.DONE, "due_at": None, "error": None}
    assert not await store.finish_cleanup(owed, node=NODE, **done)
    [again] = await store.claim_cleanups(node=OTHER, **claiming)
    assert again.epoch == owed.epoch + 2
    assert await store.finish_cleanup(again, node=OTHER, **done)


async def test_an_orderly_stop_frees_everything_at_once(store: Store) -> None:
    await _register(store)
    row = await make_row(store, Phase.RUNNING)
    await store.end_node(NODE)
    assert [r.id for r in await claim(store, OTHER)] == [row.id]
    assert await store.heartbeat(NODE, NOW + HOUR) == (False, [])
    assert await apply(store, row, _poll(row)) is False


async def test_two_nodes_break_a_dead_one_only_once(
    open_store: Callable[[], Store], clock: ManualClock
) -> None:
    stores = [open_store(), open_store()]
    names = [OTHER, "c" * 32]
    for store in stores:
        await store.open()
    await _register(stores[0])
    await _elsewhere(stores[0])
    for store, name in zip(stores, names, strict=True):
        await _register(store, name, NOW + HOUR)
    locks = [_lock(store, name) for store, name in zip(stores, names, strict=True)]
    clock.advance(2 * LEASE / SECOND)
    broken = [
        (await store.heartbeat(name, NOW + HOUR))[1]
        for store, name in zip(stores, names, strict=True)
    ]
    assert sorted(broken) == [[], [NODE]]
    for lock in locks:
        lock.release()


# Proof of death on one host


def _exists(path: str) -> bool:
    return Path(path).exists()


def _lock(store: Store, node: str) -> LockFile:
    path = store.lock_path(node)
    assert path is not None
    lock = LockFile.take(path)
    assert lock is not None
    return lock


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Collect processes that end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
        child.communicate()


HOLD = """
import sys
from orchestrator._storage import LockFile
assert LockFile.take(sys.argv[1]) is not None
sys.stdout.write("held\\n")
sys.stdout.flush()
sys.stdin.read()
"""


def _hold(
    path: str, children: list[subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    children.append(child)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


@pytest.mark.may_block
async def test_a_killed_process_is_proved_dead_long_before_its_lease_ends(
    open_store: Callable[[], Store], children: list[subprocess.Popen[bytes]]
) -> None:
    """Its lock goes with it, whatever killed it; while it lives nobody takes it."""
    store = open_store()
    await store.open()
    path = store.lock_path(NODE)
    assert path is not None
    child = _hold(path, children)
    await _register(store, NODE, NOW + HOUR)
    await _register(store, OTHER, NOW + HOUR)
    lock = _lock(store, OTHER)
    row = await make_row(store, Phase.RUNNING)
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, []), "it lives"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert _exists(path)
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, [NODE])
    assert await apply(store, row, _poll(row)) is False
    assert not _exists(path), "the proof is cleared away"
    lock.release()


@pytest.mark.may_block
async def test_a_lock_that_can_be_taken_proves_death_and_a_missing_one_nothing(
    open_store: Callable[[], Store],
) -> None:
    """A missing file may lie on another mount: that node's lease has to end."""
    store = open_store()
    await store.open()
    await _register(store, NODE, NOW + HOUR)
    await _elsewhere(store)
    await _register(store, OTHER, NOW + HOUR)
    lock = _lock(store, OTHER)
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, [])
    await execute(
        store, "UPDATE node SET host = (SELECT host FROM node WHERE id = :it)", it=OTHER
    )
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, [])
    _lock(store, NODE).release(remove=False)
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, [NODE])
    lock.release()


def test_a_lock_is_held_once_and_free_after_its_release(tmp_path: Path) -> None:
    path = str(tmp_path / "node.lock")
    lock = LockFile.take(path)
    assert lock is not None
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert LockFile.take(path) is None
    lock.release()
    assert not Path(path).exists()
    again = LockFile.take(path)
    assert again is not None
    again.release()


async def test_the_lock_file_is_never_a_file_of_the_database(
    open_store: Callable[[], Store],
) -> None:
    """Closing one of those would drop SQLite's own locks."""
    store = open_store()
    path = store.lock_path(NODE)
    assert path is not None
    assert path not in {f"{store.path}{suffix}" for suffix in ("", "-wal", "-shm")}
    assert path.startswith(str(Path(store.path).parent))


async def test_a_proof_of_death_that_was_not_committed_is_found_again(
    open_store: Callable[[], Store],
) -> None:
    """Else a crash in the take-over would leave the rows to a lease of a minute."""
    store = open_store()
    await store.open()
    await _register(store, NODE, NOW + HOUR)
    await _register(store, OTHER, NOW + HOUR)
    lock = _lock(store, OTHER)
    _lock(store, NODE).release(remove=False)
    tried = await store.writer.write(Run(_broken_and_rolled_back))
    assert tried == [NODE]
    assert await store.heartbeat(OTHER, NOW + HOUR) == (True, [NODE])
    lock.release()


async def _broken_and_rolled_back(tx: Tx) -> list[str]:
    await tx.run("SAVEPOINT takeover")
    broken = await break_dead(tx, OTHER, NOW)
    await tx.run("ROLLBACK TO takeover")
    return broken
