"""A wish wins: no attempt begins after it, and a job at work is seen to its end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import Policy
from orchestrator.errors import ResourceGoneError
from tests.engine.kit import DEADLINE_S, RUNNING, Clock, Script, a_task, causes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator
    from orchestrator._records import Claimed
    from orchestrator._storage import Store
    from orchestrator.connectors import Resource

    Start = Callable[..., Awaitable[Orchestrator]]

GONE = ResourceGoneError("no such job")

# Opening a database touches the file system once.
pytestmark = pytest.mark.may_block


async def _abort_once_claimed(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let a user's abort be committed between the next claim and its step."""
    store: Store = orchestrator._engine.store
    claim = store.claim

    async def claim_then_abort(**options: object) -> list[Claimed]:
        rows = await claim(**options)  # type: ignore[arg-type]
        for row in rows:
            await orchestrator.abort(row.id, reason="changed my mind")
        return rows

    monkeypatch.setattr(store, "claim", claim_then_abort)


async def test_an_abort_between_claim_and_intent_means_no_create(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intent is refused, the row read again, and nothing was ever called."""
    script = Script()
    orchestrator = await engine(script, start=False)
    handle = await orchestrator.submit(a_task())
    await _abort_once_claimed(orchestrator, monkeypatch)
    async with asyncio.timeout(DEADLINE_S):
        await orchestrator.tick()
    ended = await handle.get()
    assert (ended.phase, ended.error_message) == ("ABORTED", "changed my mind")
    assert await causes(orchestrator, handle.id) == ["SUBMITTED", "ABORTED_UNSUBMITTED"]
    assert script.calls == []


@pytest.mark.parametrize(
    ("answers", "least", "most"),
    [
        # It may be a job that no replica lists yet, and a delete that found none.
        ({"delete": None}, 58, 70),
        ({"delete": [None, GONE]}, 0, 5),
        ({"delete": None, "delete_is_final": True}, 0, 0),
        ({"delete": None, "policy": Policy(gone_grace=timedelta(0))}, 0, 0),
    ],
    ids=["swallowed", "told", "final", "no grace"],
)
async def test_a_deleted_job_that_get_calls_gone_is_believed_after_the_grace(
    engine: Start, clock: Clock, answers: dict[str, Any], least: int, most: int
) -> None:
    """Or at once if delete says so itself, is final, or services list at once."""

    def get(**_: Any) -> Resource:
        if script.number("delete"):
            raise GONE
        return RUNNING

    script = Script(get=get, **answers)
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(2, orchestrator)
    await handle.abort()
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "ABORTED"
    assert ended.finished_at is not None
    assert ended.abort_requested_at is not None
    took = ended.finished_at - ended.abort_requested_at
    assert least <= took.total_seconds() <= most
