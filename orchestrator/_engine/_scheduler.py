"""The scheduler: claims due rows, steps them, sleeps until something is due."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator._clock import seconds_to_us
from orchestrator._secrets import get_logger, redacting
from orchestrator.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from orchestrator._clock import Clock
    from orchestrator._config import Config
    from orchestrator._engine._alarm import Alarm
    from orchestrator._engine._belief import Belief
    from orchestrator._engine._cleaner import Cleaner
    from orchestrator._engine._contexts import Contexts
    from orchestrator._engine._lease import Lease
    from orchestrator._engine._stepper import Stepper
    from orchestrator._engine._sweeper import Sweeper
    from orchestrator._faults import Faults
    from orchestrator._records import Claimed
    from orchestrator._secrets import Redactor
    from orchestrator._storage import OwedJob, Search, Store

logger = get_logger(__name__)

_AGAIN_S = 1.0
_DEBTS_EVERY_US = 1_000_000
"""Debts are looked for at least so often, however many rows are due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one tick did.

    Attributes:
        claimed: Rows taken; at most the configured batch.
        cleanups: Jobs of the ledger taken for deletion.
        searches: Tokens taken to be searched for again.
        full: Whether there may be more that is due already.
    """

    claimed: int
    cleanups: int
    searches: int
    full: bool


class Scheduler:
    """Runs ticks: by hand (`tick`), or for ever (`run`)."""

    def __init__(
        self,
        *,
        store: Store,
        contexts: Contexts,
        stepper: Stepper,
        cleaner: Cleaner,
        sweeper: Sweeper,
        alarm: Alarm,
        lease: Lease,
        clock: Clock,
        belief: Belief,
        config: Config,
        faults: Faults,
        redactor: Redactor,
        changed: Callable[[], None],
    ) -> None:
        """Call *changed* when another process wrote to the database.

        What is logged in a step shows no secret that *redactor* knows.
        """
        self._store = store
        self._contexts = contexts
        self._stepper = stepper
        self._cleaner = cleaner
        self._sweeper = sweeper
        self._alarm = alarm
        self._lease = lease
        self._clock = clock
        self._belief = belief
        self._config = config
        self._reach = faults.reach
        self._redactor = redactor
        self._changed = changed
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._strays: set[tuple[str, int]] = set()
        self._debts_due = True
        self._debts_at = 0
        self.ticks = 0
        self.probes = 0

    @property
    def in_flight(self) -> int:
        """Return the number of steps at work."""
        return len(self._tasks)

    @property
    def asleep(self) -> bool:
        """Whether `run` waits for the clock, and no step is at work."""
        return self._alarm.asleep and not self._tasks

    async def tick(self, *, wait: bool = True) -> TickReport:
        """Claim what is due and step it.

        Bounded: at most ``batch_max`` rows. Order: by due time, then id.

        Args:
            wait: Step one row after the other and return when all are done, which
                makes a run repeatable. False starts the steps and returns.
        """
        self.ticks += 1
        room = self._config.in_flight_max - len(self._tasks)
        limit = max(min(self._config.batch_max, room), 0)
        now = self._belief.now()
        # The node that claims is the node that writes, also if a heartbeat finds the
        # lease broken in between and begins another.
        node = self._lease.node
        owed: list[OwedJob] = []
        searches: list[Search] = []
        if limit and (wait or self._debts_due or now >= self._debts_at):
            self._debts_at = now + _DEBTS_EVERY_US
            share = limit if wait else max(limit // 10, 1)
            owed, searches = await asyncio.gather(  # one commit for both
                self._cleaner.claim(share, node, now), self._sweeper.claim(share, now)
            )
            self._debts_due = share in (len(owed), len(searches))
        self._reach("claim.before_commit")
        rows: list[Claimed] = []
        if limit > len(owed):
            rows = await self._store.claim(
                node=node,
                limit=limit - len(owed),
                loaded=self._contexts.loaded(),
                now=now,
            )
        self._reach("claim.after_commit")
        with redacting(self._redactor):  # inherited by the tasks of the steps
            for work, what in self._works(rows, owed, searches, node):
                if wait:
                    await work
                else:
                    self._start(work, what)
        return TickReport(
            claimed=len(rows),
            cleanups=len(owed),
            searches=len(searches),
            full=len(rows) + len(owed) + len(searches) >= limit,
        )

    def _works(
        self,
        rows: list[Claimed],
        owed: list[OwedJob],
        searches: list[Search],
        node: str,
    ) -> Iterator[tuple[Coroutine[Any, Any, None], str]]:
        """Yield what is to be done, one after the other, each with a name."""
        for row in rows:
            yield self._stepper.step(row, node), row.id
        for job in owed:
            yield self._cleaner.clean(job, node), f"job {job.id}"
        for search in searches:
            what = f"search {search.id}-{search.attempt}"
            yield self._sweeper.search(search), what

    def _start(self, step: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.create_task(step)
        self._tasks[task] = what
        task.add_done_callback(self._done)
        if len(self._tasks) >= self._config.in_flight_max:
            self._room.clear()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._room.set()
        if not task.cancelled() and task.exception() is not None:
            logger.error("a step ended badly", exc_info=task.exception())

    async def run(self) -> None:
        """Tick, then sleep until the next due row, a wake-up, or the idle limit."""
        while True:
            await self._room.wait()
            self._alarm.begin()
            try:
                if not self._lease.trusted():
                    await self._lease.renew()
                await self._follow_clock()
                report = await self.tick(wait=False)
                if report.full:
                    await self._clock.sleep(0)
                    continue
                seconds = await self._until_due()
            except StoreError as error:
                logger.warning("tick failed, trying again: %s", error)
                seconds = _AGAIN_S
            except Exception:
                logger.exception("tick broke, trying again")
                seconds = _AGAIN_S
            if seconds > 0:
                await self._alarm.sleep(seconds)

    async def _until_due(self) -> float:
        now = self._clock.now_us()
        idle = seconds_to_us(self._config.idle.total_seconds())
        # Set before the question is asked: what is released meanwhile wakes us.
        self._alarm.set(now + idle)
        due = await self._store.next_due(self._contexts.loaded())
        until = now + idle
        if due is not None:
            self._debts_due = due <= now
            until = min(due, until)
        self._alarm.set(until)
        # The question took its time, which is not slept again: who releases a row now
        # relies on a sleep that ends then. A clock set back lengthens no sleep.
        return max(until - max(now, self._clock.now_us()), 0) / 1e6

    async def watch(self) -> None:
        """Ask the database, again and again, what other processes wrote.

        The first answer, and the first after an error, count as a change: what was
        missed is looked for.
        """
        seconds = self._config.watch.total_seconds()
        seen: tuple[int, int] | None = None
        while True:
            version = None
            try:
                await self._follow_clock()
                version = await self._store.data_version()
            except StoreError as error:
                logger.debug("database is away: %s", error)
            except Exception:
                logger.exception("watch broke, trying again")
            self.probes += 1
            if version is not None and version != seen:
                self._alarm.wake()
                self._changed()
            seen = version
            await self._clock.sleep(seconds)

    async def _follow_clock(self) -> None:
        """Keep rows from waiting for hours that the wall clock shows once more."""
        self._belief.now()
        for since, size in self._belief.steps_back():
            self._debts_at = 0
            await self._store.bring_forward(since, size)
            self._alarm.wake()

    async def beat(self) -> None:
        """Renew the lease, again and again."""
        while True:
            await self._clock.sleep(self._config.heartbeat.total_seconds())
            try:
                if await self._lease.renew():
                    # This process's own commits do not wake its watch.
                    self._alarm.wake()
                await self._free_strays()
            except StoreError as error:
                logger.warning("heartbeat failed, trying again: %s", error)
            except Exception:
                logger.exception("heartbeat broke, trying again")

    async def _free_strays(self) -> None:
        """Give back rows that this node holds and that no step works on.

        There should be none. One that was seen at two heartbeats in a row is one, a
        younger one may be on its way from its claim to its step.
        """
        node = self._lease.node
        at_work = set(self._tasks.values())
        held = await self._store.claimed_by(node)
        idle = {key for key in held if key[0] not in at_work}
        strays = idle & self._strays
        self._strays = idle - strays
        if strays:
            logger.error("%d rows were held by no step: they are free", len(strays))
            await self._store.free(node, strays)
            self._alarm.wake()

    async def drain(self, seconds: float) -> None:
        """Let the steps at work end, at most *seconds*; then cancel them."""
        if not self._tasks:
            return
        tasks = set(self._tasks)
        gone = asyncio.ensure_future(asyncio.wait(tasks))
        try:
            async with self._clock.limit(seconds):
                await asyncio.shield(gone)
        except TimeoutError:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_AGAIN_S)
