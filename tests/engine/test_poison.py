"""Garbage in every column: that row is held or left alone, and all others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator._storage._schema import execution, external_job, timer
from tests.engine.kit import DONE, RUNNING, Clock, Script, a_task
from tests.support.spoiler import Spoiler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Table

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once; so does spoiling it.
pytestmark = pytest.mark.may_block

GARBAGE = {
    "blob": "x'ff00'",
    "text": "'garbage'",
    "no UTF-8": "CAST(x'fffe' AS TEXT)",
    "2**63-1": "9223372036854775807",
    "1e300": "1e300",
    "NULL": "NULL",
}
SOME = {"QUEUED": [*GARBAGE], "RUNNING": ["blob", "1e300"]}
"""Kinds of garbage by phase: all of them in both would take too long."""


@pytest.fixture
def spoiler(path: Path) -> Iterator[Spoiler]:
    """Return what spoils the test's database."""
    made = Spoiler(path)
    yield made
    made.close()


def _cases(table: Table, phase: str) -> list[tuple[str, str]]:
    values = [GARBAGE[kind] for kind in SOME[phase]]
    found = [(column.name, value) for column in table.c for value in values]
    # An execution and a timer of another that are spoiled alike would be a pair.
    alike = {("execution_id", GARBAGE[kind]) for kind in ("text", "2**63-1", "1e300")}
    return [case for case in found if case not in alike]


@pytest.mark.parametrize("phase", ["QUEUED", "RUNNING"])
async def test_garbage_in_a_column_harms_its_own_row_only(
    phase: str, engine: Start, clock: Clock, spoiler: Spoiler
) -> None:
    """Then somebody mends the rows, and all of them go on to their ends."""
    first = await engine(Script(get=RUNNING), start=phase == "RUNNING")
    cases = [("execution", "id", *case) for case in _cases(execution, phase)]
    cases += [("timer", "execution_id", *case) for case in _cases(timer, phase)]
    handles = await first.submit_many([(a_task(), {}, {}) for _ in cases])
    good = await first.submit(a_task())
    if phase == "RUNNING":
        await clock.settle(first)
    await first.close()
    spoiled = {
        handle.id: case
        for handle, case in zip(handles, cases, strict=True)
        if spoiler.spoil(case[0], case[1], handle.id, case[2], case[3])
    }
    whys = {why for _, why in spoiler.refused}
    assert "a transition adds one to the version" in whys
    assert len(whys - {"NOT NULL constraint failed"}) == 1

    second = await engine(Script(get=DONE))
    assert (await clock.until_ended(second, good.id)).phase == "SUCCEEDED"
    await clock.pass_(70, second)
    another = await second.submit(a_task())
    assert (await clock.until_ended(second, another.id)).phase == "SUCCEEDED"
    assert not any(task.done() for task in second._engine._loops)
    shown = {e.id: e for e in await second.list(limit=1000)}
    assert {i for i, case in spoiled.items() if case[2] != "id"} <= shown.keys()
    for execution_id, case in spoiled.items():
        if case[2:] in (("labels", GARBAGE["blob"]), ("due_at", GARBAGE["text"])):
            read = await second.get(execution_id)
            assert read == shown[execution_id]
            assert read.hold == "POISON"
            assert read.last_error == f"cannot be read: {case[2]}"
    waiting = {e.id for e in await second.stuck()}
    held = {i for i, case in spoiled.items() if case[1:3] == ("execution_id", "due_at")}
    assert held <= waiting, "what never comes due waits for somebody"
    await second.close()

    spoiler.mend()
    spoiler.run("UPDATE timer SET due_at = ?", clock.now_us())
    third = await engine(Script(get=DONE))
    await clock.pass_(70, third)
    after = {e.id: e for e in await third.list(limit=1000)}
    for execution_id, case in spoiled.items():
        ended = after[execution_id]
        if case[2] == "epoch":  # a trigger keeps most of them from being lowered
            continue
        if case[2] == "abort_requested_at":  # any value is a wish
            assert ended.phase in {"ABORTED", "SUCCEEDED"}, case
        else:
            assert ended.phase == "SUCCEEDED", case
    await third.crash()


FACTS = dict.fromkeys(
    (
        "execution_id",
        "attempt",
        "job_key",
        "shared_key",
        "meta",
        "meta_version",
        "recorded_at",
    ),
    "the ledger is append-only",
) | {"adopted_at": "an entry once due is never adopted"}


async def test_garbage_in_the_ledger_harms_its_own_debt_only(
    engine: Start, clock: Clock, spoiler: Spoiler
) -> None:
    """The triggers keep the facts; what is spoiled beside them is put off or shown."""
    script = Script(delete_is_final=True)
    first = await engine(script)
    cases = [
        (column.name, value)
        for column in external_job.c
        for value in (GARBAGE["blob"], GARBAGE["no UTF-8"], GARBAGE["1e300"])
        if column.name != "id"
    ]
    handles = await first.submit_many(
        [(a_task(), {}, {}) for _ in range(len(cases) + 1)]
    )
    await clock.pass_(60, first)
    await first.close()
    spoiler.run(
        "UPDATE external_job SET cleanup = 'DUE', cleanup_due_at = recorded_at,"
        " cleanup_since = recorded_at"
    )
    for handle, case in zip(handles, cases, strict=False):
        taken = spoiler.spoil("external_job", "execution_id", handle.id, *case)
        assert taken == (case[0] not in FACTS), case
    assert spoiler.refused == set(FACTS.items())

    second = await engine(script)
    await clock.pass_(10, second)
    [good] = await second.jobs(handles[-1].id)
    assert good.cleanup == "DONE"
    shown = await second.jobs()
    assert len(shown) == len(handles)
    marked = {job.cleanup_error for job in shown}
    assert "cannot be read: cleanup" in marked
    assert "cannot be read: cleanup_tries" in marked
    friend = await second.submit(a_task())
    assert (await clock.until_ended(second, friend.id)).phase == "SUCCEEDED"
    assert not any(task.done() for task in second._engine._loops)
