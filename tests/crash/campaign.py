"""Kill, restart, finish, judge: ``python -m tests.crash.campaign --cycles 200``.

A cycle starts a worker on the same database with a batch of jobs of its own, which
is then killed: at a named point, at a random point, or from outside at a random
moment. After a few cycles a worker without faults finishes what is left, and the
judge asks database and witness. Prints hits per named point and the totals; exits
with 1 if anything was violated.

With ``--resume FILE`` the totals of judged rounds are kept in FILE, so that a large
number is collected in pieces: each run takes a seed of its own and prefers the points
that were hit least so far. A run that is itself killed loses the round it was in.
``--report FILE`` prints what there is.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from orchestrator.testing import ServiceClass
from tests.crash.audit import Audit
from tests.crash.board import CUT_OFF, MISREAD, QUOTED, READ_BACK
from tests.crash.canaries import VARIABLE, canary, traces, traces_in
from tests.crash.figures import Totals, load, save, table
from tests.crash.judge import (
    Acknowledged,
    Verdict,
    judge,
    judge_kill,
    overlapping,
    unintended,
)
from tests.crash.life import Life, Orders, live
from tests.crash.scenario import KINDS, Plan, batch
from tests.crash.subject import POINTS, Subject, at_job_server, reachable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["POINTS", "Campaign", "Options", "main", "reachable", "run_class"]

_NTH_MAX = 200


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a campaign is run.

    Attributes:
        cycles: Kills per class.
        jobs: Submissions per batch.
        round_size: Cycles between two judgements.
        points: The named points to cycle over; none for all of the subject's.
        random_share: Share of kills at random points and random moments.
        without: Kinds of the scenario that are left out.
        cut_commits: Whether the answers of some commits are lost as well.
        redacted: False switches the redaction off, to see what the search finds.
    """

    cycles: int = 200
    jobs: int = 50
    seed: int = 0
    round_size: int = 5
    points: tuple[str, ...] = ()
    random_share: float = 0.25
    without: tuple[str, ...] = ()
    cut_commits: bool = True
    redacted: bool = True


@dataclass(frozen=True)
class Kill:
    """Where one life is to end."""

    point: str = ""
    nth: int = 1
    dice: str = ""
    after: tuple[str, float] | None = None

    @property
    def arguments(self) -> list[str]:
        """The worker's share of it."""
        if self.point:
            return ["--kill-at", f"{self.point}:{self.nth}"]
        return ["--kill-after-random", self.dice] if self.dice else []


