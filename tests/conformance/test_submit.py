"""Submissions: atomic, durable when acknowledged, once per idempotency key."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._config import Config
from orchestrator._machine import decide
from orchestrator._phase import Phase, RemotePhase
from orchestrator._records import Created, Due, Got
from tests.support.factories import (
    NOW,
    SECOND,
    TASK_TYPE,
    TEMPLATE,
    make_job,
    make_new,
    make_policies,
    succeeded,
)
from tests.support.stores import REFUSED, apply, claim, dump, make_row, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator._storage import NewExecution, Store


async def _keyed(store: Store, *, succeeds: bool, key: str = "k") -> str:
    """Submit with a key and bring the execution to its end; return its id."""
    new = make_new(key=key)
    await store.submit([new], NOW)
    [row] = await claim(store)
    answer = succeeded() if succeeds else Got(RemotePhase.FAILED)
    rng, policies = Random(1), make_policies()
    intent = decide(row, Due(), NOW, policies, rng)
    assert await apply(store, row, intent)
    row = row._replace(phase="CREATING", version=2, creates=1)
    created = decide(row, Created(make_job(900)), NOW, policies, rng)
    assert await apply(store, row, created)
    [row] = await claim(store, now=NOW + SECOND)
    assert await apply(store, row, decide(row, answer, NOW, policies, rng))
    return str(new.row["id"])


async def test_a_submission_is_there_whole_when_it_is_acknowledged(
    store: Store,
) -> None:
    new = make_new(labels='{"team": "growth"}', priority=5, inputs_json='{"x": 1}')
    [answer] = await store.submit([new], NOW)
    assert answer == (new.row["id"], False, False)
    found = await store.get(new.row["id"])
    assert found is not None
    assert (found.phase, found.version, found.attempt) == (Phase.QUEUED, 1, 1)
    assert (found.labels, found.priority) == ({"team": "growth"}, 5)
    assert (found.inputs, found.terminal) == ({"x": 1}, False)
    assert found.due_at == found.submitted_at
    [first] = await store.transitions(found.id)
    assert (first.version, first.cause, first.from_phase) == (1, "SUBMITTED", None)
    assert await store.template_proto(TEMPLATE[0]) == TEMPLATE[1]
    assert await store.inputs_proto(found.id) == b"inputs"
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 1}


async def test_an_execution_that_is_not_there_is_none(store: Store) -> None:
    assert await store.get("0" * 32) is None
    assert await store.template_proto("none") is None
    assert await store.inputs_proto("0" * 32) is None
    assert await store.transitions("0" * 32) == []


async def test_a_group_is_stored_whole_or_not_at_all(store: Store) -> None:
    before = await dump(store)
    group = [make_new(), make_new(attempt=0), make_new()]
    with pytest.raises(REFUSED):
        await store.submit(group, NOW)
    assert await dump(store) == before


async def test_a_group_of_thousands_is_one_transaction(store: Store) -> None:
    commits = store.writer.commits
    answers = await store.submit([make_new() for _ in range(2345)], NOW)
    assert (len(answers), store.writer.commits) == (2345, commits + 1)
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 2345}


async def test_equal_templates_are_stored_once(store: Store) -> None:
    other = ("another", b"other", "{}")
    await store.submit([make_new(), make_new()], NOW)
    await store.submit(
        [make_new(), make_new(template=other, template_hash="another")], NOW
    )
    hashes = await query(store, "SELECT hash FROM template ORDER BY hash")
    assert hashes == [("another",), (TEMPLATE[0],)]


async def test_a_template_that_is_missing_refuses_its_execution(store: Store) -> None:
    with pytest.raises(REFUSED):
        await store.submit([make_new(template_hash="unknown")], NOW)


async def test_a_key_answers_with_its_holder(store: Store) -> None:
    first = make_new(key="nightly")
    await store.submit([first], NOW)
    before = await dump(store)
    [again] = await store.submit([make_new(key="nightly")], NOW)
    assert again == (first.row["id"], True, False)
    assert await dump(store) == before


async def test_a_key_of_another_request_is_a_conflict(store: Store) -> None:
    first = make_new(key="nightly")
    await store.submit([first], NOW)
    before = await dump(store)
    other = make_new(key="nightly", request_hash="another")
    [answer] = await store.submit([other], NOW)
    assert answer == (first.row["id"], True, True)
    assert await dump(store) == before


async def test_a_conflict_refuses_its_whole_group_and_no_other(store: Store) -> None:
    await store.submit([make_new(key="taken")], NOW)
    before = await dump(store)
    conflict = make_new(key="taken", request_hash="another")
    bad = [make_new(), make_new(key="fresh"), conflict]
    good = [make_new(key="fresh")]
    answers = await asyncio.gather(store.submit(bad, NOW), store.submit(good, NOW))
    assert [answer.conflict for answer in answers[0]] == [False, False, True]
    assert answers[1] == [(good[0].row["id"], False, False)]
    after = await dump(store)
    assert len(after["execution"]) == len(before["execution"]) + 1


async def test_one_key_twice_in_a_group_is_one_execution(store: Store) -> None:
    group = [make_new(key="k"), make_new(key="k"), make_new(key="other")]
    answers = await store.submit(group, NOW)
    ids = [new.row["id"] for new in group]
    assert answers == [
        (ids[0], False, False),
        (ids[0], True, False),
        (ids[2], False, False),
    ]
    assert await store.counts() == {(TASK_TYPE, "QUEUED"): 2}


async def test_one_key_of_two_callers_at_once_is_one_execution(store: Store) -> None:
    """They meet in one transaction, and the second is answered with the first."""
    news = [make_new(key="k") for _ in range(20)]
    commits = store.writer.commits
    answers = await asyncio.gather(*(store.submit([new], NOW) for new in news))
    assert store.writer.commits == commits + 1
    assert {answer.execution_id for [answer] in answers} == {news[0].row["id"]}
    assert [answer.existing for [answer] in answers] == [False, *[True] * 19]


async def test_one_key_of_two_stores_is_one_execution(
    open_store: Callable[..., Store],
) -> None:
    stores = [open_store(config=Config()), open_store(config=Config())]
    for store in stores:
        await store.open()
    keys = [f"k{number}" for number in range(30)]
    answers = await asyncio.gather(
        *(store.submit([make_new(key=key)], NOW) for key in keys for store in stores)
    )
    assert len({answer.execution_id for [answer] in answers}) == len(keys)
    assert sum(answer.existing for [answer] in answers) == len(keys)
    assert await stores[0].counts() == {(TASK_TYPE, "QUEUED"): len(keys)}


async def test_a_terminal_holder_is_returned_as_it_is(store: Store) -> None:
    failed = await _keyed(store, succeeds=False)
    [answer] = await store.submit([make_new(key="k")], NOW)
    assert answer == (failed, True, False)


async def test_a_failed_holder_gives_its_key_up_where_that_is_asked(
    store: Store,
) -> None:
    failed = await _keyed(store, succeeds=False)
    new = make_new(key="k", replaces_failed=True)
    [answer] = await store.submit([new], NOW)
    assert answer == (new.row["id"], False, False)
    found = await store.get(new.row["id"])
    assert found is not None
    assert found.retry_of == failed
    [again] = await store.submit([make_new(key="k", replaces_failed=True)], NOW)
    assert again == (new.row["id"], True, False), "the new holder is live"


@pytest.mark.parametrize("held_by", ["live", "succeeded", "another request"])
async def test_only_a_failed_holder_of_the_same_request_gives_its_key_up(
    store: Store, held_by: str
) -> None:
    options: dict[str, Any] = {"replaces_failed": True}
    if held_by == "live":
        await store.submit([make_new(key="k")], NOW)
    else:
        await _keyed(store, succeeds=held_by == "succeeded")
    if held_by == "another request":
        options["request_hash"] = "another"
    [answer] = await store.submit([make_new(key="k", **options)], NOW)
    assert answer.existing
    assert answer.conflict == (held_by == "another request")


def _attached(number: int) -> NewExecution:
    job = make_job(number)
    return make_new(
        cause="ATTACHED",
        phase="RUNNING",
        job=job,
        meta=job.meta,
        meta_version=job.meta_version,
        job_key=job.job_key,
        created_at=NOW,
    )


async def test_an_attached_job_is_running_and_in_the_ledger(store: Store) -> None:
    new = _attached(3)
    await store.submit([new], NOW)
    [entry] = await store.jobs(execution_id=new.row["id"])
    assert (entry.job_key, entry.cleanup) == ("job-3", "NONE")
    assert entry.adopted_at is not None
    [row] = await claim(store)
    assert (row.phase, row.meta, row.job_key) == ("RUNNING", b"meta-3", "job-3")


async def test_a_job_is_attached_once(store: Store) -> None:
    """Two executions of one job would abort and pay for each other's.

    Whoever attaches it again, also in the same submission, gets the one that has it.
    """
    [first, same] = await store.submit([_attached(3), _attached(3)], NOW)
    assert same == (first.execution_id, True, False)
    before = await dump(store)
    assert await store.submit([_attached(3)], NOW) == [same]
    assert await dump(store) == before


async def test_executions_are_listed_newest_first_in_stable_pages(
    store: Store,
) -> None:
    news = [make_new(labels=json.dumps({"n": str(n % 2)})) for n in range(7)]
    await store.submit(news, NOW)
    ids = sorted((new.row["id"] for new in news), reverse=True)
    first = await store.find(limit=3)
    await store.submit([make_new()], NOW)
    second = await store.find(limit=10, after=first[-1].id)
    assert [e.id for e in (*first, *second)] == ids
    odd = await store.find(labels={"n": "1"})
    assert len(odd) == 3


async def test_lists_are_filtered_by_phase_type_name_and_hold(store: Store) -> None:
    running = await make_row(store, Phase.RUNNING)
    await store.submit([make_new(name="other", task_type="spark")], NOW)
    for filters in ({"phases": ["RUNNING"]}, {"task_type": TASK_TYPE}):
        assert [e.id for e in await store.find(**filters)] == [running.id]
    for filters in ({"name": "other"}, {"task_type": "spark"}):
        assert [e.name for e in await store.find(**filters)] == ["other"]
    assert await store.find(held=True) == []
    assert len(await store.find(held=False)) == 2
