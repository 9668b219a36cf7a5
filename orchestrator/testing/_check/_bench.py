"""The bench: engines that crash at named points, and calls made by hand."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator._clock import SystemClock
from orchestrator._config import Config, Policy
from orchestrator._connector import AsyncConnector
from orchestrator._faults import Crash
from orchestrator._ids import Ids, create_token
from orchestrator._orchestrator import Orchestrator
from orchestrator._phase import Hold, Phase
from orchestrator._policies import policy_of
from orchestrator._registry import Registry
from orchestrator.errors import StoreUnavailableError
from orchestrator.testing._check._watched import Notes, watch
from orchestrator.testing._crash import CrashAt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from random import Random

    from orchestrator._records import Execution
    from orchestrator.testing._check._pulse import Pulse
    from orchestrator.testing._check._watched import Watched

_TICK_S = 0.005
_QUICK = timedelta(milliseconds=20)
_migrated: list[bytes] = []


@dataclass(frozen=True)
class Life:
    """What became of one execution.

    Attributes:
        execution: The record when it was over, or when the time was.
        token: The token of its first attempt.
        missed: Points that were never reached.
    """

    execution: Execution
    token: str
    missed: list[str]

    def told(self) -> str:
        """Return how it ended, as text."""
        execution = self.execution
        why = execution.error_message or execution.last_error or execution.message
        hold = f" on hold ({execution.hold})" if execution.hold else ""
        return f"{execution.phase}{hold}{': ' if why else ''}{why or ''}"


@dataclass
class Bench:
    """What the checks work with.

    Attributes:
        source: The connector, or what makes one.
        task: The author's task.
        inputs: Of a job that succeeds.
        long_inputs: Of a job that is still at work when it is deleted.
        count_jobs: Asks the service how many jobs a token made; None for nobody.
        folder: Where the databases go.
        timeout_s: How long one life may take, and a call.
        poll_every: First delay between polls.
    """

    source: Any
    task: Any
    inputs: Mapping[str, Any]
    long_inputs: Mapping[str, Any]
    count_jobs: Callable[[str], Any] | None
    folder: Path
    timeout_s: float
    poll_every: timedelta
    pulse: Pulse
    rng: Random

    def __post_init__(self) -> None:
        """Make the first connector."""
        self.clock = SystemClock()
        self.began = self.clock.monotonic()
        self.notes = Notes()
        self._ids = Ids(self.clock, self.rng)
        self._lives = 0
        self.restart()

    def restart(self) -> None:
        """Be a new process: a new connector, if there is what makes one."""
        source = self.source
        self.connector: AsyncConnector[Any] = (
            source if isinstance(source, AsyncConnector) else source()
        )

    @property
    def policy(self) -> Policy:
        """The connector's policy, or the default one."""
        return policy_of(self.connector)

    def waits_told(self) -> str:
        """Return what is waited for, as text."""
        own = self.policy
        return (
            f"a life of the task may take {self.timeout_s:g} s; in it the policy's"
            f" find_settle ({own.find_settle.total_seconds():g} s) and gone_grace"
            f" ({own.gone_grace.total_seconds():g} s) are waited for"
        )

    def _life_s(self, token: str) -> float:
        """Return how long a life may take: "gone" is believed after its grace alone."""
        gone = not self.notes.keys[token].isdisjoint(self.notes.ended)
        grace_s = self.policy.gone_grace.total_seconds() if gone else 0.0
        return self.timeout_s + grace_s

    def watched(self, find_settle: timedelta | None = None) -> Watched:
        """Return the connector, watched, with a policy that waits for nothing."""
        own = self.policy
        limit = timedelta(seconds=self.timeout_s)
        quick = replace(
            own,
            poll_delay_min=self.poll_every,
            poll_delay_max=max(self.poll_every * 5, self.poll_every),
            error_delay_min=_QUICK,
            error_delay_max=_QUICK * 5,
            hold_delay=_QUICK * 5,
            create_timeout=min(own.create_timeout, limit),
            get_timeout=min(own.get_timeout, limit),
            delete_timeout=min(own.delete_timeout, limit),
            find_timeout=min(own.find_timeout, limit),
            find_settle=own.find_settle if find_settle is None else find_settle,
        )
        return watch(self.connector, self.notes, self.pulse, quick)

    # Through the engine

    async def prepare(self, path: Path) -> None:
        """Make an empty database at *path*; a migration is made once per process."""
        if not _migrated:
            async with self._orchestrator(path, CrashAt()):
                pass
            _migrated.append(await asyncio.to_thread(path.read_bytes))
        else:
            await asyncio.to_thread(path.write_bytes, _migrated[0])

    def _orchestrator(
        self, path: Path, faults: CrashAt, find_settle: timedelta | None = None
    ) -> Orchestrator:
        registry = Registry()
        registry.register(self.watched(find_settle))
        return Orchestrator(
            path,
            config=Config(),
            registry=registry,
            clock=self.clock,
            rng=self.rng,
            ids=self._ids,
            faults=faults,
            start=False,
        )

    async def live(
        self,
        *points: str,
        abort: bool = False,
        find_settle: timedelta | None = None,
    ) -> Life:
        """Run the task from submit to its end, over crashes at *points*.

        Args:
            points: Where the engine crashes, in this order; it is restarted after
                each with a new connector.
            abort: Run the long job, and wish for its end once it is known.
            find_settle: None for the connector's own.
        """
        self._lives += 1
        path = self.folder / f"life-{self._lives}.db"
        await self.prepare(path)
        faults = CrashAt(*points)
        start = partial(self._orchestrator, path, faults, find_settle)
        engine = start()
        await engine.open()
        try:
            inputs = self.long_inputs if abort else self.inputs
            execution = await (await engine.submit(self.task, inputs)).get()
            token = create_token(execution.id, 1)
            began = self.clock.monotonic()
            while not _over(
                execution
            ) and self.clock.monotonic() - began < self._life_s(token):
                with suppress(Crash, StoreUnavailableError):
                    execution = await self._turn(engine, execution.id, abort=abort)
                if faults.dead:
                    await engine.crash()
                    faults.revive()
                    self.restart()
                    engine = start()
                    await engine.open()
        finally:
            await engine.close()
        return Life(execution, token, faults.left)

    async def _turn(
        self, engine: Orchestrator, execution_id: str, *, abort: bool
    ) -> Execution:
        await engine.tick()
        execution = await engine.get(execution_id)
        if abort and execution.phase is Phase.RUNNING:
            await engine.abort(execution_id, reason="check_connector aborts it")
        if not _over(execution):
            await self.clock.sleep(_TICK_S)
        return execution

    # By hand

    def new_token(self) -> str:
        """Return a token that no service has seen."""
        return create_token(self._ids.execution_id(), 1)

    async def create(self, token: str, *, long: bool = False) -> Any:
        """Call ``create`` as the engine does."""
        watched = self.watched()
        inputs = dict(self.long_inputs if long else {})
        return await self.limited(watched.create(**watched.with_token(token, inputs)))

    async def call(self, method: str, **kwargs: Any) -> Any:
        """Call ``get``, ``delete`` or ``find`` as the engine does."""
        if method == "find":  # which is told what create was told
            watched = self.watched()
            given = watched.with_token(kwargs["token"], {})
            return await self.limited(watched.find(**given, **kwargs))
        secrets = {
            name: value
            for name, value in self.notes.given.items()
            if name not in _ARGUMENTS
        }
        call = getattr(self.watched(), method)
        return await self.limited(call(**kwargs, **secrets))

    async def limited(self, call: Awaitable[Any]) -> Any:
        """Await *call*, but not for ever."""
        async with self.clock.limit(self.timeout_s):
            return await call

    async def count(self, token: str) -> int | None:
        """Return how many jobs the service made of *token*, None if nobody knows."""
        if self.count_jobs is None:
            return None
        answer = await asyncio.to_thread(self.count_jobs, token)
        counted: int = await answer if asyncio.iscoroutine(answer) else answer
        return counted

    async def clean_up(self) -> None:
        """Delete the jobs whose end nobody saw: a sandbox costs money too."""
        for key, meta in self.notes.metas.items():
            if key not in self.notes.ended:
                with suppress(Exception):
                    await self.call("delete", resource_meta=meta)


_ARGUMENTS = frozenset(
    {
        "task_template",
        "output_prefix",
        "inputs",
        "task_execution_metadata",
        "idempotency_token",
    }
)


def _over(execution: Execution) -> bool:
    """Tell whether nothing more will happen by itself."""
    return execution.terminal or execution.hold == Hold.OUTCOME_UNKNOWN
