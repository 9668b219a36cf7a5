"""The model's states and moves: two schedulers, one service, one store, and faults.

Facts (jobs that an answer told of) enter the ledger whoever holds the lease;
decisions (the row) are accepted only from the scheduler that claimed the row and only
on the row that it read. A step is what the engine's is: decide, commit, call, again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from orchestrator._phase import TERMINAL, Cause, Cleanup, Phase, RemotePhase, Resolution
from orchestrator._records import Call
from tests.model.rules import ADOPTING, Event, Givens, Kind, Row, Seen, decide, moved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.model.rules import Change

NAMES = ("A", "B")


class Job(NamedTuple):
    """A job at the service; only our deletes make it ABORTED."""

    attempt: int
    token: int
    phase: RemotePhase = RemotePhase.RUNNING
    listed: bool = True


class Entry(NamedTuple):
    """A row of the ledger."""

    job: int
    adopted: bool = False
    cleanup: Cleanup = Cleanup.NONE


class Request(NamedTuple):
    """A create on its way; its caller may still hear the answer, None if nobody."""

    attempt: int
    token: int
    caller: int | None = None


class Step(NamedTuple):
    """What a scheduler is about to do for the row that it read: commit, or call."""

    row: Row
    change: Change | None = None
    call: Call | None = None


class Left(NamedTuple):
    """How often each fault may still happen."""

    kills: int = 1
    zombies: int = 1
    timeouts: int = 1
    """Creates of which the caller hears nothing in time."""
    refusals: int = 0
    """Creates that the service refuses, to be tried later."""
    gets: int = 1
    """Poll budgets that are spent."""
    deletes: int = 1
    limits: int = 0
    """Time limits that pass: of a run, or of a clean-up."""
    aborts: int = 1


class State(NamedTuple):
    """One state of the whole."""

    row: Row
    left: Left
    owner: int | None = None
    """The scheduler that has the claim; a step of another one is a zombie's."""
    steps: tuple[Step | None, Step | None] = (None, None)
    jobs: tuple[Job, ...] = ()
    ledger: tuple[Entry, ...] = ()
    wire: tuple[Request, ...] = ()
    sweeps: frozenset[int] = frozenset()
    """Attempts whose token is searched for again after "not found"."""


Move = tuple[str, State]

_CLASS_I = Givens()
_ONE_OF_EACH = Left()


