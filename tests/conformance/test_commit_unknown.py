"""A commit without an answer means "unknown": read back by key, never done twice."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._machine import decide
from orchestrator._phase import Cleanup, Phase, RemotePhase, Resolution
from orchestrator._records import Due, Got
from orchestrator.errors import StoreUnavailableError
from tests.support.factories import (
    HOUR,
    NOW,
    TASK_TYPE,
    make_claimed,
    make_job,
    make_new,
    make_policies,
    succeeded,
)
from tests.support.faulty import Commits, write_locked
from tests.support.stores import (
    LOADED,
    NODE,
    apply,
    check_store,
    claim,
    dump,
    execute,
    make_queued,
    make_row,
    query,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from orchestrator._records import Change, Claimed, Observation
    from orchestrator._storage import Store
    from orchestrator.testing import ManualClock

pytestmark = pytest.mark.parametrize("lost", ["before", "after"])


@pytest.fixture
async def store(open_store: Callable[[], Store]) -> AsyncIterator[Store]:
    """Return an open store of a database that outlives its connections."""
    store = open_store()
    await store.open()
    yield store
    await check_store(store)


def _decide(row: Claimed, observation: Observation) -> Change:
    return decide(row, observation, NOW, make_policies(), Random(1))


async def test_a_submission_is_there_once(store: Store, lost: str) -> None:
    commits = Commits(store, lost)
    new = make_new(key="k")
    assert await store.submit([new], NOW) == [(new.row["id"], False, False)]
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 1}
    assert commits.seen[0] == lost
    assert len(await store.transitions(new.row["id"])) == 1


async def test_a_key_that_was_held_is_still_answered(store: Store, lost: str) -> None:
    first = make_new(key="k")
    await store.submit([first], NOW)
    Commits(store, lost)
    [answer] = await store.submit([make_new(key="k")], NOW)
    assert answer == (first.row["id"], True, False)


async def test_a_group_of_new_and_known_keys_is_there_once(
    store: Store, lost: str
) -> None:
    first = make_new(key="k")
    await store.submit([first], NOW)
    Commits(store, lost)
    group = [make_new(key="k"), make_new(), make_new(key="other")]
    answers = await store.submit(group, NOW)
    assert [answer.existing for answer in answers] == [True, False, False]
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 3}


async def test_a_transition_is_made_once(store: Store, lost: str) -> None:
    row = await make_row(store, Phase.RUNNING)
    Commits(store, lost)
    assert await apply(store, row, _decide(row, Got(RemotePhase.QUEUED))) is True
    found = await store.get(row.id)
    assert found is not None
    assert found.version == row.version + 1
    assert len(await store.transitions(row.id)) == row.version + 1


async def test_an_end_has_one_event(store: Store, lost: str) -> None:
    row = await make_row(store, Phase.RUNNING)
    Commits(store, lost)
    assert await apply(store, row, _decide(row, succeeded())) is True
    assert await query(store, "SELECT count(*) FROM outbox") == [(1,)]
    assert await store.counts() == {(TASK_TYPE, "SUCCEEDED"): 1}


async def test_a_poll_is_noted_once(store: Store, lost: str) -> None:
    waiting = make_claimed(Phase.RUNNING, remote_phase="RUNNING", run_started_at=NOW)
    row = await make_row(store, waiting)
    Commits(store, lost)
    change = _decide(row, Got(RemotePhase.RUNNING))
    assert change.cause is None
    assert await apply(store, row, change) is True
    timer = await query(store, "SELECT polls, node, due_at FROM timer")
    assert timer == [(1, None, change.due_at)]


async def test_a_job_is_entered_once(store: Store, lost: str) -> None:
    row = await make_row(store, Phase.CREATE_UNKNOWN)
    Commits(store, lost)
    await store.record(row, 1, make_job(), NOW)
    assert len(await store.jobs()) == 1


async def test_a_claim_whose_answer_was_lost_is_given_back_and_made_anew(
    store: Store, lost: str
) -> None:
    """No row stays claimed by a step that never began."""
    await store.submit([make_new() for _ in range(3)], NOW)
    Commits(store, lost)
    rows = await claim(store)
    assert len(rows) == 3
    held = await query(store, "SELECT execution_id, node, epoch FROM timer ORDER BY 1")
    assert held == [(row.id, NODE, row.epoch) for row in rows]
    for row in rows:
        assert await apply(store, row, _decide(row, Due()))


async def test_a_claim_with_a_limit_leaves_no_row_behind(
    store: Store, lost: str
) -> None:
    await store.submit([make_new() for _ in range(6)], NOW)
    Commits(store, lost)
    first = await claim(store, limit=2)
    second = await claim(store, limit=10)
    assert len({row.id for row in (*first, *second)}) == 6


async def test_a_whole_batch_is_read_back_each_by_its_own_key(
    store: Store, lost: str
) -> None:
    rows = [await make_row(store, Phase.RUNNING) for _ in range(4)]
    Commits(store, lost)
    results: list[Any] = await asyncio.gather(
        *(store.submit([make_new()], NOW) for _ in range(3)),
        *(apply(store, row, _decide(row, succeeded())) for row in rows),
        store.wish_abort(rows[0].id, "late", NOW),
    )
    assert results[3:7] == [True] * 4
    assert await store.counts() == {
        (TASK_TYPE, "QUEUED"): 3,
        (TASK_TYPE, "SUCCEEDED"): 4,
    }


async def test_a_wish_is_answered_as_what_it_did(store: Store, lost: str) -> None:
    """True, because this call recorded it, whichever transaction it was."""
    row = await make_row(store, Phase.CREATE_UNKNOWN)
    Commits(store, lost)
    assert await store.wish_abort(row.id, "why", NOW) is True
    Commits(store, lost)
    assert await store.wish_abort(row.id, "again", NOW) is False
    await execute(store, "UPDATE timer SET node = NULL")
    Commits(store, lost)
    assert await store.wish_resolve(row.id, Resolution.GIVE_UP, NOW) is True
    Commits(store, lost)
    assert await store.wake(row.id, NOW) is True


async def test_a_node_is_registered_once(store: Store, lost: str) -> None:
    Commits(store, lost)
    await store.register_node(NODE, version="1", until=NOW + HOUR)
    Commits(store, lost)
    assert (await store.heartbeat(NODE, NOW + HOUR))[0] is True
    assert await query(store, "SELECT count(*) FROM node") == [(1,)]


async def test_a_debt_is_claimed_and_finished_once(store: Store, lost: str) -> None:
    row = await make_row(store, make_claimed(Phase.CREATE_UNKNOWN, attempt=2))
    for number in (1, 2):
        await store.record(row, 1, make_job(number), NOW)
    claiming: dict[str, Any] = {"node": NODE, "loaded": LOADED, "now": NOW}
    Commits(store, lost)
    owed = await store.claim_cleanups(limit=9, **claiming)
    assert [job.job_key for job in owed] == ["job-1", "job-2"]
    Commits(store, lost)
    finished = await store.finish_cleanup(
        owed[0], node=NODE, cleanup=Cleanup.DUE, due_at=NOW + HOUR, error="busy"
    )
    assert finished is True
    [entry] = [j for j in await store.jobs(owing=True) if j.id == owed[0].id]
    assert entry.cleanup_tries == 1


@pytest.mark.may_block
@pytest.mark.parametrize("hurry", [False, True])
async def test_what_cannot_be_read_back_yet_waits_until_it_can(
    store: Store,
    clock: ManualClock,
    lost: str,
    hurry: bool,  # noqa: FBT001 - whether the store is told to end
) -> None:
    """Nobody is told yes or no before somebody knows; at the end, that it is away."""
    row = await make_row(store, Phase.RUNNING)
    with contextlib.ExitStack() as stack:
        commits = Commits(store, lost)
        commits.meanwhile = lambda: stack.enter_context(write_locked(store))
        change = _decide(row, Got(RemotePhase.QUEUED))
        waiting = asyncio.create_task(apply(store, row, change))
        await clock.sleeping()
        assert not waiting.done()
        if hurry:
            store.writer.hurry()
            with pytest.raises(StoreUnavailableError):
                await waiting
    if not hurry:
        await clock.drive(waiting)
        assert waiting.result() is True
    written = lost == "after" or not hurry
    assert len(await store.transitions(row.id)) == row.version + written


async def test_a_disk_that_refuses_every_commit_fails_users_and_lets_engines_wait(
    store: Store, clock: ManualClock, lost: str
) -> None:
    """A user is told at once; what the engine writes is written when it is mended."""
    if lost == "after":
        return  # a disk that is full does not commit
    row = await make_queued(store)
    before = await dump(store)
    commits = Commits(store, *["before"] * 12, error="database or disk is full")
    waiting = asyncio.create_task(apply(store, row, _decide(row, Due())))
    with pytest.raises(StoreUnavailableError, match="the disk is full"):
        await store.submit([make_new()], NOW)
    assert await dump(store) == before
    waits = await clock.drive(waiting)
    assert await waiting is True
    assert len(waits) == 11, "it backs off, and is told that there is room"
    assert waits == sorted(waits)
    assert len(commits.seen) == 13
    assert len(await store.transitions(row.id)) == 2
