"""What a job and a scripted fault are: read from JSON, checked at the edge."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from random import Random
from typing import Any

_ATTEMPT = re.compile(r"-([1-9][0-9]*)$")
_FOREVER = 2**31


class ServiceClass(StrEnum):
    """What a service knows of the token that came with a create."""

    IDEMPOTENT = "I"
    """Remembered for ever: a second create with it returns the first job."""
    TIMED = "T"
    """As I, but only for a time since the job was made."""
    LISTED = "L"
    """No idempotency; jobs can be found by token."""
    NEITHER = "N"
    """Only the ledger sees it: no client can find a job by its token."""


class State(StrEnum):
    """What the service says of a job."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    RETRYABLE = "RETRYABLE"
    ABORTED = "ABORTED"


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.RETRYABLE, State.ABORTED})


class Fault(StrEnum):
    """What goes wrong with one request."""

    LATE = "late"
    """Executed at once, answered after ``delay_s``."""
    STALL = "stall"
    """Executed, and answered, only after ``delay_s``: a late request."""
    LOSE = "lose"
    """Executed, then the connection is cut instead of an answer."""
    CUT = "cut"
    """Not executed; the connection is cut."""
    REFUSE = "refuse"
    """Not executed; answered with ``status`` (and Retry-After)."""
    HANG = "hang"
    """Not executed, never answered."""
    WITHHOLD = "withhold"
    """Executed at once, answered when the test releases the token."""
    HANG_AFTER = "hang_after"
    """Executed, never answered."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One scripted fault and the requests it hits.

    Requests are counted per rule and token; the rule hits the *times* requests
    after the first *skip* ones. An empty pattern is no pattern: ``*`` is any.
    """

    do: Fault
    verb: str = "*"
    service: str = "*"
    token: str = "*"  # noqa: S105 - a pattern
    skip: int = 0
    times: int = _FOREVER
    chance: float = 1.0
    delay_s: float = 0.0
    status: int = 500
    retry_after: float | None = None

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Rule:
        """Read a rule; an unknown field is an error, not a rule without effect."""
        return cls(**{**_known(cls, raw), "do": Fault(raw["do"])})

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return asdict(self)

    def matches(self, service: str, verb: str, token: str) -> bool:
        """Whether this rule looks at such requests at all."""
        return (
            self.verb in ("*", verb)
            and self.service in ("*", service)
            and fnmatchcase(token, self.token)
        )

    def hits(self, nth: int, seed: str) -> bool:
        """Whether the *nth* (from 1) such request is hit; the same for a seed."""
        if not self.skip < nth <= self.skip + self.times:
            return False
        luck = Random(f"{seed}:{nth}").random()  # noqa: S311 - repeatable, no secret
        return luck < self.chance


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """How one job behaves. It ends when all of time, polls and word are there.

    A job ends only when somebody looks: what nobody polls or deletes counts as
    live in the ledger, which makes the witness strict about orphans.

    Attributes:
        queue_s: Seconds it is QUEUED.
        run_s: Seconds it is RUNNING.
        polls: How many ``get`` calls it must have seen (0: none).
        until_told: It ends only by the ``end`` request or a delete.
        ends: Its end, per attempt; the last one holds for all later attempts.
        delete_s: Seconds from a delete to its end.
        hidden_s: Seconds until ``find`` can see it (class L).
        faults: Rules for this job's own token.
    """

    queue_s: float = 0.0
    run_s: float = 0.0
    polls: int = 0
    until_told: bool = False
    ends: tuple[State, ...] = (State.SUCCEEDED,)
    delete_s: float = 0.0
    hidden_s: float = 0.0
    faults: tuple[Rule, ...] = ()

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> JobSpec:
        """Read a spec; unknown fields are an error."""
        given = _known(cls, raw)
        if "ends" in given:
            ends = given["ends"]
            names = [ends] if isinstance(ends, str) else ends
            given["ends"] = tuple(State(name) for name in names)
        faults = tuple(Rule.from_json(rule) for rule in given.get("faults", ()))
        return cls(**{**given, "faults": faults})

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads, only what is not the default."""
        default = JobSpec()
        raw = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(default, field.name)
        }
        if self.faults:
            raw["faults"] = [rule.to_json() for rule in self.faults]
        return raw

    def end_of(self, token: str) -> State:
        """Return how the attempt that *token* names ends."""
        attempt = attempt_of(token) or 1
        return self.ends[min(attempt, len(self.ends)) - 1]


def attempt_of(token: str) -> int | None:
    """Return the attempt that a token ends in, None for a foreign token."""
    match = _ATTEMPT.search(token)
    return int(match[1]) if match else None


def execution_of(token: str) -> str:
    """Return the execution id that a token of ours names."""
    return token.removeprefix("o").rpartition("-")[0]


def _known(cls: type, raw: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(cls)}
    if unknown := sorted(set(raw) - names):
        msg = f"{cls.__name__} has no {', '.join(unknown)}: one of {sorted(names)}"
        raise ValueError(msg)
    return dict(raw)