@dataclass(frozen=True, kw_only=True)
class World:
    """The protocol (by default), or what is left of it without a mechanism."""

    givens: Givens = _CLASS_I
    faults: Left = _ONE_OF_EACH
    ends: tuple[RemotePhase, ...] = (
        RemotePhase.SUCCEEDED,
        RemotePhase.RETRYABLE_FAILED,
    )
    decide: Callable[[Row, Seen, Givens], Change] = decide
    fenced: bool = True
    """Writes are refused without the claim, or on a row that is not as it was read."""
    one_token: bool = True
    """Every call of one attempt carries the same token."""
    one_entry: bool = True
    """The ledger has one entry per job, however many answers told of it."""
    owing: bool = True
    """Jobs that nobody can adopt any more owe their clean-up."""
    sweeping: bool = True
    wishing: bool = True
    """The API writes a wish, and no phase."""

    def start(self) -> State:
        """Return the state after the submission."""
        return State(moved_in(), self.faults)

    def moves(self, state: State) -> Iterator[Move]:
        """Yield each thing that can happen next, in words, and the state after it."""
        yield from self._outside(state)
        yield from self._debts(state)
        if state.row.held:
            yield from self._person(state)
        for who in (0, 1):
            step = state.steps[who]
            if step is None:
                yield from self._claims(state, who)
                continue
            if state.left.kills:
                yield from self._kills(state, who, step)
            if step.change is not None:
                yield self._commit(state, who, step.row, step.change)
            elif step.call is Call.CREATE:
                yield from self._creates(state, who, step.row)
            else:
                yield from self._calls(state, who, step.row, step.call)

    # The outside: the service, the network, the user

    def _outside(self, state: State) -> Iterator[Move]:
        for number, job in enumerate(state.jobs):
            if job.phase is RemotePhase.RUNNING:
                for phase in self.ends:
                    text = f"job {number} ends: {phase}"
                    yield text, _with_job(state, number, job._replace(phase=phase))
            if not job.listed:
                text = f"the service lists job {number}"
                yield text, _with_job(state, number, job._replace(listed=True))
        for at, request in enumerate(state.wire):
            rest = state._replace(wire=state.wire[:at] + state.wire[at + 1 :])
            yield "a late create is lost", rest
            job_number, made = self._serve(rest, request.attempt, request.token)
            yield f"a late create makes or finds job {job_number}", made
            if request.caller is not None:
                text = f"a late create returns job {job_number}, which is recorded"
                yield text, self._record(made, job_number)
        row, left = state.row, state.left
        if left.aborts and row.phase not in TERMINAL:
            left = left._replace(aborts=0)
            if self.wishing:
                wished = row._replace(aborted=True)
                yield "the user wishes an abort", state._replace(row=wished, left=left)
            else:
                ended = row._replace(aborted=True, phase=Phase.ABORTED)
                yield "the API writes ABORTED", state._replace(row=ended, left=left)

    def _serve(self, state: State, attempt: int, token: int) -> tuple[int, State]:
        """Return the job that a create of *token* makes or finds, and the state."""
        kind = self.givens.kind
        if kind in (Kind.IDEMPOTENT, Kind.FORGETFUL):
            for number, job in enumerate(state.jobs):
                known = kind is Kind.IDEMPOTENT or job.phase is RemotePhase.RUNNING
                if job.token == token and known:
                    return number, state
        job = Job(attempt, token, listed=kind is not Kind.LISTED)
        return len(state.jobs), state._replace(jobs=(*state.jobs, job))

    def _person(self, state: State) -> Iterator[Move]:
        """Yield what somebody who looked at the service says of an unknown create."""
        row = state.row
        if row.resolution is not None or row.phase in TERMINAL:
            return
        own = [n for n, job in enumerate(state.jobs) if job.attempt == row.attempt]
        for number in own:
            if all(entry.job != number for entry in state.ledger):
                yield f"resolved: it is job {number}", self._record(state, number)
        coming = bool(state.wire) or any(
            step is not None and step.call is Call.CREATE for step in state.steps
        )
        answers = [Resolution.GIVE_UP]
        if not own and not coming:
            answers.append(Resolution.ABSENT)
        for answer in answers:
            resolved = state._replace(row=row._replace(resolution=answer))
            yield f"resolved: {answer}", resolved

    # The store

    def _record(self, state: State, number: int, *, adopted: bool = False) -> State:
        """Enter a job; what can no longer be adopted owes cleanup at once."""
        ledger = state.ledger
        known = self.one_entry and [e for e in ledger if e.job == number]
        if not known:
            ledger = (*ledger, Entry(number, adopted))
        elif adopted:
            ledger = tuple(
                entry._replace(adopted=True)
                if entry.job == number and entry.cleanup is Cleanup.NONE
                else entry
                for entry in ledger
            )
        state = state._replace(ledger=ledger)
        job = state.jobs[number]
        if not job.listed:
            # Nobody searches for what the ledger knows: one state less.
            state = _with_job(state, number, job._replace(listed=True))
        return state if adopted else self._owe(state)

    def _owe(self, state: State) -> State:
        if not self.owing:
            return state
        row = state.row
        ledger = tuple(
            entry._replace(cleanup=Cleanup.DUE)
            if entry.cleanup is Cleanup.NONE
            and not entry.adopted
            and not (
                row.phase in ADOPTING and state.jobs[entry.job].attempt == row.attempt
            )
            else entry
            for entry in state.ledger
        )
        return state if ledger == state.ledger else state._replace(ledger=ledger)

    def _commit(self, state: State, who: int, seen: Row, change: Change) -> Move:
        """Return what becomes of a decision; a refused one leaves the fact behind."""
        now = state.row
        causes = " and ".join(change.causes)
        stands = (now.phase, now.attempt) == (seen.phase, seen.attempt)
        if self.fenced and not (state.owner == who and stands):
            text = f"{NAMES[who]} is refused {causes}"
            state = _released(state, who)
            if change.job is None:
                return text, state
            return f"{text}, and records the job", self._record(state, change.job)
        row = moved(seen, change)
        resolution = row.resolution and now.resolution
        written = row._replace(aborted=now.aborted, resolution=resolution)
        state = state._replace(row=written)
        if change.job is not None:
            state = self._record(state, change.job, adopted=True)
        if change.cleanup is not None:
            state = _settled(state, seen.job, change.cleanup)
        left = (row.phase, row.attempt) != (seen.phase, seen.attempt)
        if seen.phase in ADOPTING and left:
            state = self._owe(state)
        searched = self.sweeping and self.givens.kind is Kind.LISTED
        if searched and _trusts_absence(seen, change):
            state = state._replace(sweeps=state.sweeps | {seen.attempt})
        if change.then is None or row.phase in TERMINAL:
            state = _released(state, who)
        else:
            state = _with_step(state, who, Step(row, None, change.then))
        return f"{NAMES[who]} commits {causes}: {row.phase}", state

    def _debts(self, state: State) -> Iterator[Move]:
        """Yield the clean-ups and searches that any living process may do."""
        for at, entry in enumerate(state.ledger):
            if entry.cleanup is not Cleanup.DUE:
                continue
            number = entry.job
            paid = _with_entry(state, at, entry._replace(cleanup=Cleanup.DONE))
            yield f"the cleaner deletes job {number}", _deleted(paid, number)
            if state.left.limits:
                left = state.left._replace(limits=state.left.limits - 1)
                lost = entry._replace(cleanup=Cleanup.ABANDONED)
                late = _with_entry(state, at, lost)._replace(left=left)
                yield f"the cleaner abandons job {number}", late
        if state.sweeps:
            for number in hidden(state):
                job = state.jobs[number]
                if job.listed and job.attempt in state.sweeps:
                    yield f"the sweep finds job {number}", self._record(state, number)

    # The schedulers

    def _claims(self, state: State, who: int) -> Iterator[Move]:
        if state.row.phase in TERMINAL:
            return
        text = f"{NAMES[who]} claims"
        if state.owner is not None:
            if not state.left.zombies:
                return
            left = state.left._replace(zombies=state.left.zombies - 1)
            state = state._replace(left=left)
            text = f"the lease of {NAMES[state.owner or 0]} is over: {text}"
        state = state._replace(owner=who)
        row = state.row
        yield text, self._goes_on(state, who, row, Seen(Event.DUE))
        if state.left.limits and row.phase in (Phase.RUNNING, Phase.ABORTING):
            left = state.left._replace(limits=state.left.limits - 1)
            late = state._replace(left=left)
            text = f"{text}, and the time limit has passed"
            yield text, self._goes_on(late, who, row, Seen(Event.LIMIT))

    def _goes_on(self, state: State, who: int, row: Row, seen: Seen) -> State:
        change = self.decide(row, seen, self.givens)
        if change.causes:
            return _with_step(state, who, Step(row, change))
        if change.then is not None:
            return _with_step(state, who, Step(row, None, change.then))
        return _released(state, who)

    def _kills(self, state: State, who: int, step: Step) -> Iterator[Move]:
        left = state.left._replace(kills=state.left.kills - 1)
        wire = tuple(
            request._replace(caller=None) if request.caller == who else request
            for request in state.wire
        )
        dead = _released(state, who)._replace(left=left, wire=wire)
        at = step.call or " and ".join(step.change.causes if step.change else ())
        yield f"kill -9 of {NAMES[who]} before {at}", dead
        if step.call is Call.CREATE:
            request = Request(step.row.attempt, self._token(state, step.row))
            text = f"kill -9 of {NAMES[who]}, its create is on the wire"
            yield text, dead._replace(wire=(*wire, request))

    def _token(self, state: State, row: Row) -> int:
        calls = 0 if self.one_token else len(state.jobs) + len(state.wire)
        return 100 * row.attempt + calls

    def _creates(self, state: State, who: int, row: Row) -> Iterator[Move]:
        name, token, left = NAMES[who], self._token(state, row), state.left
        number, made = self._serve(state, row.attempt, token)
        answer = Seen(Event.CREATED, number)
        text = f"{name}: create returns job {number}"
        yield text, self._goes_on(made, who, row, answer)
        if left.timeouts:
            lost = Seen(Event.CREATE_LOST)
            left = left._replace(timeouts=left.timeouts - 1)
            request = Request(row.attempt, token, who)
            for text, after in (
                (f"{name}: create times out, it made or found job {number}", made),
                (f"{name}: create times out and never was", state),
                (
                    f"{name}: create times out and is on the wire",
                    state._replace(wire=(*state.wire, request)),
                ),
            ):
                yield text, self._goes_on(after._replace(left=left), who, row, lost)
        if state.left.refusals:
            left = state.left._replace(refusals=state.left.refusals - 1)
            refused = Seen(Event.CREATE_REFUSED)
            after = self._goes_on(state._replace(left=left), who, row, refused)
            yield f"{name}: create is refused", after

    def _calls(
        self, state: State, who: int, row: Row, call: Call | None
    ) -> Iterator[Move]:
        for seen, after in self._answers(state, row, call):
            words = [str(seen.event)]
            if call in (Call.LOOKUP, Call.FIND):
                words.append("no job" if seen.job is None else f"job {seen.job}")
            words += [] if seen.remote is None else [str(seen.remote)]
            text = f"{NAMES[who]}: {' '.join(words)}"
            yield text, self._goes_on(after, who, row, seen)

    def _answers(
        self, state: State, row: Row, call: Call | None
    ) -> Iterator[tuple[Seen, State]]:
        left = state.left
        if call is Call.LOOKUP or call is Call.FIND:
            event = Event.RECORDED if call is Call.LOOKUP else Event.FOUND
            known = recorded(state, row) if call is Call.LOOKUP else listed(state, row)
            for job in known:
                yield Seen(event, job), state
            if not known:
                yield Seen(event), state
            return
        assert row.job is not None
        if call is Call.GET:
            yield Seen(Event.GOT, None, state.jobs[row.job].phase), state
            if left.gets and row.phase is Phase.RUNNING:
                left = left._replace(gets=left.gets - 1)
                yield Seen(Event.GET_FAILED), state._replace(left=left)
            return
        yield Seen(Event.DELETED), _deleted(state, row.job)
        if left.deletes:
            left = left._replace(deletes=left.deletes - 1)
            yield Seen(Event.DELETE_FAILED), state._replace(left=left)


