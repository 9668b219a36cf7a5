"""What stands where a mechanism stood: each function here is the product without it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from orchestrator import _machine
from orchestrator._engine import _answers, _outcomes
from orchestrator._machine import _aborting, _creating, _running
from orchestrator._machine._case import Case
from orchestrator._phase import AbortReason, Cause, Cleanup, Phase
from orchestrator._records import Due
from orchestrator._storage import Store, _apply, _dialects
from orchestrator._storage._ddl import SQLITE_TRIGGERS
from orchestrator._storage._items import Batch, Flush, Run
from tests.unplugged.switch import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

    from orchestrator._records import CallFailed, Change
    from orchestrator._storage import Apply
    from orchestrator._storage._items import Item
    from orchestrator._storage._tx import Tx
    from orchestrator._storage._writer import Writer
    from orchestrator.errors import StoreError

_HOUR_US = 3600 * 10**6


async def nothing(*_: Any, **__: Any) -> None:
    """Do nothing, where something had to be done."""


def nothing_now(*_: Any, **__: Any) -> None:
    """The same for what is not awaited."""


def yes(*_: Any, **__: Any) -> bool:
    """Say yes without a look."""
    return True


def no(*_: Any, **__: Any) -> bool:
    """Say no without a look."""
    return False


# Storage


def without_triggers(*names: str) -> Patch:
    """Open a database without some of its triggers."""
    assert set(names) <= set(SQLITE_TRIGGERS)
    opened = Store.open

    async def drop(tx: Tx) -> None:
        for name in names:
            await tx.run(f"DROP TRIGGER IF EXISTS {name}")

    async def without(store: Store) -> None:
        await opened(store)
        await store.writer.write(Run(drop))

    return Patch(Store, "open", without)


def unwritten(*causes: Cause) -> Patch:
    """Take these transitions for committed, and write nothing of them."""
    write = _apply.Apply._write

    async def without(tx: Tx, items: Sequence[Apply], node: str) -> None:
        kept = []
        for item in items:
            item.result = True
            if item.change.cause not in causes:
                kept.append(item)
        if kept:
            await write(tx, kept, node)

    return Patch(_apply.Apply, "_write", staticmethod(without))


_engine = _dialects._engine


def without_full_sync(url: URL, busy_s: float) -> AsyncEngine:
    """Connect with synchronous=NORMAL."""
    engine = _engine(url, busy_s)

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    return engine


_add = Batch.add


def acknowledged_at_once(batch: Batch, item: Item) -> Flush:
    """Resolve what a caller awaits before anything is committed."""
    _add(batch, item)
    done = Flush(loop=asyncio.get_running_loop())
    done.set_result(None)
    return done


async def commit_instead(writer: Writer, _transaction: Any) -> None:
    """Keep what the statements before the one that failed have written."""
    assert writer._connection is not None
    raw = await writer._connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.commit()


async def not_read_back(writer: Writer, batch: list[Item]) -> list[Item]:
    """Write all of it again, without a question."""
    await writer._disconnect()
    return batch


async def uncut(writer: Writer, batch: list[Item]) -> None:
    """Let a whole batch fail with what one of its rows has raised."""
    try:
        await writer._transaction(batch)
    except Exception as error:  # noqa: BLE001 - as the writer does
        for item in batch:
            item.error = error


def impatient(_writer: Writer, batch: list[Item], error: StoreError) -> list[Item]:
    """Fail everything as soon as the database is away."""
    for item in batch:
        item.error = error
    return []


async def no_holders(*_: Any) -> dict[Any, Any]:
    """Know of no idempotency key."""
    return {}


async def all_together(_tx: Tx, together: Callable[[], Any], *_: Any) -> Any:
    """Take all rows or none."""
    return await together()


# Create


_in_creating = _machine._in_creating


def left_alone(case: Case, observation: Any) -> Change:
    """Leave a row that was found CREATING as it is."""
    if isinstance(observation, Due):
        return case.note(due=case.now + _HOUR_US)
    return _in_creating(case, observation)


_calls_made = count(1)


def a_token_per_call(execution_id: str, attempt: int) -> str:
    """Name each call, not each attempt."""
    return f"o{execution_id}-{attempt + next(_calls_made)}"


def a_token_per_execution(execution_id: str, _attempt: int) -> str:
    """Name the execution, not the attempt."""
    return f"o{execution_id}-1"


def never_found(case: Case, *, in_flight: bool) -> Change:
    """Take every service for one that cannot be searched."""
    blind = case._replace(policies=replace(case.policies, can_find=False))
    return _recover(blind, in_flight=in_flight)


def absent_at_once(case: Case) -> Change:
    """Believe the first search that finds nothing."""
    change = _creating._create_again(case, Cause.KNOWN_ABSENT, creates=1)
    return _creating._swept(case, change)


def unswept(_case: Case, change: Change) -> Change:
    """Let no search go on."""
    return change


def create_again(case: Case) -> Change:
    """Create again where nobody knows."""
    creates = case.row.creates + 1
    return _creating._create_again(case, Cause.CREATE_AGAIN, creates=creates)


def believed_not_created(case: Case, failed: CallFailed) -> Change:
    """Take every exception of create for "not created"."""
    return _creating._not_created(case, failed)


def cut_off(_calls: Any, task: asyncio.Task[Any], *_: Any) -> None:
    """Cancel a create that has not answered in time."""
    task.cancel()


_recover = _creating.recover


# Get and delete


def lost_at_once(case: Case, failed: CallFailed) -> Change:
    """Take an error of get for the job's end."""
    return case.end(Cause.JOB_LOST, code="LOST", message=failed.message)


