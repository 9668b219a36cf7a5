"""One life of a worker process, from its start to its exit or its kill."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.crash.board import Reading
from tests.jobserver.launch import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_LOOK_S = 0.05
_QUIET_LOOKS = 3
"""In a row: an answer that has just come may not be in the ledger yet."""
_TIMEOUT_S = 90.0
"""Without a line: on a loaded machine a nice process may take long to import."""


@dataclass
class Life:
    """What the parent saw of it.

    Attributes:
        said: The worker's lines, in order.
        killed: Whether it died of SIGKILL.
        hung: Whether it was still there when its time was over.
        errors: What it wrote to standard error.
    """

    said: list[str] = field(default_factory=list)
    killed: bool = False
    hung: bool = False
    returncode: int = 0
    errors: str = ""
    reading: Reading | None = None

    def acknowledged(self) -> list[tuple[str, str]]:
        """Return ``(key, execution id)`` of every submit that returned."""
        words = [line.split(" ") for line in self.said]
        return [(word[1], word[2]) for word in words if word[0] == "ACK"]


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What to do with a worker.

    Attributes:
        arguments: The worker's own command line.
        board: Its page, see ``tests.crash.board``.
        points: The named points, as the worker counts them.
        module: The worker's program.
        kill_after: Kill from outside so long after the line of that first word.
        environment: Variables that it has besides ours.
        quiet: Asked, once all is terminal, whether the worker may stop; without
            it the worker stops by itself.
        quiet_s: Longest wait for it.
    """

    arguments: Sequence[str]
    board: Path
    points: Sequence[str]
    module: str = "tests.crash.worker"
    kill_after: tuple[str, float] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    quiet: Callable[[], bool] | None = None
    quiet_s: float = 5.0


def live(orders: Orders) -> Life:
    """Start a worker, carry out the orders, and return when it is gone."""
    errors = orders.board.with_suffix(".stderr")
    linger = ["--linger"] if orders.quiet else []
    command = [sys.executable, "-m", orders.module, *orders.arguments, *linger]
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **orders.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        life = _watch(process, orders)
    life.returncode = process.returncode
    life.killed = process.returncode == -signal.SIGKILL and not life.hung
    life.errors = errors.read_text(errors="replace")
    life.reading = Reading(orders.board, orders.points)
    return life


def _watch(process: subprocess.Popen[str], orders: Orders) -> Life:
    assert process.stdin is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=pump, args=(process, lines))
    reader.start()
    life = Life()
    try:
        while (line := lines.get(timeout=_TIMEOUT_S)) is not None:
            life.said.append(line)
            word = line.split(" ")[0]
            if orders.kill_after is not None and word == orders.kill_after[0]:
                _kill_later(process, orders.kill_after[1])
            if orders.quiet is not None and word == "TERMINAL":
                _wait_for_quiet(process, orders.quiet, orders.quiet_s)
                process.stdin.close()
        process.wait(_TIMEOUT_S)
    except (queue.Empty, subprocess.TimeoutExpired):
        life.hung = True
        _ask_for_stacks(process)
    finally:
        process.kill()
        reader.join()
    while (line := lines.get()) is not None:
        life.said.append(line)
    return life


def pump(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    """Hand on what a process says, line by line, and None twice at its end."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith("\n"):  # a line that the kill has cut was not said
            lines.put(line.rstrip("\n"))
    lines.put(None)
    lines.put(None)  # one for the watch, one for what is left over


def _kill_later(process: subprocess.Popen[str], delay_s: float) -> None:
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait_for_quiet(
    process: subprocess.Popen[str], quiet: Callable[[], bool], longest_s: float
) -> None:
    looks = 0
    for _ in range(round(longest_s / _LOOK_S)):
        looks = looks + 1 if quiet() else 0
        if looks == _QUIET_LOOKS:
            return
        try:
            process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            continue
        return


def _ask_for_stacks(process: subprocess.Popen[str]) -> None:
    """Let a worker that hangs write its tasks to standard error, then end it."""
    process.send_signal(signal.SIGUSR1)
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