def moved_in() -> Row:
    """Return the row that a submission makes."""
    return Row(Phase.QUEUED)


def recorded(state: State, row: Row) -> list[int]:
    """Return the jobs that the ledger lets *row*'s attempt adopt."""
    return [
        entry.job
        for entry in state.ledger
        if entry.cleanup is Cleanup.NONE
        and state.jobs[entry.job].attempt == row.attempt
    ][:1]


def listed(state: State, row: Row) -> list[int]:
    """Return the jobs that a search for the token of *row*'s attempt finds."""
    return [
        number
        for number, job in enumerate(state.jobs)
        if job.listed and job.attempt == row.attempt
    ]


def hidden(state: State) -> list[int]:
    """Return the jobs that the ledger does not know."""
    known = {entry.job for entry in state.ledger}
    return [number for number in range(len(state.jobs)) if number not in known]


def _trusts_absence(seen: Row, change: Change) -> bool:
    """Whether *change* believes a search that found nothing."""
    return Cause.KNOWN_ABSENT in change.causes or (
        seen.phase is Phase.CREATE_UNKNOWN
        and change.causes == (Cause.ABORTED_UNSUBMITTED,)
    )


def _with_job(state: State, number: int, job: Job) -> State:
    return state._replace(jobs=(*state.jobs[:number], job, *state.jobs[number + 1 :]))