def asked_for_ever(case: Case, failed: CallFailed) -> Change:
    """Spend no budget, however long get fails."""
    return case.polled().later(failed)


_failed_timer = Case.failed_timer


def spent_at_once(case: Case, failed: CallFailed) -> Any:
    """Count many errors as a long time."""
    return _failed_timer(case, failed)._replace(budget_us=10**15)


def untold(case: Case, failed: CallFailed) -> Any:
    """Keep no error for people to see."""
    return _failed_timer(case, failed)._replace(last_error=None)


async def guarded_from_exceptions_alone(
    method: Any, kwargs: dict[str, Any], answer: Any
) -> Any:
    """Let through what is no `Exception`."""
    outcome: Any
    try:
        outcome = await method(**kwargs)
    except Exception as error:  # noqa: BLE001 - as the guard does
        outcome = _outcomes.Raised(error)
    answer.give(outcome)
    return outcome


def ended_by_a_returned_delete(case: Case) -> Change:
    """Take a returned delete for the job's end."""
    return _aborting._end(case, Cleanup.DONE)


_abort = _running._abort


def next_attempt_at_once(
    case: Case, reason: AbortReason, message: str, **more: Any
) -> Change:
    """Begin the next attempt without waiting for the end of the job."""
    if reason is AbortReason.RUN_TIMEOUT and case.can_retry():
        return case.retry(Cause.JOB_LOST_RETRY, message, None)
    return _abort(case, reason, message, **more)


def retried_in_spite_of_the_user(case: Case) -> bool:
    """Look at the budget of retries alone."""
    return case.row.attempt <= case.policies.limits.retries


def only_users_press(case: Case) -> AbortReason | None:
    """Know no time limit."""
    return None if case.row.abort_requested_at is None else AbortReason.USER


def failed_instead(case: Case, _hold: Any, message: str, **_: Any) -> Change:
    """Fail what only had to wait."""
    if case.phase is Phase.RUNNING:
        return case.end(Cause.JOB_LOST, code="LOST", message=message)
    return case.end(Cause.CREATE_OUTCOME_UNKNOWN, code="LOST", message=message)


def unchanged(_redactor: Any, text: str, *_: Any) -> str:
    """Show the text as it came."""
    return text


def no_steps(*_: Any) -> tuple[int, int]:
    """See no step of the clock."""
    return 0, 0


class _Boundless:
    """A context whose connector may answer with outputs of any size."""

    output_bytes_max = 10**12

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


_outputs = _answers.Answers._outputs


def outputs_of_any_size(answers: _answers.Answers, given: Any, context: Any) -> Any:
    """Take outputs whatever their size."""
    bounded: Any = _Boundless(context)
    return _outputs(answers, given, bounded)
