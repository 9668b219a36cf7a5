"""What has to be in the file before a call is made, seen by who looks from outside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.kit import KILLED, RUNNING, Clock, Gate, Meta, Script, a_task, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once; so does looking at it.
pytestmark = pytest.mark.may_block

_ROWS = "SELECT phase, end_reason FROM execution"
_CAUSES = "SELECT cause FROM history ORDER BY version DESC LIMIT 1"
_DEBTS = "SELECT job_key, cleanup FROM external_job"


class Witness:
    """Answers a call once it has read what a crash in this very moment would leave."""

    def __init__(self, path: Path, answer: Any, *queries: str) -> None:
        """Ask the file at *path* the *queries*, then answer."""
        self._path = path
        self._answer = answer
        self._queries = queries
        self.saw: list[Any] = []

    def answer(self) -> Callable[..., Awaitable[Any]]:
        """Return what goes into a script."""

        async def look(**_: Any) -> Any:
            with closing(sqlite3.connect(self._path)) as db:
                for query in self._queries:
                    self.saw += db.execute(query).fetchall()
            return self._answer

        return look


async def test_the_intent_is_in_the_file_when_create_is_called(
    engine: Start, clock: Clock, path: Path
) -> None:
    witness = Witness(path, Meta("job"), _ROWS, _CAUSES)
    orchestrator = await engine(Script(create=witness.answer(), get=RUNNING))
    await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    assert witness.saw == [("CREATING", None), ("CREATE_INTENT",)]


async def test_the_decision_to_abort_is_in_the_file_when_delete_is_called(
    engine: Start, clock: Clock, path: Path
) -> None:
    """One way: whoever takes the row over can do nothing but go on deleting."""
    witness = Witness(path, None, _ROWS, _CAUSES)
    orchestrator = await engine(Script(delete=witness.answer(), get=KILLED))
    handle = await orchestrator.submit(a_task())
    await clock.settle(orchestrator)
    await handle.abort()
    await clock.until_ended(orchestrator, handle.id)
    assert witness.saw == [("ABORTING", "USER"), ("ABORT_REQUESTED",)]


async def test_a_debt_is_in_the_file_when_its_job_is_deleted(
    engine: Start, clock: Clock, path: Path
) -> None:
    gate = Gate(Meta("nobody's"))
    witness = Witness(path, None, _DEBTS)
    script = Script(
        create=gate.answer(), delete=witness.answer(), on_unknown_create="hold"
    )
    script.delete_is_final = True
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await gate.wait()
    clock.advance(60)
    await clock.settle(orchestrator)
    await orchestrator.resolve(handle.id, give_up=True)
    await clock.until_ended(orchestrator, handle.id)
    gate.opened.set()

    async def deleted() -> bool:
        return bool(witness.saw)

    await until(deleted)
    assert witness.saw == [("nobody's", "DUE")]
