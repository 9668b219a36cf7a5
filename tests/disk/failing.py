"""Let the disk fail under an engine: ``python -m tests.disk.failing --what enospc``.

``eio``: sync calls return EIO, by strace; also recorded, and the power cut at every
event. ``enospc``: a small tmpfs is filled by somebody else. ``readonly``: writes
return EROFS, by strace, as on a file system that has given up; and a tmpfs that is
remounted read-only between two processes. ``limit``: no file may grow.

In each, a worker is stopped in the middle of its work, twice: it goes on by itself
once the disk is mended, or it is killed and another one goes on. Needs, but for
``limit``, strace; and for a tmpfs root, or ``unshare --user --map-root-user --mount``
in front. Exits with 1 if anything acknowledged was lost or anything was made twice.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.crash.audit import Audit
from tests.crash.judge import Acknowledged, Verdict, judge, overlapping
from tests.disk.breakers import Breaker, Full, Injected, Limit
from tests.disk.checker import Owed, look
from tests.disk.power_loss import DATABASE, parsed, strace_command
from tests.disk.power_loss import judge as judge_cuts
from tests.disk.steered import plans
from tests.disk.steering import SilenceError, Steered, steered
from tests.jobserver.launch import RunningServer, job_server
from tests.jobserver.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TMPFS_SIZE = "16m"
"""Enough for a log that nobody empties between two lives."""
_SYNCS = "fdatasync,fsync"
_WRITES = f"pwrite64,ftruncate,{_SYNCS}"
_NUMBERS = (0, 1)
"""Batch 0 is at work when the disk fails; batch 1 is submitted while it is away."""


@dataclass
class Outcome:
    """What one trial showed.

    Attributes:
        refused: Submits that were refused while the disk was away.
        logged: The first line of the engine's log that names the trouble.
        findings: What must not be.
    """

    refused: int = 0
    logged: str = ""
    acknowledged: int = 0
    jobs: int = 0
    cuts: str = ""
    findings: list[str] = field(default_factory=list)

    def lines(self, name: str) -> list[str]:
        """Return it as text."""
        return [
            f"{name}: {'FAILED' if self.findings else 'ok'}",
            f"  refused while away  {self.refused}",
            f"  acknowledged        {self.acknowledged}",
            f"  jobs at the service {self.jobs}",
            f"  the log said        {self.logged}",
            *([f"  power cuts          {self.cuts}"] if self.cuts else []),
            *(f"  {line}" for line in self.findings[:10]),
        ]


class Trial:
    """One database and one job server, over the lives of its workers."""

    def __init__(self, database: Path, server: RunningServer, jobs: int) -> None:
        """Submit batches of *jobs*."""
        self.database = database
        self.server = server
        self.jobs = jobs
        self.owed = Owed()
        self.outcome = Outcome()

    def under(self, breaker: Breaker, *, kill: bool) -> Outcome:
        """Let the disk fail under a worker at work, mend it, see it go on."""
        with self.worker() as worker:
            self.begin(worker)
            breaker.fail(worker.process.pid, self.database)
            try:
                self.away(worker, breaker.message)
                if kill:
                    worker.kill()
            finally:
                breaker.mend()
            self.note(look(self.database).lost(self.owed), "lost right after")
            if not kill:
                self.finish(worker)
        if kill:
            with self.worker() as worker:
                worker.until_said("OPEN")
                self.finish(worker)
        self.judge()
        return self.outcome

    def worker(self) -> contextlib.AbstractContextManager[Steered]:
        """Start another worker."""
        return steered(self.database, self.server, jobs=self.jobs, owed=self.owed)

    def begin(self, worker: Steered) -> None:
        """Let *worker* be in the middle of batch 0."""
        worker.until_said("OPEN")
        worker.order("SUBMIT", "0")
        worker.until("its first steps", lambda line: line.startswith("MOVED"))

    def away(self, worker: Steered, message: str) -> None:
        """See *worker* refuse a whole batch, and say why."""
        worker.order("SUBMIT", "1")
        worker.until_said("SUBMITTED 1")
        self.outcome.refused = len(worker.refused)
        if len(worker.refused) != self.jobs:
            raise LookupError("submits were accepted: the disk did not fail")
        if not any(message in line for line in worker.log):
            worker.until(message, lambda line: message in line)
        self.outcome.logged = next(line for line in worker.log if message in line)
        held = look_for_keys(self.database, worker.refused)
        self.note(held, "refused, but stored")

    def finish(self, worker: Steered) -> None:
        """Submit everything (again), wait for the end of it all."""
        for number in _NUMBERS:
            worker.order("SUBMIT", str(number))
            worker.until_said(f"SUBMITTED {number}")
        worker.order("FINISH")
        worker.until_said("TERMINAL")
        if (status := worker.end()) != 0:
            self.note([str(status)], "the worker ended with")

    def judge(self) -> None:
        """Ask database and witness."""
        facts = look(self.database)
        self.note(facts.lost(self.owed), "lost")
        self.note([facts.damage] if facts.damage else [], "damaged")
        witness = Witness(self.server.ledger)
        verdict, acknowledged = Verdict(), Acknowledged(ids=dict(self.owed.keys))
        every = [plan for number in _NUMBERS for plan in plans(number, self.jobs)]
        jobs = witness.jobs()
        judge(Audit(self.database), jobs, every, acknowledged, verdict)
        verdict.found("overlapping", overlapping(witness.overlaps()))
        self.note(verdict.lines(), "at the end")
        self.outcome.acknowledged = len(self.owed.transitions)
        self.outcome.jobs = len(jobs)

    def note(self, lines: list[str], what: str) -> None:
        """Take up findings."""
        self.outcome.findings += [f"{what}: {line}" for line in lines]


def look_for_keys(database: Path, keys: dict[str, str]) -> list[str]:
    """Return those of *keys* that the database holds."""
    return sorted(set(keys) & set(look(database).keys))


def recorded_eio(trial: Trial, folder: Path) -> Outcome:
    """Let some syncs fail under strace; then also cut the power at every event."""
    trace = folder / "strace.txt"
    under = strace_command(trace, f"inject={_SYNCS}:error=EIO:when=24..29")
    with steered(
        trial.database, trial.server, jobs=trial.jobs, owed=trial.owed, under=under
    ) as worker:
        trial.begin(worker)
        message = "the disk fails"
        worker.until(message, lambda line: message in line)
        trial.outcome.logged = worker.log[-1]
        trial.finish(worker)
        trial.outcome.refused = len(worker.refused)
    trial.judge()
    figures = judge_cuts(parsed(trace, trial.database), folder, seed=0, repeat=1)
    failed = sum(n for name, n in figures.events.items() if "failed" in name)
    trial.outcome.cuts = (
        f"{figures.images.total()} images, {failed} failed syncs,"
        f" {figures.corrupt} corrupt, {figures.broken} broken, {len(figures.lost)} lost"
    )
    if not failed:
        trial.note(["no sync failed"], "the record")
    trial.note([] if figures.clean else figures.lines(), "power cut")
    return trial.outcome


def remounted(trial: Trial) -> Outcome:
    """Remount the file system read-only between two processes."""
    folder = str(trial.database.parent)
    with trial.worker() as worker:
        trial.begin(worker)
        worker.kill()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    try:
        with trial.worker() as worker:
            try:
                worker.until_said("OPEN")
            except SilenceError:
                trial.outcome.logged = worker.log[-1]
            else:
                trial.note(["it opened"], "on a read-only file system")
    finally:
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    if "read-only" not in trial.outcome.logged:
        trial.note([trial.outcome.logged], "the log does not say read-only")
    trial.note(look(trial.database).lost(trial.owed), "lost right after")
    with trial.worker() as worker:
        worker.until_said("OPEN")
        trial.finish(worker)
    trial.judge()
    return trial.outcome


@contextlib.contextmanager
def _tmpfs(folder: Path) -> Iterator[None]:
    options = f"size={_TMPFS_SIZE},mode=700"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def run(
    make: Callable[[Trial, Path], Outcome], *, jobs: int, tmpfs: bool = False
) -> Outcome:
    """Run one trial in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="failing-") as name:
        folder = Path(name).resolve()
        data = folder / "database"
        data.mkdir()
        with (
            job_server(folder / "ledger.db") as server,
            _tmpfs(data) if tmpfs else contextlib.nullcontext(),
        ):
            return make(Trial(data / DATABASE, server, jobs), folder)