@dataclass
class Campaign:
    """One database against one subject: a service that runs."""

    subject: Subject
    options: Options
    folder: Path
    totals: Totals
    verdict: Verdict = field(default_factory=Verdict)
    acknowledged: Acknowledged = field(default_factory=Acknowledged)
    plans: list[Plan] = field(default_factory=list)
    lives: int = 0
    judged: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        """Set up chance and the questions' addresses."""
        self._rng = Random(f"{self.options.seed}:{self.subject.name}")
        self._misses: Counter[str] = Counter()
        self._before = Totals.from_json(self.totals.to_json())
        self._unresolved: Counter[str] = Counter()
        self._points = reachable(
            self.subject.service, self.options.points or self.subject.points
        )
        self._seen: dict[str, int] = {}
        self._batches: list[int] = []
        self._database = self.folder / "orchestrator.db"
        self._log = self.folder / "worker.log"
        self._audit = Audit(self._database)
        self._witness = self.subject.witness

    def run(self) -> None:
        """Kill as often as ordered, and judge at the end of each round.

        A life that ended before its kill was due counts as missed, not as a cycle.
        """
        killed = 0
        while killed < self.options.cycles and self.lives < 2 * self.options.cycles:
            for _ in range(min(self.options.round_size, self.options.cycles - killed)):
                killed += self.cycle(self.choose()).killed
            self.finish()

    def every_point(self) -> list[str]:
        """Kill at each named point once; return those that were never reached."""
        never = []
        for index, point in enumerate(self._points):
            for nth in (self._rng.randint(1, 2), 1, 1):
                if self.cycle(Kill(point, nth)).killed:
                    break
            else:
                never.append(point)
            if index % self.options.round_size == self.options.round_size - 1:
                self.finish()
        self.finish()
        return never

    def choose(self) -> Kill:
        """Return where the next life ends: at the rarest point, or at random.

        A point that was missed comes later again, so that others have their turn.
        """
        if self._rng.random() < self.options.random_share:
            if self._rng.random() < 0.4:
                return Kill(dice=self._dice())
            word = self._rng.choice(("READY", "OPEN", "OPEN"))
            return Kill(after=(word, self._rng.uniform(0, 0.6)))
        hits, misses = self.totals.points, self._misses
        order = self._rng.sample(self._points, len(self._points))
        point = min(order, key=lambda point: hits[point] + misses[point])
        often = min(self._seen.get(point, 1), _NTH_MAX)
        if misses[point] % 2:  # the life before had more of it than this may have
            often = 1
        return Kill(point, self._rng.randint(1, max(1, often * 2 // 3)))

    def cycle(self, kill: Kill) -> Life:
        """Live one life with a batch of its own, and account for its end."""
        self.lives += 1
        self._batches.append(self.lives)
        options = self.options
        self.plans += batch(
            self.subject.service,
            self.lives,
            options.jobs,
            options.seed,
            options.without,
            kinds=self.subject.kinds,
        )
        with self.subject.disturbed(self._rng):
            life = live(self._orders(kill))
        self._account(kill, life)
        self._search(life)
        if self._audit.ready():
            judge_kill(self._audit, self.acknowledged, self.verdict)
            self._take_stock()
        return life

    def _take_stock(self) -> None:
        """Note what nobody knows now: the end of the round has to resolve it.

        A submit without an answer whose row is there counts as acknowledged: no
        later answer may name another execution.
        """
        there, known = self._audit.by_key(), self.acknowledged.ids
        unanswered = {plan.key for plan in self.plans} - set(known)
        found = {key: there[key] for key in unanswered & set(there)}
        self._unresolved["submits, committed"] += len(found)
        self._unresolved["submits, not committed"] += len(unanswered) - len(found)
        for row in self._audit.rows().values():
            in_doubt = row.phase in ("CREATING", "CREATE_UNKNOWN")
            self._unresolved["creates in doubt"] += in_doubt
        self.verdict.found("lost", self.acknowledged.note(found.items()))

    def _orders(self, kill: Kill, *, finish: bool = False) -> Orders:
        board = self.folder / "board"
        secret = canary(f"{self.subject.name}:{self._dice()}:{finish}")
        arguments = [
            *("--database", f"sqlite+aiosqlite:///{self._database}"),
            *(*self.subject.arguments, "--board", str(board)),
            *("--jobs", str(self.options.jobs), "--seed", str(self.options.seed)),
            *("--batches", ",".join(map(str, self._batches))),
            *("--class", self.subject.service.value, *kill.arguments),
            *("--log", str(self._log)),
            *(() if self.options.redacted else ("--redaction-off",)),
            *(("--cut-commits", self._dice()) if self._cuts(finish=finish) else ()),
            *(word for kind in self.options.without for word in ("--without", kind)),
        ]
        return Orders(
            arguments=arguments,
            board=board,
            points=self.subject.points,
            module=self.subject.worker,
            kill_after=kill.after,
            environment={VARIABLE: secret},
            quiet=self._quiet if finish else None,
        )

    def _dice(self) -> str:
        return f"{self.options.seed}:{self.lives}"

    def _cuts(self, *, finish: bool) -> bool:
        return self.options.cut_commits and not finish

    def _account(self, kill: Kill, life: Life) -> None:
        totals, reading = self.totals, life.reading
        assert reading is not None
        wrong = self.acknowledged.note(life.acknowledged())
        self.verdict.found("lost", wrong)
        for point in self.subject.points:
            totals.reached[point] += reading.counts[point]
            if reading.counts[point]:
                self._seen[point] = reading.counts[point]
        for what in (CUT_OFF, *READ_BACK):
            self._unresolved[what] += reading.counts[what]
        misread = reading.counts[MISREAD]
        if misread:
            line = f"life {self.lives}: {misread} transitions of commits cut off"
            self.verdict.found("misread", [line])
        if not life.killed:
            self._misses[kill.point] += 1
            self._not_killed(life)
            return
        totals.seeds[str(self.options.seed)] += 1
        how = "killed at a point" if kill.point else "killed at random"
        totals.cycles[how] += 1
        for place in reading.places:
            totals.places[place] += 1
        if reading.places:
            totals.places["landed"] += 1
        elif kill.point or kill.dice:
            totals.places["critical"] += 1
        else:
            totals.places["idle"] += 1
        if kill.point:
            totals.points[kill.point] += 1
            totals.landed_at[kill.point] += bool(reading.places)

    def _search(self, life: Life) -> None:
        """Look for the secret in what the life left: files, log, what it printed.

        The database file itself is searched at the end of the round.
        """
        aside = {self._database, *self.folder.glob("ledger.db*")}  # the service's own
        files = sorted(path for path in self.folder.glob("*.*") if path not in aside)
        self.verdict.found("leaked", traces_in(files))
        said = "\n".join(life.said).encode()
        self.verdict.found("leaked", traces("standard output", said))
        assert life.reading is not None
        canaries = self.totals.canaries
        canaries["searched"] += 1
        canaries["quoted by the service"] += life.reading.counts[QUOTED]
        canaries["files"] += len(files) + 1
        self._log.unlink(missing_ok=True)

    def _not_killed(self, life: Life) -> None:
        if life.hung or life.returncode != 0:
            self.totals.cycles["hung"] += 1
            how = "hung" if life.hung else f"exited with {life.returncode}"
            kept = self.folder / f"life-{self.lives}.stderr"
            kept.write_text(life.errors, encoding="utf-8")
            last = life.said[-1] if life.said else "nothing"
            self.totals.note([f"life {self.lives} {how}, said {last}: see {kept}"])
        else:
            self.totals.cycles["missed"] += 1

    def finish(self) -> None:
        """Run without faults until all is terminal and quiet, then judge."""
        life = live(self._orders(Kill(), finish=True))
        wrong = self.acknowledged.note(life.acknowledged())
        self.verdict.found("lost", wrong)
        if life.hung or life.returncode != 0:
            self._not_killed(life)
        else:
            self.totals.cycles["finished"] += 1
        if life.errors:
            self.totals.cycles["finished with errors logged"] += 1
            self.totals.note(life.errors.splitlines()[:5])
        self._search(life)
        self.verdict.found("leaked", traces_in([self._database]))
        self.totals.canaries["database files"] += 1
        self.verdict.figures.clear()
        jobs = self._witness.jobs()
        judge(self._audit, jobs, self.plans, self.acknowledged, self.verdict)
        overlaps = overlapping(self._witness.overlaps())
        self.verdict.found("overlapping", overlaps)
        creates = self._witness.calls("create")
        self.verdict.found("unintended", unintended(creates, self._audit.intents()))
        self.verdict.found("history", self.subject.broken())
        self._batches.clear()
        self._tally()
        self.judged()

    def _tally(self) -> None:
        """Add this run's findings and figures to those of the runs before it."""
        totals, before, verdict = self.totals, self._before, self.verdict
        found = {kind: len(lines) for kind, lines in verdict.findings.items()}
        totals.findings = before.findings + Counter(found)
        totals.jobs = before.jobs + verdict.figures
        totals.note([line for line in verdict.lines() if line not in totals.examples])
        totals.ambiguous.update(self._unresolved)
        self._unresolved.clear()

    def _quiet(self) -> bool:
        """Whether the engine owes nothing, and no job lives that is not listed."""
        if self._audit.cleanup_due():
            return False
        listed = self._audit.listed_orphans()
        live = self._witness.live_jobs()
        return all(job.execution_id in listed for job in live)


def run_class(
    service: ServiceClass,
    options: Options,
    folder: Path,
    totals: Totals,
    *,
    every_point: bool = False,
    judged: Callable[[], None] = lambda: None,
) -> list[str]:
    """Run one class in *folder* and add to *totals*, complete when *judged* is called.

    Returns:
        With *every_point*, the points that were never reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    never: list[str] = []
    with at_job_server(service, folder, str(options.seed)) as subject:
        campaign = Campaign(subject, options, folder, totals, judged=judged)
        if every_point:
            never = campaign.every_point()
        else:
            campaign.run()
    return never


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.campaign")
    parser.add_argument("--cycles", type=int, default=200, help="kills per class")
    parser.add_argument("--jobs", type=int, default=50, help="submissions per cycle")
    parser.add_argument(
        "--class", dest="service", default="all", help="I, T, L, N, all"
    )
    parser.add_argument("--seed", type=int, help="default: the first unused one")
    parser.add_argument("--round", type=int, default=5, help="cycles per judgement")
    parser.add_argument(
        "--without", action="append", default=[], choices=KINDS, help="leave out a kind"
    )
    parser.add_argument("--resume", type=Path, help="JSON file of running totals")
    parser.add_argument("--report", type=Path, help="print such a file, run nothing")
    parser.add_argument("--keep", type=Path, help="folder for databases and ledgers")
    return parser.parse_args()


def report(totals: dict[str, Totals]) -> None:
    """Print the tables of these classes."""
    for service, mine in totals.items():
        points = reachable(ServiceClass(service), POINTS)
        sys.stdout.write("\n".join(table(service, mine, points)) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the campaign; return the exit status."""
    arguments = _parse()
    if arguments.report is not None:
        report(load(arguments.report))
        return 0
    services = "ILN" if arguments.service == "all" else arguments.service
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="crash-"))
    clean = True
    for service in map(ServiceClass, services):
        clean &= _run(service, arguments, folder / service.value)
    if clean:
        if arguments.keep is None:
            shutil.rmtree(folder)
        return 0
    sys.stdout.write(f"violations: databases and ledgers are kept in {folder}\n")
    return 1


def _run(service: ServiceClass, arguments: argparse.Namespace, folder: Path) -> bool:
    """Run one class, keep its totals, print them; return whether all is clean."""
    mine = load(arguments.resume).get(service.value, Totals())
    options = Options(
        cycles=arguments.cycles,
        jobs=arguments.jobs,
        seed=mine.next_seed if arguments.seed is None else arguments.seed,
        round_size=arguments.round,
        without=tuple(arguments.without),
    )

    def keep() -> None:
        save(arguments.resume, {service.value: mine})

    mine.seeds[str(options.seed)] += 0
    keep()  # a seed is used once, also by a run that does not come to its end
    run_class(service, options, folder, mine, judged=keep)
    report({service.value: mine})
    return mine.clean


if __name__ == "__main__":
    sys.exit(main())
