"""A wish that is committed before the intent wins: no attempt begins after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.engine.kit import DEADLINE_S, Clock, Script, a_task, causes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator
    from orchestrator._records import Claimed
    from orchestrator._storage import Store

    Start = Callable[..., Awaitable[Orchestrator]]

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
