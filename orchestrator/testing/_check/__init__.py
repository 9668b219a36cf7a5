"""check_connector: drives a connector through the engine's crash points, and reports.

The modules::

    _contract  checks of single calls: tokens, handles, states, deleting
    _lives     checks of whole lives: run, abort, a crash at each point
    _bench     engines that crash and are restarted, calls by hand
    _watched   the connector, watched: jobs made, phases told
    _pulse     how long calls keep the event loop
    _canaries  secrets, and where they were found
    _report    the outcome
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from orchestrator._clock import SystemClock
from orchestrator._registry import check_connector_class
from orchestrator._secrets import secret_references
from orchestrator._tasks import to_template
from orchestrator.errors import ConfigurationError
from orchestrator.testing._check import _canaries, _contract, _lives
from orchestrator.testing._check._bench import Bench
from orchestrator.testing._check._lives import CRASH_POINTS
from orchestrator.testing._check._pulse import Pulse
from orchestrator.testing._check._report import (
    Check,
    FindingError,
    NotCheckedError,
    Outcome,
    Report,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from orchestrator._clock import Clock
    from orchestrator._connector import AsyncConnector

__all__ = ["CRASH_POINTS", "Check", "Outcome", "Report", "check_connector"]

_TIMEOUT = timedelta(seconds=60)
_POLL_EVERY = timedelta(milliseconds=50)
_BLOCK_MAX = timedelta(milliseconds=50)


async def check_connector(
    connector: AsyncConnector[Any] | Callable[[], AsyncConnector[Any]],
    task: Any,
    inputs: Mapping[str, Any] | None = None,
    *,
    long_inputs: Mapping[str, Any] | None = None,
    count_jobs: Callable[[str], int | Awaitable[int]] | None = None,
    states: Iterable[Any] = (),
    map_state: Callable[[Any], Any] | None = None,
    crash_points: Sequence[str] = CRASH_POINTS,
    timeout: timedelta = _TIMEOUT,  # noqa: ASYNC109 - of each life, not of the call
    poll_every: timedelta = _POLL_EVERY,
    block_max: timedelta = _BLOCK_MAX,
    progress: Callable[[str], object] | None = None,
) -> Report:
    """Run *task* with *connector* on your own service, again and again, and report.

    Engines on temporary databases submit the task, crash where *crash_points* say,
    are started again and take the job to its end; calls that an engine would make
    are made by hand. Some twenty jobs are made; those whose end was not seen are
    deleted at last. Use a sandbox or an emulator.

    It waits as an engine would: a life in which ``create``'s answer was lost may take
    the policy's ``find_settle``, one whose deleted job is "gone" its ``gone_grace``.
    With their defaults that is minutes in all; *progress* tells what is under way.

    Secrets keep the values that the environment has; one without a value gets an
    invented one. Whatever they are, they are searched for in all that stays.

    Args:
        connector: The connector, or a function that makes one. With a function each
            crash is followed by a new connector, so that one which keeps what it
            needs in memory is found out.
        task: A task of the connector's type that ends by itself.
        inputs: With which it succeeds.
        long_inputs: Inputs that replace those of *inputs* so that the job is still at
            work when it is deleted; None for no others.
        count_jobs: Asks the service how many jobs a token has made: the only proof
            that there is no second one. Sync ones are called in a thread. None
            counts the job keys that were seen.
        states: Each state of the service's manual: what *map_state* takes, or a
            function that returns a Resource or a phase.
        map_state: The connector's own mapping, to a Resource or a phase.
        crash_points: Fewer are quicker.
        timeout: How long one life of the task may take, crashes included; longer by
            ``gone_grace`` once the job is "gone".
        poll_every: First delay between two polls, in place of the policy's.
        block_max: Longest time in which a call may keep the event loop from turning.
        progress: Called with a line when a check begins and when it has ended, such
            as ``print``; None tells nobody.

    Returns:
        Every check with its outcome. A check that fails stops none that can be made
        without it.

    Raises:
        ConfigurationError: The task cannot be written, or a point is unknown.
    """
    unknown = sorted(set(crash_points) - set(CRASH_POINTS))
    if unknown:
        raise ConfigurationError(
            f"crash_points: {unknown[0]!r} is none of {', '.join(CRASH_POINTS)}"
        )
    rng = Random()  # noqa: S311 - tokens that no earlier run has used
    logs = _canaries.Logs()
    pulse = Pulse(SystemClock())
    temporary = await asyncio.to_thread(_temporary)
    try:
        folder = Path(temporary.name)
        bench = Bench(
            source=connector,
            task=task,
            inputs=dict(inputs or {}),
            long_inputs={**(inputs or {}), **(long_inputs or {})},
            count_jobs=count_jobs,
            folder=folder,
            timeout_s=timeout.total_seconds(),
            poll_every=poll_every,
            pulse=pulse,
            rng=rng,
        )
        checks = Checks(bench.clock, progress)
        checks.tell(bench.waits_told())
        references = secret_references(to_template(task), bench.connector)
        with logs.kept(), _canaries.secrets_set(references, rng) as values:
            async with pulse:
                await _drive(checks, bench, states, map_state, crash_points)
            await checks.make("secrets", _secrets, values, folder, logs)
            await checks.make("loop", _loop, pulse, block_max)
    finally:
        await asyncio.to_thread(temporary.cleanup)
    return Report(type(bench.connector).__qualname__, tuple(checks.made))


def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder, in memory where there is such: nothing here has to last."""
    memory = Path("/dev/shm")  # noqa: S108 - only looked for
    where = memory if os.access(memory, os.W_OK | os.X_OK) else None
    return tempfile.TemporaryDirectory(prefix="check-connector-", dir=where)


