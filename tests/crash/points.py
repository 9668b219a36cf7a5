"""The worker's faults objects: they count the named points, and die or stop at one."""

from __future__ import annotations

import os
import signal
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.board import Board

_RANDOM_MAX = 1500
"""A batch of 50 jobs comes by about 2,000 points until all is terminal."""


class Points:
    """Counts every point on the board, and dies, or stops, at the n-th of one name."""

    def __init__(
        self,
        board: Board,
        *,
        name: str = "",
        nth: int = 1,
        dice: str | None = None,
        stopping: Callable[[], None] | None = None,
        seen: Callable[[str], None],
    ) -> None:
        """Choose where to die, or to stop until somebody continues it.

        Args:
            board: Where it is counted.
            name: Die here; empty for nowhere.
            nth: Die when it is reached for the n-th time.
            dice: Die at a point drawn from this seed, whatever its name.
            stopping: Stop instead, once this was told. While the writer is at work it
                is put off to the end of that transaction, unless the point is the
                writer's own: who stops with SQLite's write lock stops everybody.
                Nothing that was decided since the point is written by then.
            seen: Told of every point that was survived.
        """
        self._board = board
        self._name = name
        self._nth = nth
        self._left = -1 if dice is None else Random(dice).randint(1, _RANDOM_MAX)
        self._stopping = stopping
        self._writing = False
        self._put_off = False
        self._seen = seen

    def reach(self, name: str) -> None:
        """Take note that the engine is at *name*."""
        times = self._board.reached(name)
        if name in ("writer.before_begin", "writer.after_commit"):
            self._writing = name == "writer.before_begin"
            self._board.set("commit", self._writing)
        self._left -= 1
        if self._stopping is not None:
            if name == self._name and times >= self._nth:
                self._put_off = self._writing and not name.startswith("writer.")
                if not self._put_off:
                    self._stop(self._stopping)
            elif self._put_off and not self._writing:
                self._stop(self._stopping)
        elif self._left == 0 or (name == self._name and times == self._nth):
            os.kill(os.getpid(), signal.SIGKILL)
        self._seen(name)

    def _stop(self, stopping: Callable[[], None]) -> None:
        self._name = ""
        self._put_off = False
        stopping()
        os.kill(os.getpid(), signal.SIGSTOP)
