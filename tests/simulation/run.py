"""One simulation: an engine on a virtual clock, killed and started till all is done."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from orchestrator import Config, Orchestrator, Registry, Timeout
from orchestrator._faults import NO_FAULTS, Crash
from orchestrator._ids import Ids
from orchestrator._storage import upgrade
from orchestrator.errors import InvalidInputError, StoreUnavailableError
from tests.simulation import invariants, lives
from tests.simulation.clock import SteppingClock
from tests.simulation.connectors import SimConnector, Trouble
from tests.simulation.crashes import Crashes
from tests.simulation.driver import one_thread
from tests.simulation.lives import Life
from tests.simulation.plan import Wish, draw_wishes
from tests.simulation.releases import Releases
from tests.simulation.world import Kind, World

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator._faults import Faults
    from tests.simulation.releases import Meta

TURNS_MAX = 3000
"""A simulation that is not quiet by then is stuck."""

CONFIG = Config(
    lease=timedelta(seconds=20), heartbeat=timedelta(seconds=5), batch_max=5
)
_PAUSE_S = 21.0
"""A pause that is longer than the lease."""


@dataclass
class Result:
    """What one seed did.

    Attributes:
        problems: Violations; none for a good run.
        trace: Hash of every decision, fact and call: equal for equal seeds.
    """

    seed: int
    problems: list[str] = field(default_factory=list)
    trace: str = ""
    figures: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)


def memory_folder() -> str | None:
    """Return a folder in memory, where there is one: nothing here needs a disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def migrated(folder: Path) -> Path:
    """Return an empty database, to be copied: migrating takes longer than a run."""
    path = folder / "empty.db"
    upgrade(make_url(f"sqlite:///{path}"), busy_s=5)
    return path