def _both(
    breaker: Callable[[], Breaker], what: str, *, tmpfs: bool = False
) -> list[tuple[str, Callable[[Trial, Path], Outcome], bool]]:
    return [
        (
            f"{what}, goes on by itself",
            lambda trial, _: trial.under(breaker(), kill=False),
            tmpfs,
        ),
        (
            f"{what}, killed and started again",
            lambda trial, _: trial.under(breaker(), kill=True),
            tmpfs,
        ),
    ]


TRIALS = {
    "eio": [
        *_both(lambda: Injected(_SYNCS, "EIO", "the disk fails"), "EIO on sync"),
        ("EIO on sync, and power cuts", recorded_eio, False),
    ],
    "enospc": _both(Full, "full tmpfs", tmpfs=True),
    "readonly": [
        *_both(lambda: Injected(_WRITES, "EROFS", "the disk fails"), "EROFS"),
        ("remounted read-only", lambda trial, _: remounted(trial), True),
    ],
    "limit": _both(Limit, "file size limit"),
}


def main() -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.disk.failing")
    parser.add_argument("--what", choices=[*TRIALS, "all"], default="all")
    parser.add_argument("--jobs", type=int, default=20, help="jobs in each batch")
    options = parser.parse_args()
    chosen = list(TRIALS) if options.what == "all" else [options.what]
    if shutil.which("strace") is None and {"eio", "readonly"} & set(chosen):
        sys.exit("failing: strace is not installed: nothing was tried")
    failed = False
    for what in chosen:
        for name, make, tmpfs in TRIALS[what]:
            outcome = run(make, jobs=options.jobs, tmpfs=tmpfs)
            failed = failed or bool(outcome.findings)
            sys.stdout.write("\n".join(outcome.lines(name)) + "\n")
            sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