async def _drive(
    checks: Checks,
    bench: Bench,
    states: Iterable[Any],
    map_state: Callable[[Any], Any] | None,
    crash_points: Sequence[str],
) -> None:
    if not await checks.make("registration", _registration, bench):
        return
    try:
        ran = await checks.make("run", _lives.run, bench)
        if bench.notes.given:
            await checks.make("create_is_idempotent", _contract.tokens, bench)
            await checks.make("find", _contract.find_known, bench)
            await checks.make("find_unknown", _contract.find_unknown, bench)
            await checks.make("delete", _contract.delete_twice, bench)
            await checks.make("get_after_delete", _contract.get_after_delete, bench)
        if ran:
            await checks.make("abort", _lives.abort, bench)
            for point in (p for p in CRASH_POINTS if p in crash_points):
                await checks.make(f"crash at {point}", _lives.crash, bench, point)
        await checks.make("metas", _contract.metas, bench)
        await checks.make("job_key", _contract.job_keys, bench)
        await checks.make("states", _contract.states, bench, states, map_state)
    finally:
        await bench.clean_up()


class Checks:
    """The checks that were made so far."""

    def __init__(
        self, clock: Clock, progress: Callable[[str], object] | None = None
    ) -> None:
        """Begin without any; tell *progress* of each."""
        self.made: list[Check] = []
        self._clock = clock
        self._progress = progress

    def tell(self, line: str) -> None:
        """Tell who wants to know what is under way."""
        if self._progress is not None:
            self._progress(line)

    async def make(
        self, name: str, check: Callable[..., Awaitable[str]], *args: Any
    ) -> bool:
        """Make a check, note its outcome, and return whether it did not fail."""
        outcome, advice = Outcome.OK, ""
        began = self._clock.monotonic()
        self.tell(f"{name} ...")
        try:
            seen = await check(*args)
        except NotCheckedError as error:
            outcome, seen, advice = Outcome.NOT_CHECKED, str(error), error.advice
        except FindingError as error:
            outcome, seen, advice = Outcome.FAILED, str(error), error.advice
        except Exception as error:  # noqa: BLE001 - whatever the connector raises
            outcome, seen = Outcome.FAILED, _contract.described(error)
            advice = "the check itself could not go on: no call may raise this here"
        self.made.append(Check(name, outcome, seen, advice))
        why = f": {seen}" if outcome is Outcome.FAILED else ""
        took_s = self._clock.monotonic() - began
        self.tell(f"{name}: {outcome} after {took_s:.1f} s{why}")
        return outcome is not Outcome.FAILED


async def _registration(bench: Bench) -> str:
    connector, template = bench.connector, to_template(bench.task)
    try:
        await asyncio.to_thread(check_connector_class, connector)
    except ConfigurationError as error:
        advice = "mend the member that is named: no engine takes the connector as it is"
        raise FindingError(str(error), advice) from error
    runs = (connector.task_type_name, connector.task_type_version)
    if runs != (template.type, template.task_type_version):
        raise FindingError(
            f"the task is of type {template.type} {template.task_type_version}, the"
            f" connector runs {runs[0]} {runs[1]}",
            "give a task of the connector's own type and version",
        )
    return f"it runs tasks of type {runs[0]}"


async def _secrets(
    values: Mapping[str, str], folder: Path, logs: _canaries.Logs
) -> str:
    if not values:
        raise NotCheckedError("neither connector nor task declares a secret")
    found = await asyncio.to_thread(_canaries.leaks, values, folder, logs)
    if found:
        raise FindingError(
            f"the value of {'; of '.join(found)}",
            "keep secrets out of handles, outputs, job keys, and what your own threads"
            " log: the engine redacts messages and errors, a RedactingFilter what a"
            " call logs itself",
        )
    return f"{len(values)} values were found nowhere"


async def _loop(pulse: Pulse, block_max: timedelta) -> str:
    limit_s = block_max.total_seconds()
    blocked = pulse.blocked(limit_s)
    if blocked:
        told = [f"{name} for {s * 1000:.0f} ms" for name, s in blocked.items()]
        raise FindingError(
            f"the event loop stood still in {', '.join(told)} (allowed:"
            f" {limit_s * 1000:.0f} ms)",
            "use an async client, await asyncio.to_thread(...), or set"
            ' runs_in = "thread": every other execution waits meanwhile',
        )
    longest_s = max((max(turns) for turns in pulse.turns.values()), default=0.0)
    if longest_s > limit_s:  # single turns only, or they were a finding
        return (
            f"single calls kept the loop for up to {longest_s * 1000:.0f} ms, which"
            f" may be the machine's doing (allowed: {limit_s * 1000:.0f} ms)"
        )
    return f"no call kept the loop for more than {longest_s * 1000:.0f} ms"
