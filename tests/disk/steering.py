"""The parent's side of a steered worker: orders, and waiting for what it says."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from tests.disk.checker import Owed
from tests.jobserver.launch import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.jobserver.launch import RunningServer

PATIENCE_S = 30.0
_LIFE_S = 100.0


class SilenceError(Exception):
    """The worker did not say what was waited for."""


@dataclass
class Steered:
    """A running worker.

    Attributes:
        owed: What it has acknowledged.
        refused: Keys of submits that were refused, with the reason.
        log: Its standard error.
    """

    process: subprocess.Popen[str]
    owed: Owed
    refused: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen to both of its outputs."""
        self._said: queue.SimpleQueue[tuple[bool, str] | None] = queue.SimpleQueue()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._ears = [
            threading.Thread(target=self._listen, args=(stream, is_log))
            for stream, is_log in (
                (self.process.stdout, False),
                (self.process.stderr, True),
            )
        ]
        for ear in self._ears:
            ear.start()

    def _listen(self, stream: IO[str], is_log: bool) -> None:  # noqa: FBT001
        for line in stream:
            if line.endswith("\n"):  # a line that a kill has cut was not said
                self._said.put((is_log, line.rstrip("\n")))
        self._said.put(None)

    def order(self, *words: str) -> None:
        """Write one order."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def until(self, what: str, arrived: Callable[[str], bool]) -> None:
        """Take up lines until one of them has *arrived*.

        Raises:
            SilenceError: The worker ended, or said nothing for long.
        """
        while True:
            try:
                told = self._said.get(timeout=PATIENCE_S)
            except queue.Empty:
                told = None
            if told is None:
                detail = "\n".join(self.log[-20:])
                raise SilenceError(f"the worker did not come to {what}: {detail}")
            if arrived(self._note(*told)):
                return

    def _note(self, is_log: bool, line: str) -> str:  # noqa: FBT001
        if is_log:
            self.log.append(line)
        elif line.startswith("REFUSED"):
            _, key, reason = line.split(" ", 2)
            self.refused[key] = reason
        else:
            self.owed.note(line)
        return line

    def until_said(self, line: str) -> None:
        """Take up lines until exactly *line*."""
        self.until(line, lambda said: said == line)

    def end(self) -> int:
        """Let it stop by itself; return its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self._ended()

    def kill(self) -> None:
        """End it as nobody may object to, and take up its last words."""
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        status = self.process.wait(PATIENCE_S)
        for ear in self._ears:
            ear.join()
        while not self._said.empty():
            told = self._said.get()
            if told is not None:
                self._note(*told)
        return status


@contextmanager
def steered(
    database: Path,
    server: RunningServer,
    *,
    jobs: int,
    owed: Owed | None = None,
    under: Sequence[str] = (),
) -> Iterator[Steered]:
    """Run a worker *under* another command, if any, until the block ends."""
    command = [
        *(*under, sys.executable, "-m", "tests.disk.steered"),
        *("--database", str(database), "--server", server.address),
        *("--jobs", str(jobs)),
    ]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        worker = Steered(process, Owed() if owed is None else owed)
        limit = threading.Timer(_LIFE_S, process.kill)
        limit.start()
        try:
            yield worker
        finally:
            limit.cancel()
            if process.poll() is None:
                worker.kill()
