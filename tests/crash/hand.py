"""The user's hand: it aborts executions, and gives up creates, as planned."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from orchestrator._ids import create_token
from orchestrator.errors import InvalidInputError
from orchestrator.testing._jobserver._vocabulary import execution_of
from tests.crash.scenario import STAGES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from orchestrator import Orchestrator
    from tests.crash.board import Board
    from tests.crash.scenario import Kind

_CLEANED_S = 1.0


class Hand:
    """Wishes what the plan says when its executions come to their stage.

    Works from what it sees: the connector's calls (`around`) and the named points
    (`seen`). After a restart the plan is the same and the hand starts anew.
    """

    def __init__(
        self,
        board: Board,
        *,
        say: Callable[..., None],
        release: Callable[[str], Awaitable[object]],
    ) -> None:
        """Take the means.

        Args:
            board: Where the connector's calls are marked.
            say: Told of each wish that was accepted.
            release: Lets the service give the answers that it withholds of a token.
        """
        self._board = board
        self._say = say
        self._release = release
        self._stages: dict[str, int] = {}
        self._aborts: dict[str, int] = {}
        self._give_ups: set[str] = set()
        self._giving_up: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._creates: dict[str, int] = {}
        self._owed = 0
        self._paid = asyncio.Event()
        self.orchestrator: Orchestrator | None = None

    def take(self, execution_id: str, kind: Kind) -> None:
        """Treat an acknowledged execution as its *kind* says."""
        if kind.abort_at is not None:
            self._aborts[execution_id] = STAGES.index(kind.abort_at)
        if kind.give_up:
            self._give_ups.add(execution_id)
        self._passed(execution_id, "submitted")

    @contextmanager
    def around(self, verb: str, token: str) -> Iterator[None]:
        """See a connector's call."""
        execution_id = execution_of(token)
        if verb == "get":
            self._passed(execution_id, "polled")
        if verb != "create":
            with self._board.inside(verb):
                yield
            return
        self._passed(execution_id, "creating")
        self._creates[execution_id] = self._creates.get(execution_id, 0) + 1
        try:
            with self._board.inside(verb):
                yield
        finally:
            self._creates[execution_id] -= 1
        self._passed(execution_id, "created")

    def seen(self, point: str) -> None:
        """See a named point."""
        if point == "recover.after_commit" and self._give_ups:
            if self._giving_up is None or self._giving_up.done():
                self._giving_up = self._spawn(self._give_up())
        elif point == "cleanup.after_commit":
            # What an earlier life owed may be paid first: that is none of ours.
            self._owed = max(self._owed - 1, 0)
            self._paid.set()

    def _passed(self, execution_id: str, stage: str) -> None:
        reached = max(STAGES.index(stage), self._stages.get(execution_id, 0))
        self._stages[execution_id] = reached
        if self._aborts.get(execution_id, len(STAGES)) <= reached:
            del self._aborts[execution_id]
            self._spawn(self._abort(execution_id))

    async def _abort(self, execution_id: str) -> None:
        assert self.orchestrator is not None
        await self.orchestrator.abort(execution_id, reason="the plan says so")
        self._say("WISH", execution_id)

    async def _give_up(self) -> None:
        """Give up what is CREATE_UNKNOWN, then let the service answer after all."""
        assert self.orchestrator is not None
        for execution_id in list(self._give_ups):
            execution = await self.orchestrator.get(execution_id)
            if not execution.terminal:
                try:
                    await self.orchestrator.resolve(execution_id, give_up=True)
                except InvalidInputError:  # not unknown yet, or already again
                    continue
                self._say("GIVEN-UP", execution_id)
                execution = await self.orchestrator.wait(execution_id)
            self._give_ups.discard(execution_id)
            self._owed += bool(self._creates.get(execution_id))
            await self._release(create_token(execution_id, execution.attempt))

    async def finish(self) -> None:
        """Wait for the wishes under way, and for what they left to be cleaned."""
        await asyncio.gather(*self._tasks)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLEANED_S):
                while self._owed > 0:
                    self._paid.clear()
                    await self._paid.wait()

    def _spawn(self, wish: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(wish)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
