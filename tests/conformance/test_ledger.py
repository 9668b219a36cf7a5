"""The ledger: facts from anybody, adoption by the lease holder, debts that are paid."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._machine import decide
from orchestrator._phase import Cleanup, Phase, RemotePhase
from orchestrator._records import Created, Due, Found, Got, Recorded
from tests.support.factories import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    make_claimed,
    make_job,
    make_policies,
    succeeded,
)
from tests.support.stores import (
    LOADED,
    NODE,
    OTHER,
    REFUSED,
    apply,
    claim,
    dump,
    execute,
    make_queued,
    make_row,
    query,
)

if TYPE_CHECKING:
    from orchestrator._records import Change, Claimed, Job, Observation
    from orchestrator._storage import OwedJob, Store


def _decide(row: Claimed, observation: Observation, **policies: Any) -> Change:
    return decide(row, observation, NOW, make_policies(**policies), Random(1))


async def _entry(store: Store, execution_id: str) -> Job:
    [entry] = await store.jobs(execution_id=execution_id)
    return entry


async def _running(store: Store, number: int = 1) -> Claimed:
    """Bring an execution to RUNNING by a create that answered; leave it claimed."""
    row = await make_row(store, Phase.CREATING)
    assert await apply(store, row, _decide(row, Created(make_job(number))))
    rows = await claim(store, now=NOW + MINUTE)
    return next(r for r in rows if r.id == row.id)


async def _claim_debts(
    store: Store, node: str = NODE, *, now: int = NOW, limit: int = 10
) -> list[OwedJob]:
    return await store.claim_cleanups(node=node, limit=limit, loaded=LOADED, now=now)


# Facts


async def test_an_answer_of_create_is_adopted_with_the_transition(
    store: Store,
) -> None:
    row = await _running(store)
    entry = await _entry(store, row.id)
    assert (entry.job_key, entry.meta, entry.attempt) == ("job-1", b"meta-1", 1)
    assert (entry.cleanup, entry.cleanup_due_at) == (Cleanup.NONE, None)
    assert entry.adopted_at is not None


async def test_a_fact_is_entered_whoever_holds_the_lease(store: Store) -> None:
    """A node that lost its lease still tells what it learnt."""
    row = await make_row(store, Phase.CREATE_UNKNOWN)
    await execute(store, "UPDATE timer SET node = NULL, epoch = epoch + 5")
    await store.record(row, row.attempt, make_job(), NOW)
    entry = await _entry(store, row.id)
    assert (entry.cleanup, entry.adopted_at) == (Cleanup.NONE, None)
    adoptable = await store.adoptable(row.id, row.attempt)
    assert adoptable == entry


async def test_a_refused_change_enters_no_job(store: Store) -> None:
    row = await make_row(store, Phase.CREATING)
    before = await dump(store)
    change = _decide(row, Created(make_job()))
    assert not await apply(store, row, change, node=OTHER)
    assert await dump(store) == before


async def test_a_fact_twice_is_one_entry(store: Store) -> None:
    row = await make_row(store, Phase.CREATE_UNKNOWN)
    await store.record(row, 1, make_job(), NOW)
    before = await dump(store)
    await store.record(row, 1, make_job(), NOW + HOUR)
    assert await dump(store) == before


async def test_equal_keys_are_one_job_and_the_first_meta_stays(store: Store) -> None:
    row = await make_row(store, Phase.CREATE_UNKNOWN)
    first = make_job()
    await store.record(row, 1, first, NOW)
    second = first._replace(meta=b"another encoding")
    change = _decide(row, Found(second))
    assert await apply(store, row, change)
    entry = await _entry(store, row.id)
    assert entry.meta == first.meta
    assert entry.adopted_at is not None


async def test_keys_of_two_connectors_do_not_meet(store: Store) -> None:
    row = await make_row(store, Phase.CREATE_UNKNOWN)
    other = row._replace(task_version=1)
    await store.record(row, 1, make_job(), NOW)
    await store.record(other, 1, make_job(), NOW)
    assert len(await store.jobs(execution_id=row.id)) == 2


async def test_a_fact_of_an_execution_that_is_not_there_is_refused(
    store: Store,
) -> None:
    with pytest.raises(REFUSED):
        await store.record(make_claimed(id="f" * 32), 1, make_job(), NOW)


# Who owes


async def test_a_fact_that_nobody_can_adopt_any_more_owes_cleanup_at_once(
    store: Store,
) -> None:
    """The row is terminal, or polls another job, or is at another attempt."""
    running = await _running(store, 1)
    await store.record(running, 1, make_job(2), NOW + SECOND)
    ended = await make_queued(store)
    wish = ended._replace(abort_requested_at=NOW)
    assert await apply(store, ended, _decide(wish, Due()))
    await store.record(ended, 1, make_job(3), NOW + SECOND)
    unknown = await make_row(store, make_claimed(Phase.CREATE_UNKNOWN, attempt=2))
    await store.record(unknown, 1, make_job(4), NOW + SECOND)
    await store.record(unknown, 2, make_job(5), NOW + SECOND)
    debts = await store.jobs(owing=True)
    assert [job.job_key for job in debts] == ["job-2", "job-3", "job-4"]
    assert all(job.cleanup is Cleanup.DUE and job.cleanup_due_at for job in debts)


ENDS: dict[str, tuple[dict[str, Any], Observation, dict[str, Any]]] = {
    "given up by the policy": ({}, Recorded(None), {}),
    "given up by a user": ({"resolution": "GIVE_UP"}, Due(), {}),
    "another job was adopted": ({}, Found(make_job(2)), {}),
    "absent and aborted": (
        {"abort_requested_at": NOW, "phase_at": NOW - HOUR},
        Found(None),
        {"can_find": True},
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_an_answer_that_came_too_late_to_be_adopted_owes_cleanup(
    store: Store, end: str
) -> None:
    """It came after the look into the ledger and before the decision was committed."""
    changes, observation, policies = ENDS[end]
    row = await make_row(store, make_claimed(Phase.CREATE_UNKNOWN, **changes))
    change = _decide(row, observation, **policies)
    await store.record(row, 1, make_job(1), NOW)
    assert await apply(store, row, change)
    debts = await store.jobs(owing=True)
    assert [job.job_key for job in debts] == ["job-1"]


async def _absent(store: Store) -> Claimed:
    """A user says that there is no job; its answer comes all the same."""
    unknown = await make_row(
        store, make_claimed(Phase.CREATE_UNKNOWN, resolution="ABSENT")
    )
    assert await apply(store, unknown, _decide(unknown, Due()))
    await store.record(unknown, 1, make_job(1), NOW)
    assert await store.jobs(owing=True) == []
    [row] = await claim(store)
    return row


@pytest.mark.parametrize("number", [1, 2])
async def test_the_same_token_adopts_what_a_user_took_for_absent(
    store: Store, number: int
) -> None:
    """A service that remembers the token answers with job 1; job 2 makes 1 a debt."""
    row = await _absent(store)
    intent = _decide(row, Due())
    assert await apply(store, row, intent)
    row = row._replace(phase="CREATING", version=row.version + 1, creates=1)
    assert await apply(store, row, _decide(row, Created(make_job(number))))
    jobs = {job.job_key: job for job in await store.jobs(execution_id=row.id)}
    assert jobs[f"job-{number}"].adopted_at is not None
    assert jobs[f"job-{number}"].cleanup is Cleanup.NONE
    debts = [job.job_key for job in await store.jobs(owing=True)]
    assert debts == ([] if number == 1 else ["job-1"])


async def test_what_ends_before_its_next_create_owes_what_it_had(
    store: Store,
) -> None:
    row = await _absent(store)
    aborted = _decide(row._replace(abort_requested_at=NOW), Due())
    assert aborted.phase is Phase.ABORTED
    assert await apply(store, row, aborted)
    assert [job.job_key for job in await store.jobs(owing=True)] == ["job-1"]


async def test_a_second_job_of_the_attempt_owes_cleanup_when_the_first_is_adopted(
    store: Store,
) -> None:
    row = await make_row(store, make_claimed(Phase.CREATING, creates=2))
    await store.record(row, 1, make_job(1), NOW)
    assert await apply(store, row, _decide(row, Created(make_job(2))))
    cleanups = {j.job_key: j.cleanup for j in await store.jobs(execution_id=row.id)}
    assert cleanups == {"job-1": Cleanup.DUE, "job-2": Cleanup.NONE}


async def test_an_entry_once_due_is_never_adopted(store: Store) -> None:
    """Neither offered to the step, nor taken by a change, nor by plain SQL."""
    row = await make_row(store, make_claimed(Phase.CREATE_UNKNOWN, attempt=2))
    await store.record(row, 1, make_job(1), NOW)
    assert (await _entry(store, row.id)).cleanup is Cleanup.DUE
    assert await store.adoptable(row.id, 1) is None
    await store.record(row, 1, make_job(1), NOW)
    assert (await _entry(store, row.id)).adopted_at is None
    with pytest.raises(REFUSED, match="never adopted"):
        await execute(store, "UPDATE external_job SET adopted_at = 1")


async def test_a_debt_stands_whoever_names_its_job_again(store: Store) -> None:
    """A create that answers with a job that is to be deleted does not save it."""
    doomed = await make_row(store, make_claimed(Phase.CREATE_UNKNOWN, attempt=2))
    await store.record(doomed, 1, make_job(1), NOW)
    row = await make_row(store, Phase.CREATING)
    assert await apply(store, row, _decide(row, Created(make_job(1))))
    entry = await _entry(store, doomed.id)
    assert (entry.cleanup, entry.adopted_at) == (Cleanup.DUE, None)
    assert await store.jobs(execution_id=row.id) == []


async def test_the_ledger_s_facts_never_change(store: Store) -> None:
    row = await _running(store)
    before = await dump(store)
    for column in ("execution_id", "attempt", "job_key", "meta", "recorded_at"):
        with pytest.raises(REFUSED, match="append-only"):
            await execute(store, f"UPDATE external_job SET {column} = {column}")  # noqa: S608
    with pytest.raises(REFUSED, match="append-only"):
        await execute(store, "DELETE FROM external_job")
    assert await dump(store) == before
    assert row.job_key == "job-1"


# What becomes of the attempt's own job


async def test_a_confirmed_abort_pays_its_own_debt(store: Store) -> None:
    row = await _running(store)
    abort = _decide(row._replace(abort_requested_at=NOW), Due())
    assert await apply(store, row, abort)
    row = row._replace(phase="ABORTING", version=row.version + 1, end_reason="USER")
    assert await apply(store, row, _decide(row, Got(RemotePhase.ABORTED)))
    assert (await _entry(store, row.id)).cleanup is Cleanup.DONE
    assert await store.jobs(owing=True) == []


async def test_an_abandoned_job_stays_listed_with_its_error(store: Store) -> None:
    row = await _running(store)
    row = row._replace(timer=row.timer._replace(last_error="403 forbidden"))
    abort = _decide(row._replace(abort_requested_at=NOW), Due())
    assert await apply(store, row, abort)
    row = row._replace(
        phase="ABORTING",
        version=row.version + 1,
        end_reason="USER",
        phase_at=NOW - 2 * DAY,
    )
    assert await apply(store, row, _decide(row, Due()))
    [orphan] = await store.jobs(owing=True)
    assert (orphan.cleanup, orphan.cleanup_error) == (
        Cleanup.ABANDONED,
        "403 forbidden",
    )
    listed = await query(store, "SELECT execution_id, state, error FROM orphans_v1")
    assert listed == [(row.id, "ABANDONED", "403 forbidden")]


async def test_a_job_that_ended_by_itself_owes_nothing(store: Store) -> None:
    row = await _running(store)
    assert await apply(store, row, _decide(row, succeeded()))
    assert (await _entry(store, row.id)).cleanup is Cleanup.NONE
    assert await store.jobs(owing=True) == []


# Paying


async def _debts(store: Store, count: int) -> list[str]:
    row = await _running(store, 1)
    for number in range(2, 2 + count):
        await store.record(row, 1, make_job(number), NOW + number)
    return [f"job-{number}" for number in range(2, 2 + count)]


async def test_debts_come_oldest_first_up_to_the_limit_and_to_one_node(
    store: Store,
) -> None:
    keys = await _debts(store, 5)
    first = await _claim_debts(store, now=NOW + MINUTE, limit=3)
    second = await _claim_debts(store, OTHER, now=NOW + MINUTE)
    assert [job.job_key for job in (*first, *second)] == keys
    assert first[0].meta == b"meta-2"
    assert first[0].template_hash
    assert (first[0].tries, first[0].since, first[0].epoch) == (0, NOW + 2, 1)
    assert await _claim_debts(store, now=NOW + MINUTE) == []


async def test_debts_wait_for_their_time_and_their_connector(store: Store) -> None:
    await _debts(store, 1)
    assert await _claim_debts(store, now=NOW) == []
    other = await store.claim_cleanups(
        node=NODE, limit=9, loaded=[("spark", 0)], now=NOW + HOUR
    )
    assert other == []
    assert await store.next_due(LOADED) == NOW + 2


async def test_a_debt_that_cannot_be_read_is_put_off_and_the_others_are_claimed(
    store: Store,
) -> None:
    await _debts(store, 3)
    due = "SELECT id FROM external_job WHERE cleanup = 'DUE' ORDER BY id"
    [(bad,), *others] = await query(store, due)
    spoil = "UPDATE external_job SET cleanup_since = x'ff' WHERE id = :id"
    await execute(store, spoil, id=bad)
    found = await _claim_debts(store, now=NOW + MINUTE)
    assert [(job.id,) for job in found] == others
    why = "SELECT cleanup_error, cleanup_node FROM external_job WHERE id = :id"
    assert await query(store, why, id=bad) == [("the entry cannot be read", None)]
    assert await _claim_debts(store, now=NOW + MINUTE) == []


async def test_a_paid_debt_is_done(store: Store) -> None:
    await _debts(store, 1)
    [job] = await _claim_debts(store, now=NOW + MINUTE)
    paid = {"node": NODE, "cleanup": Cleanup.DONE, "due_at": None, "error": None}
    assert await store.finish_cleanup(job, **paid)
    assert await store.jobs(owing=True) == []
    assert await store.finish_cleanup(job, **paid) is False, "once"


async def test_a_debt_that_could_not_be_paid_comes_again_later(store: Store) -> None:
    await _debts(store, 1)
    [job] = await _claim_debts(store, now=NOW + MINUTE)
    assert await store.finish_cleanup(
        job, node=NODE, cleanup=Cleanup.DUE, due_at=NOW + HOUR, error="busy"
    )
    assert await _claim_debts(store, now=NOW + MINUTE) == []
    [again] = await _claim_debts(store, OTHER, now=NOW + HOUR)
    assert (again.tries, again.since, again.epoch) == (1, job.since, 2)
    [entry] = await store.jobs(owing=True)
    assert (entry.cleanup_tries, entry.cleanup_error) == (1, "busy")


async def test_a_debt_is_finished_only_under_its_claim(store: Store) -> None:
    await _debts(store, 1)
    [job] = await _claim_debts(store, now=NOW + MINUTE)
    before = await dump(store)
    done: dict[str, Any] = {"cleanup": Cleanup.DONE, "due_at": None, "error": None}
    assert not await store.finish_cleanup(job, node=OTHER, **done)
    late = job._replace(epoch=job.epoch - 1)
    assert not await store.finish_cleanup(late, node=NODE, **done)
    assert await dump(store) == before


@pytest.mark.parametrize("landed", [True, False])
async def test_an_adopted_job_becomes_due_only_by_a_decision(
    store: Store,
    landed: bool,  # noqa: FBT001 - whether the fact is told again
) -> None:
    """Facts about it, late and repeated, change nothing."""
    row = await _running(store)
    if landed:
        await store.record(row, 1, make_job(1), NOW)
    assert (await _entry(store, row.id)).cleanup is Cleanup.NONE
    assert await _claim_debts(store, now=NOW + DAY) == []
