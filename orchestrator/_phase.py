"""The words of the state machine: phases, causes, remote phases, reasons, holds.

Stored as text; the one table that connects them is in ``orchestrator._machine``.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where an execution durably is."""

    QUEUED = "QUEUED"
    """Accepted, nothing submitted for this attempt. Leaves by the create intent."""
    CREATING = "CREATING"
    """Intent and token are committed; ``create`` may or may not have run."""
    CREATE_UNKNOWN = "CREATE_UNKNOWN"
    """``create`` was called and nobody knows its outcome."""
    RUNNING = "RUNNING"
    """Resource meta is committed; the job is polled."""
    ABORTING = "ABORTING"
    """The job is to be deleted; one-way for that job."""
    SUCCEEDED = "SUCCEEDED"
    """Terminal: the job succeeded and its outputs fit."""
    FAILED = "FAILED"
    """Terminal: see ``error_code``."""
    ABORTED = "ABORTED"
    """Terminal: a user, or the service, ended it."""
    TIMED_OUT = "TIMED_OUT"
    """Terminal: the deadline or a timeout passed."""


TERMINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.ABORTED, Phase.TIMED_OUT})
LIVE = tuple(phase for phase in Phase if phase not in TERMINAL)
MAY_CREATE = (Phase.QUEUED, Phase.CREATING, Phase.CREATE_UNKNOWN)
"""Phases in which a claimed row has its inputs and labels: a step may need them."""


class RemotePhase(StrEnum):
    """Flyte's ``TaskExecution.Phase`` as the connector last told it."""

    UNDEFINED = "UNDEFINED"
    QUEUED = "QUEUED"
    WAITING_FOR_RESOURCES = "WAITING_FOR_RESOURCES"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    RETRYABLE_FAILED = "RETRYABLE_FAILED"
    ABORTED = "ABORTED"


REMOTE_WAITING = frozenset(
    {RemotePhase.QUEUED, RemotePhase.WAITING_FOR_RESOURCES, RemotePhase.INITIALIZING}
)
REMOTE_TERMINAL = frozenset(
    {
        RemotePhase.SUCCEEDED,
        RemotePhase.FAILED,
        RemotePhase.RETRYABLE_FAILED,
        RemotePhase.ABORTED,
    }
)


class AbortReason(StrEnum):
    """Why a job is to be deleted, strongest first."""

    USER = "USER"
    DEADLINE = "DEADLINE"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    QUEUED_TIMEOUT = "QUEUED_TIMEOUT"
    POLL_BUDGET = "POLL_BUDGET"
    REJECTED = "REJECTED"


class Hold(StrEnum):
    """Why a live row waits for somebody; it keeps its phase and burns nothing."""

    CONNECTOR_MISSING = "CONNECTOR_MISSING"
    """No node has a connector for this task type and version."""
    META_UNREADABLE = "META_UNREADABLE"
    """The connector's code cannot decode the stored resource meta."""
    UNAUTHORIZED = "UNAUTHORIZED"
    """The service refused the credentials."""
    SECRET_UNRESOLVED = "SECRET_UNRESOLVED"  # noqa: S105 - a name, not a secret
    """A secret's reference has no value here."""
    POISON = "POISON"
    """The row itself breaks the engine's step."""
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """``on_unknown_create="hold"``: waits for ``resolve``."""


class WaitingOn(StrEnum):
    """What a QUEUED row waits for."""

    START_TIME = "START_TIME"
    RETRY_DELAY = "RETRY_DELAY"
    SERVICE = "SERVICE"
    """The service throttled or failed transiently; the same attempt is tried again."""
    QUOTA = "QUOTA"
    RATE = "RATE"
    CONNECTOR_PAUSED = "CONNECTOR_PAUSED"
    CONNECTOR_BROKEN = "CONNECTOR_BROKEN"


class Resolution(StrEnum):
    """What a user says of a create whose outcome is unknown."""

    ABSENT = "ABSENT"
    GIVE_UP = "GIVE_UP"


class Cleanup(StrEnum):
    """What a ledger entry owes."""

    NONE = "NONE"
    DUE = "DUE"
    DONE = "DONE"
    ABANDONED = "ABANDONED"


