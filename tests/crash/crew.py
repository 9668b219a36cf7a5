"""Several workers at once on one database: their strings, and their judgement."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

from tests.crash import sentry
from tests.crash.audit import Audit
from tests.crash.judge import Acknowledged, Verdict, judge, overlapping
from tests.crash.life import pump
from tests.crash.scenario import KINDS, batch
from tests.jobserver.launch import ROOT
from tests.jobserver.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from tests.crash.command import Cycle

LEASE_S = 1.2
_WAIT_S = 60.0
_LOOK_S = 0.05
_LOOKS = 200
_QUIET_LOOKS = 3


class SilentError(Exception):
    """A worker did not say what was expected of it, in time or at all."""


class Member:
    """One worker process on strings; leaving the context kills it if it is there."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        """Start it; it waits for `go` before it opens the database."""
        self.name = name
        self.said: list[str] = []
        self._errors = folder / f"{name}.stderr"
        board = folder / f"{name}.board"
        command = [
            *(sys.executable, "-m", "tests.crash.worker", *arguments),
            *("--board", str(board), "--wait", "--linger"),
        ]
        self._stderr = self._errors.open("wb")
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=pump, args=(self.process, self._lines))
        self._reader.start()

    @property
    def errors(self) -> str:
        """What it wrote to standard error."""
        return self._errors.read_text(errors="replace")

    def until(self, *words: str, timeout: float = _WAIT_S) -> str:
        """Wait for a line that begins with one of *words*; return that word.

        What was said already counts. ``KILLED`` is said by its end.

        Raises:
            SilentError: It ended otherwise, or said nothing for so many seconds.
        """
        for line in self.said:
            if line.split(" ")[0] in words:
                return line.split(" ")[0]
        return self.says_next(*words, timeout=timeout)

    def says_next(self, *words: str, timeout: float = _WAIT_S) -> str:
        """Wait as `until` does, for what is said from now on."""
        while True:
            try:
                line = self._lines.get(timeout=timeout) or self._ended()
            except queue.Empty:
                msg = f"{self.name} said none of {words} in time"
                raise SilentError(msg) from None
            self.said.append(line)
            if line.split(" ")[0] in words:
                return line.split(" ")[0]

    def _ended(self) -> str:
        self.process.wait()
        if self.process.returncode == -signal.SIGKILL:
            return "KILLED"
        msg = f"{self.name} ended with {self.process.returncode}\n{self.errors}"
        raise SilentError(msg)

    def go(self) -> None:
        """Let it open the database, once it has imported everything."""
        self.until("READY")
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def after(self, seconds: float) -> None:
        """Let it run so long, unless it ends."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def is_stopped(self) -> None:
        """Return when it stands still, or has ended."""
        how = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, self.process.pid, how)

    def resume(self) -> None:
        """Let it go on where it stopped."""
        self.process.send_signal(signal.SIGCONT)

    def dismiss(self) -> None:
        """Let it end in order.

        Raises:
            SilentError: It did not, or not well.
        """
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.until("DONE")
        if self.process.wait(_WAIT_S):
            self._ended()

    def acknowledged(self) -> list[tuple[str, str]]:
        """Return ``(key, execution id)`` of every submit that returned."""
        words = [line.split(" ") for line in self.said]
        return [(word[1], word[2]) for word in words if word[0] == "ACK"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for file in (self.process.stdin, self.process.stdout, self._stderr):
            try:
                file.close()
            except BrokenPipeError:
                continue


class Stage:
    """One database with a sentry, a batch for its members, and the judgement."""

    def __init__(
        self, cycle: Cycle, *, jobs: int, only: Collection[str] = KINDS.keys()
    ) -> None:
        """Make the database for *cycle*, and plan *jobs* of the kinds *only*."""
        self.verdict = Verdict()
        self._cycle = cycle
        self._jobs = jobs
        self._without = [name for name in KINDS if name not in only]
        self._acknowledged = Acknowledged()
        self._folder = cycle.folder / str(cycle.number)
        self._folder.mkdir()
        self._path = self._folder / "orchestrator.db"
        sentry.post(self._path)
        self.audit = Audit(self._path)
        self._witness = Witness(cycle.server.ledger)
        # What every member submits, with the same keys.
        self.plans = batch(cycle.service, cycle.number, jobs, cycle.seed, self._without)

    def member(self, name: str, *more: str) -> Member:
        """Start a worker with the batch."""
        cycle = self._cycle
        arguments = [
            *("--database", f"sqlite+aiosqlite:///{self._path}"),
            *("--server", cycle.server.address, "--class", cycle.service.value),
            *("--jobs", str(self._jobs), "--seed", str(cycle.seed)),
            *("--batches", str(cycle.number), "--lease", str(LEASE_S), *more),
            *(word for kind in self._without for word in ("--without", kind)),
        ]
        return Member(name, arguments, self._folder)

    def quiet(self, member: Member) -> None:
        """Wait, while *member* works, until nothing is owed and no job is left."""
        looks = 0
        for _ in range(_LOOKS):
            looks = looks + 1 if self._is_quiet() else 0
            if looks == _QUIET_LOOKS:
                return
            member.after(_LOOK_S)

    def _is_quiet(self) -> bool:
        if self.audit.cleanup_due():
            return False
        rows, listed = self.audit.rows(), self.audit.listed_orphans()
        ours = (job for job in self._witness.live_jobs() if job.execution_id in rows)
        return all(job.execution_id in listed for job in ours)

    def tally(self, *members: Member) -> None:
        """Judge database, witness and sentry, and add to the totals."""
        self._judge(members)
        totals, noted = self._cycle.totals, sentry.noted(self._path)
        for kind, lines in self.verdict.findings.items():
            totals.findings[kind] += len(lines)
        totals.note(self.verdict.lines())
        totals.jobs.update(self.verdict.figures)
        for what in (sentry.CLAIMED, sentry.BROKEN, *sentry.FORBIDDEN):
            totals.jobs[what] += noted[what]
        for member in members:
            refused = sum(line.startswith("REFUSED") for line in member.said)
            totals.jobs[f"writes refused to the {member.name}"] += refused

    def _judge(self, members: Sequence[Member]) -> None:
        verdict = self.verdict
        for member in members:
            wrong = self._acknowledged.note(member.acknowledged())
            verdict.found("lost", wrong)
        rows = self.audit.rows()
        strangers = set(rows) - set(self._acknowledged.ids.values())
        extra = (f"{stranger} was accepted for no key" for stranger in strangers)
        verdict.found("duplicated", extra)
        jobs = [job for job in self._witness.jobs() if job.execution_id in rows]
        judge(self.audit, jobs, self.plans, self._acknowledged, verdict)
        pairs = self._witness.overlaps()
        mine = [pair for pair in pairs if pair[0].execution_id in rows]
        verdict.found("overlapping", overlapping(mine))
        verdict.found("unfenced", sentry.notes(self._path))


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return one line per execution whose row or history is another."""
    return [
        f"{execution_id}: row or history has changed"
        for execution_id in before.keys() | now.keys()
        if before.get(execution_id) != now.get(execution_id)
    ]
