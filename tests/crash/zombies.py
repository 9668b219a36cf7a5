"""Stop one, let another take over, wake it up: ``python -m tests.crash.zombies``.

A worker stops itself (SIGSTOP) at a named point. It holds its lock file, so its lease
has to end before another process takes over. Then it goes on (SIGCONT), with an answer
or a decision of long ago. Its writes must change nothing; what a create told it must
be in the ledger of jobs, and cleaned up. In one of two ways:

late  it wakes up when the other has brought everything to its end
duel  it wakes up when the other has only just taken over, and stands still as well:
      the row's version is the zombie's, and the fence alone can refuse it
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tests.crash.command import Cycle, main
from tests.crash.crew import LEASE_S, Member, Stage, changes

_JOBS = 12
_PATIENT = ("--call-timeout", "120")
"""Who stood still, or has no share of the processor, has no slow service."""
_HOLDS = ("--lease", "600", "--heartbeat", str(LEASE_S / 4))
"""Who took over stands still for as long as it takes: its own lease outlasts that."""
_DUELS_SHARE = 0.3
POINTS: dict[str, tuple[str, ...]] = {
    "create": ("create.before_call", "create.after_call", "created.before_commit"),
    "commit": (
        "claim.before_commit",
        "claim.after_commit",
        "intent.before_commit",
        "intent.after_commit",
        "created.after_commit",
        "poll.before_commit",
        "recover.before_commit",
        "end.before_commit",
        "writer.before_begin",
        "writer.after_begin",
        "writer.before_commit",
        "writer.after_commit",
    ),
    "delete": (
        "abort.before_commit",
        "abort.after_commit",
        "delete.before_call",
        "delete.after_call",
        "cleanup.before_call",
        "cleanup.after_call",
        "cleanup.before_commit",
    ),
}
LOCKED = ("writer.after_begin", "writer.before_commit")
"""Who stops here holds SQLite's write lock: nobody can take over, all have to wait."""


@dataclass(frozen=True)
class Duel:
    """Where the zombie stops, where who took over stops, and with which job."""

    zombie: str
    other: str
    kind: str


DUELS = {
    "create": Duel("created.before_commit", "recover.before_commit", "plain"),
    "commit": Duel("end.before_commit", "get.before_call", "plain"),
    "delete": Duel("delete.after_call", "delete.before_call", "abort polled"),
}
ALL_POINTS = tuple(point for points in POINTS.values() for point in points)


def duel(cycle: Cycle, what: str, *, fenced: bool = True) -> None:
    """Wake the zombie while the other stands still with the row in its hands."""
    rules, totals = DUELS[what], cycle.totals
    stage = Stage(cycle, jobs=1, only=(rules.kind,))
    fence = () if fenced else ("--fence-off",)
    with (
        stage.member(
            "zombie", "--stop-at", f"{rules.zombie}:1", *_PATIENT, *fence
        ) as zombie,
        stage.member(
            "other", "--stop-at", f"{rules.other}:1", *_PATIENT, *_HOLDS
        ) as other,
    ):
        for member in (zombie, other):
            member.go()
            member.until("STOPPED")
            member.is_stopped()
        before = stage.audit.snapshot()
        zombie.resume()
        word = zombie.says_next("REFUSED", "ACCEPTED")
        stage.verdict.found("zombie write", changes(before, stage.audit.snapshot()))
        other.resume()
        if word != "REFUSED":
            stage.verdict.found("zombie write", ["nothing of it was refused"])
        if fenced:
            finish(stage, zombie, other)
        totals.points[rules.zombie] += 1
        totals.cycles["duels"] += 1
        stage.tally(zombie, other)


def late(cycle: Cycle, point: str, nth: int, kind: str = "") -> bool:
    """Wake the zombie when the other has done all the work: one job if of one *kind*.

    False if it did not come by the point.
    """
    totals = cycle.totals
    stage = Stage(cycle, jobs=1, only=(kind,)) if kind else Stage(cycle, jobs=_JOBS)
    patience = _PATIENT if kind else ()
    with (
        stage.member("zombie", "--stop-at", f"{point}:{nth}", *patience) as zombie,
        stage.member("other", *patience) as other,
    ):
        zombie.go()
        if zombie.until("STOPPED", "TERMINAL") == "TERMINAL":
            totals.cycles["missed"] += 1
            return False
        zombie.is_stopped()
        other.go()
        over: dict[str, str] | None = None
        if point in LOCKED:
            other.after(1.5 * LEASE_S)
        else:
            other.until("TERMINAL")
            over = stage.audit.snapshot()
        known = stage.audit.recorded_job_keys()
        zombie.resume()
        if over is None:
            other.until("TERMINAL")
        finish(stage, zombie, other, ended=True)
        if over is not None:
            changed = changes(over, stage.audit.snapshot())
            stage.verdict.found("zombie write", changed)
            told = stage.audit.recorded_job_keys() - known
            totals.jobs["jobs told of late"] += len(told)
        totals.points[point] += 1
        totals.cycles["woken late"] += 1
        stage.tally(zombie, other)
        return True


def finish(stage: Stage, zombie: Member, other: Member, *, ended: bool = False) -> None:
    """Let both come to their end; what the zombie leaves is then the other's."""
    zombie.until("TERMINAL")
    if not ended:
        other.until("TERMINAL")
    zombie.dismiss()
    stage.quiet(other)
    other.dismiss()


def one(cycle: Cycle) -> None:
    """Make one zombie: in a duel, or at the point that had the fewest so far."""
    rng = cycle.rng
    if rng.random() < _DUELS_SHARE:
        duel(cycle, rng.choice(tuple(DUELS)))
        return
    late(cycle, cycle.rarest(ALL_POINTS, rng), rng.choice((1, 1, 2, 3)))


if __name__ == "__main__":
    sys.exit(main("zombies", ALL_POINTS, one))
