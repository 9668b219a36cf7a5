"""Changes: accepted whole, or refused by a guard and then without any effect."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from orchestrator._machine import decide
from orchestrator._phase import LIVE, TERMINAL, Phase, RemotePhase
from orchestrator._records import Change, Due, Got, Timer
from tests.support.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    TASK_TYPE,
    make_claimed,
    make_new,
    make_policies,
    succeeded,
)
from tests.support.situations import SITUATIONS, situations_of
from tests.support.stores import (
    NODE,
    OTHER,
    apply,
    cause_of,
    claim,
    dump,
    execute,
    make_queued,
    make_row,
    query,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator._records import Claimed
    from orchestrator._storage import Store
    from tests.support.situations import Situation


def _decide(row: Claimed, observation: object, **policies: object) -> Change:
    return decide(row, observation, NOW, make_policies(**policies), Random(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", LIVE)
async def test_every_change_that_decide_makes_is_taken_whole(
    store: Store, phase: Phase
) -> None:
    """Row, history, timer, outbox and counters move together, for every cause."""
    for situation in situations_of(phase):
        await _is_taken_whole(store, situation)


async def _is_taken_whole(store: Store, situation: Situation) -> None:
    row = await make_row(store, situation.row)
    policies = situation.policies
    change = decide(row, situation.observation, NOW, policies, Random(1))
    assert await apply(store, row, change, now=NOW + 7)
    found = await store.get(row.id)
    assert found is not None
    assert (found.phase, found.attempt) == (change.phase, change.attempt)
    assert found.version == row.version + 1
    last = (await store.transitions(row.id))[-1]
    assert (last.version, last.cause) == (found.version, cause_of(change))
    assert (last.from_phase, last.to_phase) == (row.phase, change.phase)
    assert (last.attempt, last.node) == (row.attempt, NODE)
    assert (last.message, last.at) == (change.message, found.updated_at)
    timers = await query(
        store, "SELECT node, due_at FROM timer WHERE execution_id = :id", id=row.id
    )
    if change.phase in TERMINAL:
        assert timers == []
    elif change.then is None:
        assert timers == [(None, change.due_at)]
    else:
        assert timers[0][0] == NODE, "the step goes on under its claim"


async def test_a_transition_writes_its_columns_and_no_others(store: Store) -> None:
    row = await make_row(store, Phase.RUNNING)
    before = await query(store, "SELECT * FROM execution")
    answer = Got(RemotePhase.RUNNING, "half way", '[{"uri": "u"}]', '{"a": 1}')
    assert await apply(store, row, _decide(row, answer), now=NOW + 9)
    found = await store.get(row.id)
    assert found is not None
    assert (found.remote_phase, found.message) == ("RUNNING", "half way")
    assert (list(found.log_links), found.custom_info) == ([{"uri": "u"}], {"a": 1})
    after = await query(store, "SELECT * FROM execution")
    changed = sum(a != b for a, b in zip(before[0], after[0], strict=True))
    names = "version updated_at remote_phase run_started_at message log_links custom"
    assert changed == len(names.split()), names


async def test_a_poll_without_news_writes_only_the_timer(store: Store) -> None:
    row = await make_row(
        store,
        make_claimed(Phase.RUNNING, remote_phase="RUNNING", run_started_at=NOW),
    )
    before = await dump(store)
    change = _decide(row, Got(RemotePhase.RUNNING))
    assert await apply(store, row, change)
    after = await dump(store)
    timer = after.pop("timer")
    assert before.pop("timer") != timer
    assert after == before
    polls = await query(store, "SELECT polls, step, due_at FROM timer")
    assert polls == [(1, 1, change.due_at)]


async def test_an_end_leaves_outputs_an_event_and_no_timer(store: Store) -> None:
    row = await make_row(store, Phase.RUNNING)
    assert await apply(store, row, _decide(row, succeeded()), now=NOW + HOUR)
    found = await store.get(row.id)
    assert found is not None
    assert (found.terminal, found.outputs) == (True, {"result": 1})
    assert (found.outputs_proto, found.error_code) == (b"out", None)
    assert (found.due_at, found.polls) == (None, 1)
    assert found.finished_at is not None
    events = await query(
        store, "SELECT execution_id, version, phase, due_at, tries FROM outbox"
    )
    assert events == [(row.id, 3, "SUCCEEDED", None, 0)]
    assert await store.terminal_of([row.id, "0" * 32]) == [row.id]
    assert await store.next_due([(TASK_TYPE, 0)]) is None


def _moved(row: Claimed) -> Change:
    return _decide(row, Got(RemotePhase.QUEUED, "news"))


def _ended(row: Claimed) -> Change:
    return _decide(row, succeeded())


def _noted(row: Claimed) -> Change:
    change = _decide(
        row._replace(remote_phase="RUNNING", run_started_at=NOW),
        Got(RemotePhase.RUNNING, "told again"),
    )
    assert change.cause is None
    assert change.sets
    return change


def _polled(row: Claimed) -> Change:
    change = _noted(row)
    change.sets.clear()
    return change


CHANGES = [_moved, _ended, _noted, _polled]
VERSIONED = [_moved, _ended, _noted]


async def _refused(store: Store, row: Claimed, change: Change, node: str) -> None:
    before = await dump(store)
    assert await apply(store, row, change, node=node, now=NOW + MINUTE) is False
    assert await dump(store) == before


@pytest.mark.parametrize("change", CHANGES)
async def test_another_node_is_refused(
    store: Store, change: Callable[[Claimed], Change]
) -> None:
    row = await make_row(store, Phase.RUNNING)
    await _refused(store, row, change(row), OTHER)


@pytest.mark.parametrize("change", CHANGES)
async def test_an_epoch_that_is_over_is_refused(
    store: Store, change: Callable[[Claimed], Change]
) -> None:
    """Also where the same node holds the row again under a newer claim."""
    row = await make_row(store, Phase.RUNNING)
    await execute(store, "UPDATE timer SET node = NULL")
    [again] = await claim(store)
    assert again.epoch == row.epoch + 1
    await _refused(store, row, change(row), NODE)
    assert await apply(store, again, change(again))


@pytest.mark.parametrize("change", CHANGES)
async def test_a_row_that_was_released_and_taken_elsewhere_is_refused(
    store: Store, change: Callable[[Claimed], Change]
) -> None:
    row = await make_row(store, Phase.RUNNING)
    await execute(store, "UPDATE timer SET node = NULL")
    [theirs] = await claim(store, OTHER)
    await _refused(store, row, change(row), NODE)
    assert await apply(store, theirs, change(theirs), node=OTHER)


@pytest.mark.parametrize("change", VERSIONED)
async def test_a_row_that_nobody_holds_is_refused(
    store: Store, change: Callable[[Claimed], Change]
) -> None:
    row = await make_row(store, Phase.RUNNING)
    await execute(store, "UPDATE timer SET node = NULL")
    await _refused(store, row, change(row), NODE)


async def test_a_poll_that_is_written_again_has_no_second_effect(
    store: Store,
) -> None:
    """Its claim is released by the first time, and that is no refusal."""
    row = await make_row(store, Phase.RUNNING)
    assert await apply(store, row, _polled(row))
    before = await dump(store)
    assert await apply(store, row, _polled(row), now=NOW + MINUTE)
    assert await dump(store) == before


@pytest.mark.parametrize("change", VERSIONED)
@pytest.mark.parametrize("behind", [1, 2])
async def test_a_version_that_is_over_is_refused_under_the_same_claim(
    store: Store, change: Callable[[Claimed], Change], behind: int
) -> None:
    row = await make_row(store, Phase.RUNNING)
    now = row
    for _ in range(behind):
        await execute(store, "UPDATE execution SET version = version + 1")
        await execute(
            store,
            "INSERT INTO history (execution_id, version, attempt, cause, from_phase,"
            " to_phase, at, epoch) SELECT id, version, 1, 'OTHER', phase, phase, 0,"
            " 1 FROM execution",
        )
        now = now._replace(version=now.version + 1)
    await _refused(store, row, change(row), NODE)
    assert await store.read_again(row, NODE) == now
    assert await apply(store, now, change(now))


@pytest.mark.parametrize("change", CHANGES)
async def test_a_terminal_row_refuses_everything(
    store: Store, change: Callable[[Claimed], Change]
) -> None:
    row = await make_row(store, Phase.RUNNING)
    assert await apply(store, row, _ended(row))
    await _refused(store, row, change(row), NODE)
    await _refused(store, row._replace(version=3), change(row), NODE)


async def test_a_batch_takes_what_is_guarded_and_refuses_the_rest(
    store: Store,
) -> None:
    """One transaction of many nodes, epochs and shapes: each for itself."""
    rows = [await make_row(store, Phase.RUNNING) for _ in range(12)]
    commits = store.writer.commits
    made = [CHANGES[n % 4](row) for n, row in enumerate(rows)]
    stale = [row._replace(epoch=row.epoch - (n % 3 == 0)) for n, row in enumerate(rows)]
    results = await asyncio.gather(
        *(
            apply(store, row, change, node=OTHER if n % 5 == 4 else NODE)
            for n, (row, change) in enumerate(zip(stale, made, strict=True))
        )
    )
    assert store.writer.commits == commits + 1
    assert results == [n % 3 != 0 and n % 5 != 4 for n in range(12)]
    for row, change, taken in zip(rows, made, results, strict=True):
        found = await store.get(row.id)
        assert found is not None
        moved = taken and change.cause is not None
        assert found.version == row.version + moved
        assert found.terminal == (taken and change.phase in TERMINAL)
        assert found.poll_errors == 0


async def test_one_row_changed_twice_in_one_batch_is_changed_once(
    store: Store,
) -> None:
    row = await make_row(store, Phase.RUNNING)
    results = await asyncio.gather(
        *(apply(store, row, _moved(row)) for _ in range(2)), return_exceptions=True
    )
    assert sorted(map(str, results)) == ["False", "True"]
    assert len(await store.transitions(row.id)) == 3


async def test_two_nodes_of_one_process_are_fenced_each_for_itself(
    store: Store,
) -> None:
    """A lease that was lost and begun anew: steps of both meet in one batch."""
    old = await make_row(store, Phase.RUNNING)
    await execute(store, "UPDATE timer SET node = NULL")
    [new] = await claim(store, OTHER)
    results = await asyncio.gather(
        apply(store, old, _moved(old), node=NODE),
        apply(store, new, _moved(new), node=OTHER),
    )
    assert list(results) == [False, True]


async def test_a_release_keeps_the_time_and_a_step_that_goes_on_keeps_the_claim(
    store: Store,
) -> None:
    row = await make_queued(store)
    intent = _decide(row, Due())
    assert await apply(store, row, intent)
    kept = await query(store, "SELECT node, epoch, due_at FROM timer")
    assert kept == [(NODE, row.epoch, NOW)], "due at once if this process dies"


async def test_the_timer_of_a_step_that_goes_on_is_written(store: Store) -> None:
    row = await make_row(store, make_claimed(Phase.RUNNING, abort_requested_at=NOW))
    change = _decide(row, Due())
    change.timer = Timer(polls=5, errors=2, last_error="no")
    assert await apply(store, row, change)
    timer = await query(store, "SELECT polls, errors, last_error, node FROM timer")
    assert timer == [(5, 2, "no", NODE)]


async def test_a_retry_begins_its_attempt_with_an_empty_row(store: Store) -> None:
    row = await make_row(store, Phase.RUNNING)
    change = _decide(row, Got(RemotePhase.RETRYABLE_FAILED), retries=1)
    assert await apply(store, row, change)
    [again] = await claim(store, now=NOW + SECOND)
    assert (again.attempt, again.meta, again.job_key) == (2, None, None)
    assert (again.inputs, again.creates) == (b"inputs", 0)
    last = (await store.transitions(row.id))[-1]
    assert last.attempt == 1, "the history row belongs to the attempt that ended"


async def test_more_rows_than_a_statement_holds_are_changed_in_one_transaction(
    store: Store,
) -> None:
    await store.submit([make_new() for _ in range(777)], NOW)
    rows = await claim(store, limit=1000)
    commits = store.writer.commits
    results = await asyncio.gather(
        *(apply(store, row, _decide(row, Due())) for row in rows)
    )
    assert results == [True] * 777
    assert store.writer.commits == commits + 1
    assert await store.counts() == {(TASK_TYPE, "CREATING"): 777}


@pytest.mark.parametrize("seed", range(3))
async def test_counters_are_what_a_group_by_counts(store: Store, seed: int) -> None:
    """Whatever was changed, refused or replaced on the way."""
    rng = Random(seed)
    templates = [situation.row for situation in SITUATIONS]
    for _ in range(15):
        situation = SITUATIONS[templates.index(rng.choice(templates))]
        row = await make_row(store, situation.row)
        policies = situation.policies
        change = decide(row, situation.observation, NOW, policies, rng)
        node = OTHER if rng.random() < 0.2 else NODE
        await apply(store, row, change, node=node)
    counted = await query(store, "SELECT phase, count(*) FROM execution GROUP BY 1")
    assert await store.counts() == {(TASK_TYPE, phase): n for phase, n in counted}