class Simulation:
    """An engine, its users, its services and its bad luck, all from one seed."""

    def __init__(
        self,
        seed: int,
        path: Path,
        *,
        kinds: Sequence[Kind] = tuple(Kind),
        crashes: Crashes | None = None,
        trouble: bool = True,
    ) -> None:
        """Play on the empty database at *path*."""
        self._rng = Random(f"users {seed}")
        self.clock = SteppingClock()
        self.world = World(self.clock, Random(f"services {seed}"), unlucky=trouble)
        self.trouble = Trouble(
            self.world,
            Random(f"trouble {seed}"),
            Random(f"clock {seed}"),
            on=trouble,
        )
        self.trouble.zombie = self._take_over
        if crashes is None:
            chance = self._rng.choice([0.0, 0.01, 0.03, 0.1]) if trouble else 0.0
            crashes = Crashes(Random(f"crashes {seed}"), chance=chance, limit=40)
        self.crashes = crashes
        self.result = Result(seed)
        self._path = path
        self._engine_rng = Random(f"engine {seed}")
        self._ids = Ids(self.clock, self._engine_rng)
        self._wishes = draw_wishes(self._rng, kinds, self._rng.randint(3, 8))
        self._kinds = list(kinds)
        self._began_us = self.clock.real_us()
        self._orchestrator: Orchestrator | None = None
        self._upgrades = Random(f"upgrades {seed}")
        self._releases = {kind: Releases() for kind in Kind}
        self._life = Life(0, None)
        self._lives: dict[str, Life] = {}
        self._stops_at_us = 0
        self._hashes: dict[str, str] = {}
        self._database = invariants.Database(path)

    async def run(self) -> Result:
        """Play until nothing is left to do; return what was found."""
        try:
            for _ in range(TURNS_MAX):
                if self._over():
                    break
                await self._turn()
                if self.result.problems:
                    return self.result
            else:
                self.result.problems += self._database.broken(invariants.QUIET)
                self.result.problems.append(f"not quiet after {TURNS_MAX} turns")
                return self.result
            await self._stop()
            self._judge()
        finally:
            if self._orchestrator is not None:
                await self._orchestrator.crash()
            self._count()
            self._database.close()
        return self.result

    # One turn

    async def _turn(self) -> None:
        self.result.figures["turns"] += 1
        self.trouble.set_clock()
        try:
            if self._orchestrator is None:
                await self._start()
            elif self.clock.real_us() >= self._stops_at_us:
                await self._stop()
                return
            await self._users()
            assert self._orchestrator is not None
            await self._orchestrator.scheduler._follow_clock()  # as `run` does
            report = await self._orchestrator.tick()
            self._know(self._orchestrator, self._life)
            await self._late_answers()
            if not report.full:
                await self._move_on()
            self._facts()
        except (Crash, StoreUnavailableError):
            if not self.crashes.dead:
                raise
        if self.crashes.dead:
            await self._crashed()

    def _over(self) -> bool:
        wished = all(self._settled(wish) for wish in self._wishes)
        return wished and not self._database.busy() and not self.world.under_way()

    @staticmethod
    def _settled(wish: Wish) -> bool:
        aborted = wish.abort_at_s is None or "abort" in wish.done
        return wish.id is not None and aborted

    async def _move_on(self) -> None:
        """Move the clock to whatever comes next, if that is soon."""
        assert self._orchestrator is not None
        now, real = self.clock.now_us(), self.clock.real_us()
        engine = self._orchestrator._engine
        due = await engine.store.next_due(engine.contexts.loaded())
        moments = [self._began_us + round(s * 1e6) for s in self._wishes_due()]
        waits = [(moment - real) / 1e6 for moment in moments if moment > real]
        waits += [(due - now) / 1e6] if due is not None and due > now else []
        timer = self.clock.next_in()
        waits += [timer] if timer is not None else []
        if due is not None and due <= now:
            return
        # Rows of a dead node have no due time: somebody has to look.
        claimed = "SELECT count(*) FROM timer WHERE node IS NOT NULL"
        if self._database.number(claimed) or not waits:
            waits.append(10.0)
        self.clock.advance(min(waits))
        await self._late_answers()

    async def _late_answers(self) -> None:
        """Let creates that answered late be written down, before anything else."""
        for _ in range(5):  # turns, until answers and time limits have arrived
            await asyncio.sleep(0)
        while True:
            late = {t for t in asyncio.all_tasks() if t.get_name().startswith("late-")}
            if len(late) <= self.trouble.hanging:
                return
            await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)

    # The process

    def _new(
        self,
        faults: Faults,
        missing: Kind | None = None,
        changed: Mapping[Kind, Meta] = MappingProxyType({}),
    ) -> Orchestrator:
        self.world.began = self.clock.real_us()
        registry = Registry()
        for kind in self._kinds:
            meta = changed.get(kind, self._releases[kind].lasting)
            if kind is not missing:
                connector = SimConnector(kind, self.world, self.trouble, meta)
                registry.register(connector)
        return Orchestrator(
            self._path,
            config=CONFIG,
            registry=registry,
            clock=self.clock,
            rng=self._engine_rng,
            ids=self._ids,
            faults=faults,
            start=False,
        )

    async def _start(self) -> None:
        missing, changed = None, {}
        if self.trouble.on and self._rng.random() < 0.1:
            missing = self._rng.choice(self._kinds)
            self.result.figures["starts without a connector"] += 1
        if self.trouble.on and self._upgrades.random() < 0.1:
            kind = self._upgrades.choice(self._kinds)
            changed[kind] = self._releases[kind].draw(self._upgrades)
            self.result.figures["starts with another release"] += 1
            self.world.note("release", f"{kind} {changed[kind].__name__}")
        short = missing is not None or changed
        life = 600 if short else self._rng.choice([600, 7200, 10**6])
        self._stops_at_us = self.clock.real_us() + life * 10**6
        self.result.figures["starts"] += 1
        self._orchestrator = self._new(self.crashes, missing, changed)
        self._life = Life(self.world.began, missing)
        await self._orchestrator.open()

    def _know(self, orchestrator: Orchestrator, life: Life) -> None:
        """Remember which process a node is: what it decided is judged by that."""
        self._lives.setdefault(orchestrator._engine.lease.node, life)

    async def _stop(self) -> None:
        """Stop in good order."""
        orchestrator, self._orchestrator = self._orchestrator, None
        if orchestrator is None:
            return
        self.crashes.armed = False
        await orchestrator.close()
        self.crashes.armed = True
        self._look()

    async def _crashed(self) -> None:
        orchestrator, self._orchestrator = self._orchestrator, None
        assert orchestrator is not None
        self._know(orchestrator, self._life)
        await orchestrator.crash()
        await asyncio.sleep(0)
        self.trouble.answered.clear()
        self._look()
        self.crashes.revive()
        self.clock.advance(self._rng.choice([0.0, 1.0, 40.0, 400.0]))

    async def _take_over(self) -> None:
        """Pause this process past its lease, and let another one work meanwhile."""
        if self.trouble.calm:
            return
        self.result.figures["zombies"] += 1
        self.trouble.calm = True
        self.clock.advance(_PAUSE_S)
        other = self._new(NO_FAULTS)
        await other.open()
        for _ in range(self._rng.randint(1, 3)):
            await other.tick()
            self._know(other, Life(self.world.began, None))
            self.clock.advance(1.0)
        if self._rng.random() < 0.5:
            await other.close()
        else:
            await other.crash()
        self.trouble.calm = False

    # Users and operators

    def _wishes_due(self) -> list[float]:
        """Return the moments of what users still want, in seconds."""
        moments: list[float] = []
        for wish in self._wishes:
            if wish.id is None:
                moments.append(wish.at_s)
                continue
            for name, at in (("abort", wish.abort_at_s), ("wake", wish.wake_at_s)):
                if at is not None and name not in wish.done:
                    moments.append(at)
        return moments

    async def _users(self) -> None:
        orchestrator = self._orchestrator
        assert orchestrator is not None
        now_s = (self.clock.real_us() - self._began_us) / 1e6
        for wish in self._wishes:
            if wish.at_s > now_s:
                continue
            if wish.id is None and f"sim-{wish.kind.lower()}" in self._loaded():
                wish.tries += 1
                handle = await orchestrator.submit(
                    wish.task, {"n": wish.number}, **wish.options
                )
                wish.id = handle.id
            if wish.id is None:
                continue
            if self._due(wish, "wake", wish.wake_at_s, now_s):
                await orchestrator.wake(wish.id)
            if self._due(wish, "abort", wish.abort_at_s, now_s):
                await orchestrator.abort(wish.id, reason=f"user {wish.number}")
                wish.done.add("abort")
        await self._operator(orchestrator)

    @staticmethod
    def _due(wish: Wish, name: str, at_s: float | None, now_s: float) -> bool:
        if at_s is None or at_s > now_s or name in wish.done:
            return False
        if name != "abort":  # an abort that crashed is wished again
            wish.done.add(name)
        return True

    def _loaded(self) -> list[str]:
        assert self._orchestrator is not None
        return [name for name, _ in self._orchestrator._engine.contexts.loaded()]

    async def _operator(self, orchestrator: Orchestrator) -> None:
        """Resolve what waits for somebody who knows."""
        query = """SELECT id, attempt FROM execution WHERE hold = 'OUTCOME_UNKNOWN'
                   AND phase = 'CREATE_UNKNOWN' AND resolution IS NULL ORDER BY id"""
        for execution_id, attempt in self._database.rows(query):
            token = f"o{execution_id}-{attempt}"
            if "sim-h" not in self._loaded() or self.world.under_way(token):
                continue
            jobs = self.world.of_token(token)
            answer: dict[str, Any] = {"absent": True}
            if self._rng.random() < 0.2:
                answer = {"give_up": True}
            elif jobs:
                connector = orchestrator._engine.contexts.connector("sim-h", 0)
                answer = {"created": connector.metadata_type(jobs[0].id)}
            # One that some process works on is asked about again in the next turn.
            with contextlib.suppress(InvalidInputError):
                await orchestrator.resolve(execution_id, **answer)

    # Findings

    def _look(self) -> None:
        """Check what holds at any moment."""
        problems = self._database.broken()
        hashes = self._database.terminal_hashes()
        problems += invariants.changed(self._hashes, hashes)
        self._hashes.update(hashes)
        wished = [(wish.key, wish.id) for wish in self._wishes]
        problems += invariants.acknowledged(self._database, wished)
        self.result.problems += problems

    def _facts(self) -> None:
        """Check that what a create answered to a living process is in the ledger."""
        for job in sorted(self.trouble.answered):
            query = "SELECT count(*) FROM external_job WHERE job_key = ?"
            if not self._database.number(query, job):
                self.result.problems.append(f"P3: {job} was answered and forgotten")
        self.trouble.answered.clear()

    def _judge(self) -> None:
        """Check what holds at the end."""
        self._look()
        self.result.problems += self._database.broken(invariants.QUIET)
        self.result.problems += invariants.against_world(self._database, self.world)
        limits = {
            wish.id: wish.task.timeout
            for wish in self._wishes
            if wish.id is not None and isinstance(wish.task.timeout, Timeout)
        }
        found = (
            lives.early(self._database, limits, self._lives, self.world),
            lives.burnt(self._database, self._lives),
            lives.storms(self.world),
        )
        self.result.problems += chain.from_iterable(found)
        causes = "SELECT cause, count(*) FROM history GROUP BY cause"
        self.result.causes.update(dict(self._database.rows(causes)))
        ends = "SELECT coalesce(error_code, phase), count(*) FROM execution GROUP BY 1"
        self.result.figures.update(dict(self._database.rows(ends)))

    def _count(self) -> None:
        lines = [*self._database.trace(), *self.world.log]
        self.result.trace = hashlib.sha256(repr(lines).encode()).hexdigest()
        figures = self.result.figures
        figures["executions"] = len(self._wishes)
        figures["jobs"] = len(self.world.jobs)
        self.result.calls = self.world.calls
        self.result.crashes = self.crashes.happened
        self.result.reached = self.crashes.reached
        met = self.trouble.met
        self.result.faults = +Counter(
            {
                "crash": self.crashes.happened.total(),
                "zombie": figures["zombies"],
                "lost reply": met["create: lost"] + met["delete: lost"],
                "late reply": met["create: late"],
                "clock step": len(self.clock.steps),
                "abort": sum("abort" in wish.done for wish in self._wishes),
                "upgrade": figures["starts with another release"],
                "connector missing": figures["starts without a connector"],
            }
        )


async def simulate(
    seed: int,
    empty: Path,
    *,
    kinds: Sequence[Kind] = tuple(Kind),
    crashes: Crashes | None = None,
    trouble: bool = True,
) -> Result:
    """Play *seed* on a copy of the *empty* database."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        path = Path(folder) / "simulation.db"
        shutil.copy(empty, path)
        simulation = Simulation(
            seed, path, kinds=kinds, crashes=crashes, trouble=trouble
        )
        with one_thread():
            return await simulation.run()