def _with_entry(state: State, at: int, entry: Entry) -> State:
    return state._replace(ledger=(*state.ledger[:at], entry, *state.ledger[at + 1 :]))


def _settled(state: State, number: int | None, cleanup: Cleanup) -> State:
    ledger = tuple(
        entry._replace(cleanup=cleanup)
        if entry.job == number and entry.adopted and entry.cleanup is Cleanup.NONE
        else entry
        for entry in state.ledger
    )
    return state._replace(ledger=ledger)


def _deleted(state: State, number: int) -> State:
    job = state.jobs[number]
    if job.phase is not RemotePhase.RUNNING:
        return state
    return _with_job(state, number, job._replace(phase=RemotePhase.ABORTED))


def _with_step(state: State, who: int, step: Step | None) -> State:
    steps = (step, state.steps[1]) if who == 0 else (state.steps[0], step)
    return state._replace(steps=steps)


def _released(state: State, who: int) -> State:
    owner = None if state.owner == who else state.owner
    return _with_step(state, who, None)._replace(owner=owner)


def _key(step: Step) -> tuple[str, ...]:
    causes = step.change.causes if step.change else ()
    row = step.row
    return (row.phase, str(row.attempt), step.call or "", str(row.aborted), *causes)


def canonical(state: State) -> State:
    """Return *state*, or its twin with the names of the schedulers exchanged."""
    one, other = state.steps
    if other is None:
        return state
    if one is not None:
        first, second = _key(one), _key(other)
        if first > second or (first == second and state.owner != 1):
            return state
    wire = tuple(
        r if r.caller is None else r._replace(caller=1 - r.caller) for r in state.wire
    )
    owner = None if state.owner is None else 1 - state.owner
    return state._replace(steps=(other, one), owner=owner, wire=wire)
