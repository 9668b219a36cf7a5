"""Every way to misbehave, in every call: that row suffers for it, and no other."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors import Resource
from tests.engine.kit import DONE, RUNNING, Clock, Meta, Script, a_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from orchestrator import Orchestrator

    Start = Callable[..., Awaitable[Orchestrator]]

# Opening a database touches the file system once, and some block on purpose.
pytestmark = pytest.mark.may_block

CALLS = ("create", "get", "delete", "find")


class UnspeakableError(Exception):
    """Its text ends the process, if it may."""

    def __str__(self) -> str:
        raise SystemExit(4)


class VagueError(Exception):
    """Its text raises what raises again when it is asked for its text."""

    def __str__(self) -> str:
        raise VagueError


RAISED: dict[str, Callable[[], BaseException]] = {
    "closes": GeneratorExit,
    "stops": lambda: StopIteration(1),
    "raises what exits when it is read": UnspeakableError,
    "raises what raises when it is read": VagueError,
    "raises a group": lambda: BaseExceptionGroup(
        "two", [SystemExit(5), asyncio.CancelledError(), ValueError("a")]
    ),
    "raises a long text": lambda: ValueError(
        "\x1b[31m\0\u202e\ud800" + "x" * 3_000_000
    ),
}
"""Exceptions that ``test_errors`` has not."""


def _raises(make: Callable[[], BaseException]) -> Callable[..., Awaitable[Any]]:
    async def call(**_: Any) -> Any:
        raise make()

    return call


class Behaviours:
    """What is no exception: calls that hang, block, leak."""

    def __init__(self, clock: Clock) -> None:
        """Let time go by on *clock*, so that hanging calls run into their limits."""
        self._clock = clock
        self.release = asyncio.Event()
        self.leaked: list[asyncio.Task[Any]] = []

    async def hangs(self, **_: Any) -> None:
        """Ignore every cancellation, until the test ends."""
        self._clock.advance(61)
        while not self.release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.release.wait()

    async def blocks(self, **_: Any) -> None:
        """Keep the loop busy for a while, and fail."""
        total = sum(number * number for number in range(300_000))
        raise ValueError(total)

    async def leaks(self, **_: Any) -> None:
        """Leave tasks behind that nobody waits for, one of them broken."""
        for _number in range(100):
            self.leaked.append(asyncio.create_task(self._leaked()))
        raise ConnectionError("leaky")

    async def _leaked(self) -> None:
        while not self.release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.release.wait()

    async def ends(self) -> None:
        """Let everything that was left behind end."""
        self.release.set()
        await asyncio.gather(*self.leaked)


@pytest.fixture
async def behaviours(clock: Clock, engine: Start) -> AsyncIterator[Behaviours]:
    """Return what misbehaves; all that it left behind ends before the engine does."""
    made = Behaviours(clock)
    yield made
    await made.ends()


BEHAVIOURS = [*RAISED, "hangs", "blocks", "leaks"]


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_misbehaviour_in_any_call_ends_as_its_row_of_the_table_says(
    name: str, engine: Start, clock: Clock, behaviours: Behaviours
) -> None:
    """Unknown creates are not repeated, all else is; a friendly neighbour succeeds."""
    bad = _raises(RAISED[name]) if name in RAISED else getattr(behaviours, name)
    cut = ConnectionError("cut")
    scripts = {
        "create": Script("create", create=[bad]),
        "get": Script("get", get=[bad, bad, DONE]),
        "delete": Script(
            "delete", get=RUNNING, delete=[bad, bad, None], delete_is_final=True
        ),
        "find": Script("find", create=[cut], find=[bad, bad, Meta("job-9")]),
    }
    friend = Script("friend")
    orchestrator = await engine(*scripts.values(), friend)
    handles = {c: await orchestrator.submit(a_task(task_type=c)) for c in CALLS}
    neighbour = await orchestrator.submit(a_task(task_type="friend"))
    await clock.settle(orchestrator)
    await handles["delete"].abort("hostile")
    ended = {
        call: await clock.until_ended(orchestrator, handle.id)
        for call, handle in handles.items()
    }
    assert ended["create"].error_code == "CREATE_OUTCOME_UNKNOWN"
    assert ended["get"].phase == "SUCCEEDED"
    assert ended["delete"].phase == "ABORTED"
    assert (ended["find"].phase, ended["find"].job_key) == ("SUCCEEDED", "job-9")
    assert [scripts[c].number(c) for c in CALLS] == [1, 3, 3, 3]
    after = await orchestrator.submit(a_task(task_type="friend"))
    for handle in (neighbour, after):
        assert (await clock.until_ended(orchestrator, handle.id)).phase == "SUCCEEDED"
    assert not any(task.done() for task in orchestrator._engine._loops)
    for handle in handles.values():
        for transition in await handle.history():
            message = transition.message or ""
            assert len(message) <= 4100
            assert message.isprintable(), "errors are text for people"


class ExitsWhenRead(Resource):
    """Ends the process when one looks at its outputs, if it may."""

    def __getattribute__(self, name: str) -> Any:
        if name == "message":
            raise SystemExit(6)
        return super().__getattribute__(name)


class Exits:
    """A value whose text ends the process, if it may."""

    def __str__(self) -> str:
        raise SystemExit(7)


class Spiteful(Meta):
    """A handle whose encoding ends the process, if it may."""

    def encode(self) -> bytes:
        """Do it."""
        raise SystemExit(8)


ANSWERS: dict[str, Any] = {
    "a message": Resource(phase=TaskExecution.SUCCEEDED, message=Exits()),  # type: ignore[arg-type]
    "a detail": Resource(phase=TaskExecution.SUCCEEDED, custom_info={"a": Exits()}),
    "a property": ExitsWhenRead(phase=TaskExecution.SUCCEEDED),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_exits_when_it_is_read_is_an_error_of_the_call(
    name: str, engine: Start, clock: Clock
) -> None:
    orchestrator = await engine(Script(get=[ANSWERS[name], DONE]))
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.phase == "SUCCEEDED"
    began = next(t for t in await handle.history() if t.cause == "ERRORS_BEGAN")
    assert "nonsense: SystemExit" in (began.message or "")


async def test_a_handle_that_exits_when_it_is_stored_is_unknown(
    engine: Start, clock: Clock
) -> None:
    orchestrator = await engine(Script(create=[Spiteful("1")]), Script("friend"))
    handle = await orchestrator.submit(a_task())
    ended = await clock.until_ended(orchestrator, handle.id)
    assert ended.error_code == "CREATE_OUTCOME_UNKNOWN"
    friend = await orchestrator.submit(a_task(task_type="friend"))
    assert (await clock.until_ended(orchestrator, friend.id)).phase == "SUCCEEDED"
