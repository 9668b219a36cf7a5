"""Frozen records: what users read, what the engine decides about, what it decides.

Public: `Execution`, `Transition`, `Job`. Internal: `Claimed` (a live execution
under this node's claim), the observations (outcome of one connector call) and
`Change` (what `decide` answers and the store writes). No I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator._phase import TERMINAL, Phase
from orchestrator.errors import (
    AuthError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from orchestrator._phase import Cause, Cleanup, RemotePhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One submitted task, as the database has it at one moment.

    Times are aware UTC datetimes with microseconds. A terminal record never
    changes again.

    Attributes:
        id: 32 lower-case hex digits, UUIDv7: ids sort by submission time.
        phase: See `Phase`.
        attempt: The current create-to-terminal try, from 1.
        version: Number of transitions so far; the key of the last history row.
        due_at: When the scheduler looks next; None iff terminal.
        remote_phase: Flyte's phase as the connector last told it, None before.
        message: The service's last words, cleaned for display.
        inputs: Inputs as JSON-able native values.
        outputs: Outputs likewise, None until SUCCEEDED.
        error_code: Why the execution did not succeed, None otherwise.
        job_key: The service's own id of the attempt's job, None before.
        resource_meta: The encoded resource meta, None before.
        hold: Why the row waits for somebody, None if it does not.
        polls: Number of ``get`` calls over all attempts.
        poll_errors: Length of the current streak of failed calls.
        last_error: The last failed call's error, None if the last one worked.
    """

    id: str
    name: str
    task_type: str
    task_version: int
    phase: Phase
    attempt: int
    version: int
    submitted_at: datetime
    updated_at: datetime
    start_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    due_at: datetime | None = None
    remote_phase: RemotePhase | None = None
    message: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] | None = None
    outputs_proto: bytes | None = field(default=None, repr=False)
    error_code: str | None = None
    error_message: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    idempotency_key: str | None = None
    retry_of: str | None = None
    job_key: str | None = None
    resource_meta: bytes | None = field(default=None, repr=False)
    log_links: Sequence[Mapping[str, str]] = ()
    custom_info: Mapping[str, Any] | None = None
    hold: str | None = None
    waiting_on: str | None = None
    abort_requested_at: datetime | None = None
    abort_reason: str | None = None
    polls: int = 0
    poll_errors: int = 0
    last_error: str | None = None
    max_attempts: int = 1
    template_hash: str = ""

    @property
    def terminal(self) -> bool:
        """Whether the record can never change again."""
        return self.phase in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One row of history: append-only, versions without a gap from 1."""

    execution_id: str
    version: int
    attempt: int
    cause: str
    from_phase: str | None
    to_phase: str
    remote_phase: str | None
    at: datetime
    message: str | None
    node: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of the ledger: a job that ``create`` or ``find`` told us of."""

    id: int
    execution_id: str
    attempt: int
    task_type: str
    task_version: int
    job_key: str
    shared_key: str | None
    """The key as told, where another execution's job has it: ``job_key`` names both."""
    meta: bytes
    meta_version: int
    recorded_at: datetime
    adopted_at: datetime | None
    cleanup: Cleanup
    cleanup_due_at: datetime | None
    cleanup_tries: int
    cleanup_error: str | None


class Timer(NamedTuple):
    """The narrow, often written part of a live row."""

    polls: int = 0
    """``get`` calls over all attempts."""
    step: int = 0
    """Exponent of the backoff; 0 after news."""
    errors: int = 0
    """Failed calls in a row."""
    errors_since: int | None = None
    """When the streak began."""
    budget_us: int = 0
    """Time of the streak in which this engine was polling."""
    called_at: int | None = None
    """When the last call that counts for polling ended."""
    last_error: str | None = None


class Claimed(NamedTuple):
    """A live execution as the claim read it; times in UTC microseconds."""

    id: str
    task_type: str
    task_version: int
    name: str
    template_hash: str
    phase: str
    version: int
    epoch: int
    attempt: int
    submitted_at: int
    ready_at: int
    """Earliest create of this attempt: start time or end of the retry delay."""
    deadline_at: int | None
    phase_at: int
    """When the current phase began (self-transitions do not count)."""
    queued_us: int
    """Time of this attempt spent QUEUED (after the start time) and remotely waiting."""
    run_started_at: int | None
    """When the remote phase first left the waiting phases, this attempt."""
    created_at: int | None
    """When this attempt's job became known."""
    remote_phase: str | None
    message: str | None
    log_links: str | None
    custom_info: str | None
    hold: str | None
    waiting_on: str | None
    creates: int
    """``create`` calls of this attempt that may have reached the service."""
    create_called_at: int | None
    """When the first of them was made: the age of the token."""
    refused: int
    """Bits: what a permanent refusal has ruled out (see `Refused`)."""
    meta: bytes | None
    meta_version: int | None
    job_key: str | None
    end_reason: str | None
    """Why the row is ABORTING (see `AbortReason`)."""
    end_message: str | None
    abort_requested_at: int | None
    abort_reason: str | None
    resolution: str | None
    inputs: bytes | None
    """Encoded inputs; only in phases that may call ``create``."""
    labels: str | None
    """Labels as JSON text; likewise."""
    due_at: int
    timer: Timer = Timer()


