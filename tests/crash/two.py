"""Two workers on one database, one killed or stopped: ``python -m tests.crash.two``.

Both have the same connectors and submit the same batch with the same keys. In turn,
one of them is the victim: killed, or stopped (SIGSTOP) beyond its lease and woken up,
at a named point or at a random moment. The other must bring everything to its end,
and nothing may be accepted, created, claimed or decided twice.
"""

from __future__ import annotations

import sys
from signal import SIGKILL, SIGSTOP

from orchestrator._faults import FAULT_POINTS
from tests.crash.campaign import reachable
from tests.crash.command import Cycle, main
from tests.crash.crew import LEASE_S, Member, SilentError, Stage, changes

_JOBS = 12
_POINT_SHARE = 0.7
_MOMENT_S = 0.7
_TAKEN_OVER_S = 3 * LEASE_S
ENDS = ("killed", "stopped")


def one(cycle: Cycle) -> None:
    """Start two, let one fail, and judge what both leave."""
    rng = cycle.rng
    how = ENDS[cycle.number // 2 % 2]
    names = ("first", "second")[:: 1 if cycle.number % 2 else -1]
    point, nth = "", rng.choice((1, 1, 2, 3))
    if rng.random() < _POINT_SHARE:
        points = reachable(cycle.service, tuple(FAULT_POINTS))
        point = cycle.rarest(points, rng)
    fail(cycle, how, names, f"{point}:{nth}" if point else "")


def fail(cycle: Cycle, how: str, names: tuple[str, ...], at: str) -> bool:
    """Let the first of *names* fail, *at* a named point or a moment after it opened.

    False if it did not: the other had the rows that lead there.
    """
    point = at.partition(":")[0]
    stage, totals = Stage(cycle, jobs=_JOBS), cycle.totals
    option = "--kill-at" if how == "killed" else "--stop-at"
    fate = (option, at) if at else ()
    with stage.member(names[0], *fate) as victim, stage.member(names[1]) as other:
        for member in (victim, other):
            member.until("READY")
        victim.go()
        if point:  # else whoever is first has most of the rows
            victim.until("ACK", "STOPPED", "KILLED")
        other.go()
        failed = _fails(victim, how, point, cycle.rng.uniform(0, _MOMENT_S))
        if failed:
            totals.cycles[f"{how} at a {'point' if point else 'moment'}"] += 1
            totals.cycles[f"{victim.name} failed"] += 1
            totals.points.update([point] if point else [])
            if how == "stopped":
                _wake(stage, victim, other)
        else:
            totals.cycles["missed"] += 1
        other.until("TERMINAL")
        if victim.process.poll() is None:
            victim.until("TERMINAL")
            victim.dismiss()
        stage.quiet(other)
        other.dismiss()
        stage.tally(victim, other)
    return failed


def _fails(victim: Member, how: str, point: str, moment_s: float) -> bool:
    """Wait for the victim's fate; whether it came before all was done."""
    if point:
        if victim.until("STOPPED", "TERMINAL", "KILLED") == "TERMINAL":
            return False
    else:
        victim.until("OPEN")
        victim.after(moment_s)
        victim.process.send_signal(SIGKILL if how == "killed" else SIGSTOP)
    if how == "killed":
        victim.until("KILLED")
    else:
        victim.is_stopped()
    return True


def _wake(stage: Stage, victim: Member, other: Member) -> None:
    """Wake the victim when the other has done all, or cannot go on without it.

    A victim that was stopped in a transaction holds SQLite's write lock.
    """
    try:
        other.until("TERMINAL", timeout=_TAKEN_OVER_S)
    except SilentError:
        victim.resume()
        return
    before = stage.audit.snapshot()
    victim.resume()
    # When it has ended, every step has ended that it was in.
    victim.until("TERMINAL")
    victim.dismiss()
    stage.verdict.found("zombie write", changes(before, stage.audit.snapshot()))


if __name__ == "__main__":
    sys.exit(main("two", tuple(FAULT_POINTS), one))
