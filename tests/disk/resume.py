"""An engine goes on with what a power loss has left, beside the same job server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator._faults import FAULT_POINTS
from orchestrator.testing import ServiceClass
from tests.crash.audit import Audit
from tests.crash.judge import Acknowledged, Verdict, judge, overlapping
from tests.crash.life import Orders, live
from tests.crash.scenario import batch
from tests.disk.checker import Owed, write_image
from tests.disk.images import Disk, Policy
from tests.disk.record import Event, Said
from tests.jobserver.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.crash.scenario import Plan
    from tests.jobserver.launch import RunningServer

_LOCKS_LEFT = 0.5
_BEFORE_THE_CUT = ("--synchronous", "--checkpoint")
_COUNTED = ("lost", "duplicated", "orphaned", "overlapping", "history")
"""Not the ends: the service has seen the future of this image already, so a job that
was to be timed out, say, has been cancelled before."""


@dataclass
class Resumed:
    """How the sample of engines did."""

    started: int = 0
    finished: int = 0
    findings: list[str] = field(default_factory=list)


def resume(
    events: Sequence[Event],
    database: Path,
    server: RunningServer,
    arguments: Sequence[str],
    *,
    count: int,
    rng: Random,
) -> Resumed:
    """Cut the power after *count* of *events*; let an engine finish each image."""
    resumed = Resumed()
    cuts = set(rng.sample(range(len(events)), min(count, len(events))))
    disk, owed = Disk(), Owed()
    for number, event in enumerate(events):
        disk.play(event)
        if isinstance(event, Said):
            owed.note(event.line)
        if number in cuts:
            policy = rng.choice(list(Policy))
            write_image(disk.build(disk.plan(policy, rng), rng), database.parent)
            _leave_locks(database, rng)
            findings = _go_on(database, server, arguments, owed)
            what = f"engine after cut {number + 1}, {policy}"
            resumed.findings += [f"{what}: {line}" for line in findings]
            resumed.started += 1
            resumed.finished += not findings
    return resumed


def _leave_locks(database: Path, rng: Random) -> None:
    """Let the lock files of the nodes be there, and free, or not: as after a reboot.

    Nobody syncs their folder, so that a cut may take their names. Who finds none
    waits for the end of the lease.
    """
    if not database.exists() or not Audit(database).ready():
        return
    with closing(sqlite3.connect(database)) as db:
        nodes = db.execute("SELECT lock_path FROM node WHERE ended_at IS NULL")
        for (path,) in nodes.fetchall():
            if rng.random() < _LOCKS_LEFT:
                Path(path).touch()
            else:
                Path(path).unlink(missing_ok=True)


def _plans(arguments: Sequence[str]) -> list[Plan]:
    """Return what a worker with these *arguments* submits."""
    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
    given = dict(pairs)
    without = [value for name, value in pairs if name == "--without"]
    return [
        plan
        for number in given["--batches"].split(",")
        for plan in batch(
            ServiceClass.IDEMPOTENT,
            int(number),
            int(given["--jobs"]),
            int(given["--seed"]),
            without,
        )
    ]


def _go_on(
    database: Path, server: RunningServer, arguments: Sequence[str], owed: Owed
) -> list[str]:
    """Let a worker finish what is at *database*; return what is wrong then."""
    audit, witness = Audit(database), Witness(server.ledger)
    board = database.parent.parent / "board-resumed"
    orders = Orders(
        arguments=[
            *("--database", str(database), "--server", server.address),
            *("--board", str(board), *_for_the_crash_worker(arguments)),
        ],
        board=board,
        points=FAULT_POINTS,
        quiet=lambda: not audit.cleanup_due() and not witness.live_jobs(),
    )
    life = live(orders)
    if life.hung or life.returncode:
        return [f"ended with {life.returncode}: {life.errors}"]
    acknowledged, verdict = Acknowledged(), Verdict()
    # What was acknowledged before the cut comes first: a rerun may not say otherwise.
    verdict.found("lost", acknowledged.note(owed.keys.items()))
    verdict.found("lost", acknowledged.note(life.acknowledged()))
    jobs = witness.jobs()
    judge(audit, jobs, _plans(arguments), acknowledged, verdict)
    verdict.found("overlapping", overlapping(witness.overlaps()))
    return [f"{kind}: {line}" for kind in _COUNTED for line in verdict.findings[kind]]


def _for_the_crash_worker(arguments: Sequence[str]) -> list[str]:
    return [
        word
        for name, value in zip(arguments[::2], arguments[1::2], strict=True)
        if name not in _BEFORE_THE_CUT
        for word in (name, value)
    ]
