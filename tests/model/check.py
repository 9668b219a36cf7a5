"""Breadth first through all states: what must hold in each, and the shortest way there.

Two states that differ in the schedulers' names only are one.
"""

from __future__ import annotations

import gc
from array import array
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator._phase import TERMINAL, Cleanup, Phase, RemotePhase
from tests.model.rules import ADOPTING, Kind
from tests.model.world import State, World, canonical, hidden

if TYPE_CHECKING:
    from collections.abc import Iterator

STATES_MAX = 10_000_000


class Finding(StrEnum):
    """What may not be."""

    SECOND_LIVE = "two live jobs of one attempt"
    SECOND_EVER = "two jobs ever of one attempt, at a service of class I"
    TWO_ATTEMPTS = "live jobs of two attempts"
    TERMINAL_CHANGED = "a terminal row changes"
    WANTED_DELETED = "a job is deleted that its row still wants"
    WRONG_END = "a job that we deleted counts as aborted by its service"
    FALSE_SUCCESS = "SUCCEEDED without a success of its own job"
    ORPHAN = "at the end, a live job that is not even listed as an orphan"
    SILENT = "at the end, a second job that is recorded nowhere"
    STUCK = "no way leads to an end"


@dataclass
class Report:
    """What an exploration saw."""

    states: int = 0
    traces: dict[Finding, list[str]] = field(default_factory=dict)
    """The shortest way to each breach, in words."""
    listed: bool = False
    """Whether some end has a live job that is listed as a possible orphan."""

    @property
    def findings(self) -> frozenset[Finding]:
        """Return what was broken."""
        return frozenset(self.traces)


class Explorer:
    """One exploration of one world."""

    def __init__(self, world: World) -> None:
        """Explore *world*."""
        self.world = world
        self.report = Report()
        self._states = [canonical(world.start())]
        self._numbers = {self._states[0]: 0}
        self._parents = array("l", [-1])
        self._sources = array("l")
        self._targets = array("l")
        self._ends: list[int] = []

    def run(self, *, until: frozenset[Finding] = frozenset()) -> Report:
        """Visit all states, or stop once *until*, if not empty, is found."""
        collected = gc.isenabled()
        gc.disable()  # all states are kept: looking for garbage takes half the time
        try:
            self._run(until)
        finally:
            if collected:
                gc.enable()
        self.report.states = len(self._states)
        return self.report

    def _run(self, until: frozenset[Finding]) -> None:
        at = 0
        while at < len(self._states):
            self._visit(at)
            at += 1
            if until and until <= self.report.findings:
                return
            assert at < STATES_MAX, "too many states"
        self._find_stuck()

    def _visit(self, at: int) -> None:
        state = self._states[at]
        numbers = self._numbers
        for _, raw in self.world.moves(state):
            after = canonical(raw)
            number = numbers.get(after)
            if number is None:
                number = numbers[after] = len(self._states)
                self._states.append(after)
                self._parents.append(at)
                for finding in self._wrong(after):
                    self._found(finding, number)
                if self._is_end(after):
                    self._at_end(after, number)
            for finding in wrong_move(state, after):
                self._found(finding, number, at)
            self._sources.append(at)
            self._targets.append(number)

    def _found(self, finding: Finding, number: int, before: int | None = None) -> None:
        if finding not in self.report.traces:
            self.report.traces[finding] = self._trace(number, before)

    def _trace(self, number: int, before: int | None = None) -> list[str]:
        """Return the shortest way to a state in words, with the names kept."""
        path = [number]
        at = self._parents[number] if before is None else before
        while at >= 0:
            path.append(at)
            at = self._parents[at]
        path.reverse()
        state, words = self.world.start(), []
        for step in path[1:]:
            aim = self._states[step]
            text, state = next(
                (text, after)
                for text, after in self.world.moves(state)
                if canonical(after) == aim
            )
            words.append(text)
        return words

    def _wrong(self, state: State) -> Iterator[Finding]:
        """Yield what is wrong with a state by itself."""
        row, jobs = state.row, state.jobs
        if len(jobs) > 1:
            ever = Counter(job.attempt for job in jobs)
            live = Counter(j.attempt for j in jobs if j.phase is RemotePhase.RUNNING)
            if max(live.values(), default=0) > 1:
                yield Finding.SECOND_LIVE
            if len(live) > 1:
                yield Finding.TWO_ATTEMPTS
            kind = self.world.givens.kind
            claimed = kind in (Kind.IDEMPOTENT, Kind.FORGETFUL)
            if claimed and max(ever.values()) > 1:
                yield Finding.SECOND_EVER
        own = None if row.job is None else jobs[row.job]
        if row.phase is Phase.SUCCEEDED and (
            own is None
            or own.phase is not RemotePhase.SUCCEEDED
            or own.attempt != row.attempt
        ):
            yield Finding.FALSE_SUCCESS

    def _is_end(self, state: State) -> bool:
        """Whether nothing is under way and nothing is owed."""
        return (
            state.row.phase in TERMINAL
            and not state.wire
            and state.steps == (None, None)
            and all(entry.cleanup is not Cleanup.DUE for entry in state.ledger)
            # A sweep goes on for longer than the service lists late.
            and all(state.jobs[n].attempt not in state.sweeps for n in hidden(state))
        )

    def _at_end(self, state: State, number: int) -> None:
        row, unrecorded = state.row, hidden(state)
        abandoned = {e.job for e in state.ledger if e.cleanup is Cleanup.ABANDONED}
        ever = Counter(job.attempt for job in state.jobs)
        fine = True
        for at, job in enumerate(state.jobs):
            listed = at in abandoned or (row.unknown and job.attempt == row.attempt)
            if job.phase is RemotePhase.RUNNING:
                self.report.listed |= listed
                if not listed:
                    fine = False
                    self._found(Finding.ORPHAN, number)
            if ever[job.attempt] > 1 and at in unrecorded and not listed:
                fine = False
                self._found(Finding.SILENT, number)
        if fine:
            self._ends.append(number)

    def _find_stuck(self) -> None:
        """Look for states from which no way leads to an end with all in order."""
        before: list[list[int]] = [[] for _ in self._states]
        for source, target in zip(self._sources, self._targets, strict=True):
            before[target].append(source)
        good = bytearray(len(self._states))
        todo = list(self._ends)
        for number in todo:
            good[number] = 1
        while todo:
            for source in before[todo.pop()]:
                if not good[source]:
                    good[source] = 1
                    todo.append(source)
        stuck = good.find(0)
        if stuck >= 0:
            self._found(Finding.STUCK, stuck)


def wrong_move(before: State, after: State) -> Iterator[Finding]:
    """Yield what is wrong with a move."""
    row, now = before.row, after.row
    if row.phase in TERMINAL and row != now:
        yield Finding.TERMINAL_CHANGED
    if before.jobs is not after.jobs:
        for number, (old, new) in enumerate(zip(before.jobs, after.jobs, strict=False)):
            if old.phase is not new.phase is RemotePhase.ABORTED and wanted(
                before, number
            ):
                yield Finding.WANTED_DELETED
    if now.phase is Phase.ABORTED and row.phase is not Phase.ABORTED:
        told = now.reason is None and not now.aborted and now.job is not None
        if told and after.jobs[now.job or 0].phase is RemotePhase.ABORTED:
            yield Finding.WRONG_END


def wanted(state: State, number: int) -> bool:
    """Whether the row, as it durably is, polls this job or may still adopt it."""
    row = state.row
    if row.aborted:
        return False
    if row.phase in ADOPTING:
        return state.jobs[number].attempt == row.attempt
    return row.phase is Phase.RUNNING and row.job == number