class Cause(StrEnum):
    """Why a transition happened. Ends in UNSUBMITTED where no job exists."""

    # into the database
    SUBMITTED = "SUBMITTED"
    ATTACHED = "ATTACHED"
    # create
    CREATE_INTENT = "CREATE_INTENT"
    CREATED = "CREATED"
    CREATE_THROTTLED = "CREATE_THROTTLED"
    CREATE_TRANSIENT = "CREATE_TRANSIENT"
    CREATE_UNAUTHORIZED = "CREATE_UNAUTHORIZED"
    CREATE_UNPREPARED = "CREATE_UNPREPARED"
    CREATE_REJECTED = "CREATE_REJECTED"
    CREATE_BUDGET_SPENT = "CREATE_BUDGET_SPENT"
    NOT_CREATED = "NOT_CREATED"
    NOT_CREATED_RETRY = "NOT_CREATED_RETRY"
    CREATE_TIMED_OUT = "CREATE_TIMED_OUT"
    CREATE_ERROR = "CREATE_ERROR"
    CREATE_INTERRUPTED = "CREATE_INTERRUPTED"
    REPLAY_REFUSED = "REPLAY_REFUSED"
    # recovery of an unknown create
    ADOPTED = "ADOPTED"
    REPLAYED = "REPLAYED"
    KNOWN_ABSENT = "KNOWN_ABSENT"
    KNOWN_ABSENT_DELAYED = "KNOWN_ABSENT_DELAYED"
    CREATE_AGAIN = "CREATE_AGAIN"
    CREATE_OUTCOME_UNKNOWN = "CREATE_OUTCOME_UNKNOWN"
    GIVEN_UP = "GIVEN_UP"
    # the job
    REMOTE_PHASE_CHANGED = "REMOTE_PHASE_CHANGED"
    REMOTE_SUCCEEDED = "REMOTE_SUCCEEDED"
    REMOTE_FAILED = "REMOTE_FAILED"
    REMOTE_FAILED_RETRY = "REMOTE_FAILED_RETRY"
    REMOTE_RETRYABLE_FAILED = "REMOTE_RETRYABLE_FAILED"
    RETRIES_EXHAUSTED = "RETRIES_EXHAUSTED"
    REMOTE_ABORTED = "REMOTE_ABORTED"
    OUTPUTS_REJECTED = "OUTPUTS_REJECTED"
    JOB_LOST = "JOB_LOST"
    JOB_LOST_RETRY = "JOB_LOST_RETRY"
    ENDED_BEFORE_ABORT = "ENDED_BEFORE_ABORT"
    # into ABORTING (a job exists) or straight to the end (none does)
    ABORT_REQUESTED = "ABORT_REQUESTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    RUN_TIMEOUT = "RUN_TIMEOUT"
    QUEUED_TIMEOUT = "QUEUED_TIMEOUT"
    POLL_BUDGET_SPENT = "POLL_BUDGET_SPENT"
    GET_REJECTED = "GET_REJECTED"
    ABORTED_UNSUBMITTED = "ABORTED_UNSUBMITTED"
    DEADLINE_UNSUBMITTED = "DEADLINE_UNSUBMITTED"
    QUEUED_TIMEOUT_UNSUBMITTED = "QUEUED_TIMEOUT_UNSUBMITTED"
    OPERATOR_FAILED = "OPERATOR_FAILED"
    # out of ABORTING
    ABORT_CONFIRMED = "ABORT_CONFIRMED"
    TIMEOUT_CONFIRMED = "TIMEOUT_CONFIRMED"
    TIMEOUT_RETRY = "TIMEOUT_RETRY"
    FAILURE_CONFIRMED = "FAILURE_CONFIRMED"
    FINISHED_FIRST = "FINISHED_FIRST"
    ABORT_ABANDONED = "ABORT_ABANDONED"
    TIMEOUT_ABANDONED = "TIMEOUT_ABANDONED"
    FAILURE_ABANDONED = "FAILURE_ABANDONED"
    REASON_STRENGTHENED = "REASON_STRENGTHENED"
    # marks on a live row: the phase stays
    WISH_RECORDED = "WISH_RECORDED"
    HOLD_SET = "HOLD_SET"
    HOLD_RELEASED = "HOLD_RELEASED"
    ERRORS_BEGAN = "ERRORS_BEGAN"
    ERRORS_ENDED = "ERRORS_ENDED"