class Refused:
    """Bits of `Claimed.refused`."""

    REPLAY = 1
    FIND = 2
    SEARCHED = 4
    """Nothing is refused: an earlier create was searched for and not found."""


class Call(StrEnum):
    """What a step does after a change: one connector call, or a look at the ledger."""

    CREATE = "create"
    GET = "get"
    DELETE = "delete"
    FIND = "find"
    LOOKUP = "lookup"


class Failure(StrEnum):
    """What a failed connector call asserts."""

    TRANSIENT = "TRANSIENT"
    THROTTLED = "THROTTLED"
    UNAUTHORIZED = "UNAUTHORIZED"
    SECRET = "SECRET"  # noqa: S105 - a name, not a secret
    META = "META"
    GONE = "GONE"
    PERMANENT = "PERMANENT"
    NOT_CREATED = "NOT_CREATED"
    TIMEOUT = "TIMEOUT"
    ERROR = "ERROR"


STEERING: tuple[tuple[type[Exception], Failure], ...] = (
    (ThrottledError, Failure.THROTTLED),
    (TransientError, Failure.TRANSIENT),
    (AuthError, Failure.UNAUTHORIZED),
    (ResourceGoneError, Failure.GONE),
    (PermanentError, Failure.PERMANENT),
)
"""What connectors raise to steer their executions, narrow before broad."""


class NewJob(NamedTuple):
    """A job that a connector told of: its handle, encoded, and its key."""

    meta: bytes
    meta_version: int
    job_key: str


class Sweep(NamedTuple):
    """When the attempt's token is searched again, first and last."""

    due_at: int
    until: int


@dataclass(frozen=True, slots=True)
class Due:
    """The row came due; nothing was called."""


@dataclass(frozen=True, slots=True)
class Created:
    """``create`` returned."""

    job: NewJob


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ledger was read for this attempt."""

    job: NewJob | None
    in_flight: bool = False
    """A detached ``create`` of this process may still answer."""


@dataclass(frozen=True, slots=True)
class Found:
    """``find`` returned; None says that the service knows no such token."""

    job: NewJob | None


@dataclass(frozen=True, slots=True)
class Got:
    """``get`` returned."""

    phase: RemotePhase
    message: str | None = None
    log_links: str | None = None
    custom_info: str | None = None
    outputs: bytes | None = None
    outputs_json: str | None = None
    outputs_problem: str | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """``delete`` returned."""


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call raised, or did not answer in time."""

    call: Call
    failure: Failure
    message: str
    retry_after_us: int | None = None


@dataclass(frozen=True, slots=True)
class Unloaded:
    """This node has no connector for the row's task type and version."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The row itself broke the step."""

    message: str


Observation = (
    Due | Created | Recorded | Found | Got | Deleted | CallFailed | Unloaded | Poisoned
)


@dataclass(slots=True)
class Change:
    """What `decide` answers: what to write, in one transaction, and what comes next.

    Attributes:
        cause: Why the phase is written; None for bookkeeping without history.
        phase: The phase after the change.
        attempt: The attempt after the change.
        sets: Columns of the wide row besides phase, version and attempt.
        timer: The narrow row after the change; None leaves it as it is.
        due_at: When to look next; None iff *phase* is terminal.
        then: What to do under the same claim after the change is committed;
            None releases the claim.
        message: Words for the history row.
        job: A job to enter in the ledger and, if the change is accepted, to adopt.
        cleanup: What the attempt's own ledger entry becomes.
        sweep: A search that was believed to have found nothing goes on.
    """

    phase: Phase
    attempt: int
    cause: Cause | None = None
    sets: dict[str, Any] = field(default_factory=dict)
    timer: Timer | None = None
    due_at: int | None = None
    then: Call | None = None
    message: str | None = None
    job: NewJob | None = None
    cleanup: Cleanup | None = None
    sweep: Sweep | None = None

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit."""
        return not (
            self.cause is None
            and not self.sets
            and self.timer is None
            and self.then is not None
        )
