"""Every exception that the library raises or lets a connector raise.

::

    OrchestratorError
    ├─ ConfigurationError (ValueError)            a setting or argument is unusable
    ├─ InvalidInputError (ValueError)             .field; nothing was stored
    ├─ OutputMismatchError (ValueError)           .field; outputs do not fit
    ├─ SecretNotFoundError (LookupError)          .reference, never a value
    ├─ ConnectorNotFoundError (LookupError, ValueError)
    ├─ ConnectorAlreadyRegisteredError (ValueError)
    ├─ ExecutionNotFoundError (LookupError)       .execution_id
    ├─ IdempotencyConflictError (ValueError)      .key, .execution_id
    ├─ WaitTimeoutError (TimeoutError)            .execution_id
    ├─ ExecutionError                             raised by result(); .execution
    │   └─ ExecutionFailedError (RuntimeError)
    │       ├─ ExecutionAbortedError
    │       ├─ ExecutionTimedOutError
    │       └─ CreateOutcomeUnknownError
    ├─ StoreError                                 driver error in __cause__
    │   ├─ StoreUnavailableError                  transient: try again later
    │   ├─ SchemaMismatchError                    .found, .expected
    │   └─ NotADatabaseError                      .path
    └─ ConnectorError                             raised BY connectors, to steer
        ├─ CallTimeoutError (TimeoutError)        raised by logs() and metrics()
        ├─ TransientError(retry_after=None)
        │   └─ ThrottledError(retry_after=None)
        ├─ AuthError
        ├─ ResourceGoneError
        └─ PermanentError

Catch broad or narrow. What a connector's error means for its execution is the
table in ``orchestrator._machine``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._records import Execution

__all__ = [
    "AuthError",
    "CallTimeoutError",
    "ConfigurationError",
    "ConnectorAlreadyRegisteredError",
    "ConnectorError",
    "ConnectorNotFoundError",
    "CreateOutcomeUnknownError",
    "ExecutionAbortedError",
    "ExecutionError",
    "ExecutionFailedError",
    "ExecutionNotFoundError",
    "ExecutionTimedOutError",
    "IdempotencyConflictError",
    "InvalidInputError",
    "NotADatabaseError",
    "OrchestratorError",
    "OutputMismatchError",
    "PermanentError",
    "ResourceGoneError",
    "SchemaMismatchError",
    "SecretNotFoundError",
    "StoreError",
    "StoreUnavailableError",
    "ThrottledError",
    "TransientError",
    "WaitTimeoutError",
]


class OrchestratorError(Exception):
    """Base of every error of this library."""


class ConfigurationError(OrchestratorError, ValueError):
    """A setting or argument cannot be used; the message names it."""


class InvalidInputError(OrchestratorError, ValueError):
    """An input was refused at the edge; nothing was stored.

    Attributes:
        field: Name of the refused field.
    """

    def __init__(self, field: str, problem: str) -> None:
        """Say which *field* was refused, and what to do."""
        super().__init__(f"{field}: {problem}")
        self.field = field


class OutputMismatchError(OrchestratorError, ValueError):
    """A connector's outputs do not fit the task's interface; never retried.

    Attributes:
        field: Name of the output.
    """

    def __init__(self, field: str, problem: str) -> None:
        """Say which output does not fit, and why."""
        super().__init__(f"{field}: {problem}")
        self.field = field


class SecretNotFoundError(OrchestratorError, LookupError):
    """A secret's reference could not be resolved; the value is never shown.

    Attributes:
        reference: The environment variable that has no value.
        key: The secret's key, which may be another name.
    """

    def __init__(
        self, reference: str, key: str = "", places: Sequence[str] = ()
    ) -> None:
        """Name the *reference* that has no value, its *key*, and where it may be."""
        key = key or reference
        where = f" (looked for in {', '.join(places)})" if places else ""
        ways = []
        if not places or "the environment" in places:
            for_whom = "for the process that runs the orchestrator"
            ways.append(f"set the environment variable {reference} {for_whom}")
        if set(places) - {"the environment"}:
            ways.append(f"let one of the {'others' if ways else 'named'} know {key!r}")
        super().__init__(f"secret {key!r} not found{where}: {', or '.join(ways)}")
        self.reference = reference
        self.key = key


class ConnectorNotFoundError(OrchestratorError, LookupError, ValueError):
    """No connector is registered for a task type (Flyte raises a ValueError)."""


class ConnectorAlreadyRegisteredError(OrchestratorError, ValueError):
    """A second connector for one task type and version, without override."""


class ExecutionNotFoundError(OrchestratorError, LookupError):
    """The database has no such execution.

    Attributes:
        execution_id: The id that was asked for.
    """

    def __init__(self, execution_id: str) -> None:
        """Name the id that was asked for."""
        super().__init__(f"no execution {execution_id!r} in this database")
        self.execution_id = execution_id


class IdempotencyConflictError(OrchestratorError, ValueError):
    """An idempotency key is held by a different request; nothing was stored.

    Attributes:
        key: The key.
        execution_id: The execution that holds it.
    """

    def __init__(self, key: str, execution_id: str) -> None:
        """Name the *key* and its holder."""
        super().__init__(
            f"idempotency_key {key!r} belongs to execution {execution_id}, which has"
            " another task type, name or inputs: use another key"
        )
        self.key = key
        self.execution_id = execution_id


class WaitTimeoutError(OrchestratorError, TimeoutError):
    """The wait ended; the execution goes on.

    Attributes:
        execution_id: The execution that was waited for.
    """

    def __init__(
        self,
        execution_id: str,
        seconds: float,
        state: str = "",
        *,
        aborting: bool = False,
    ) -> None:
        """Name the execution, how long it was waited for, and what it is at."""
        rest = "its abort stays wished: wait again"
        super().__init__(
            f"execution {execution_id} is not terminal after {seconds:g} s"
            f"{state and f' ({state})'};"
            f" {rest if aborting else 'it goes on: wait again, or abort it'}"
        )
        self.execution_id = execution_id


class ExecutionError(OrchestratorError):
    """An execution ended without success.

    Attributes:
        execution: The terminal record.
    """

    def __init__(self, execution: Execution) -> None:
        """Build the message from the terminal record."""
        detail = execution.error_message or execution.message or "no message"
        code = f" [{execution.error_code}]" if execution.error_code else ""
        super().__init__(
            f"task {execution.name} ended {execution.phase}{code}: {detail}"
            f" (execution {execution.id})"
        )
        self.execution = execution


class ExecutionFailedError(ExecutionError, RuntimeError):
    """The execution is FAILED (Flyte raises a RuntimeError)."""


class ExecutionAbortedError(ExecutionFailedError):
    """The execution is ABORTED."""


class ExecutionTimedOutError(ExecutionFailedError):
    """The execution is TIMED_OUT."""


class CreateOutcomeUnknownError(ExecutionFailedError):
    """Nobody knows whether the service has the job; look before you submit again."""


class StoreError(OrchestratorError):
    """The database refused or failed; the driver's error is ``__cause__``."""


class StoreUnavailableError(StoreError):
    """The database is away, locked, full or read-only; nothing was acknowledged."""


class SchemaMismatchError(StoreError):
    """The database's schema is not the one of this version.

    Attributes:
        found: The revision in the database, None if it has none.
        expected: The revision that this version needs.
    """

    def __init__(self, found: str | None, expected: str, advice: str) -> None:
        """Say what was *found* and what to do."""
        super().__init__(
            f"database schema is {found or 'not ours'}, this version needs"
            f" {expected}: {advice}"
        )
        self.found = found
        self.expected = expected


class NotADatabaseError(StoreError):
    """The path is something else than a database of ours.

    Attributes:
        path: The path that was opened.
    """

    def __init__(self, path: str, problem: str) -> None:
        """Name the *path* and what is wrong with it."""
        super().__init__(f"{path}: {problem}")
        self.path = path


class ConnectorError(OrchestratorError):
    """Base of what a connector raises to steer its execution.

    Any other exception from ``create`` means "unknown", from ``get`` and
    ``delete`` "later".
    """


class CallTimeoutError(ConnectorError, TimeoutError):
    """A call that somebody waits for had no answer within its connector's time limit.

    It proves nothing: the call may have had an effect.
    """


class TransientError(ConnectorError):
    """Not now: the call had no effect; the same call is made again later.

    Attributes:
        retry_after: Seconds to wait at least, None for the backoff alone.
    """

    def __init__(
        self, message: str = "", *, retry_after: float | timedelta | None = None
    ) -> None:
        """Store *retry_after* (seconds or timedelta)."""
        super().__init__(message)
        if isinstance(retry_after, timedelta):
            retry_after = retry_after.total_seconds()
        self.retry_after: float | None = retry_after


class ThrottledError(TransientError):
    """The service asks for fewer calls: as TransientError, and named so."""


class AuthError(ConnectorError):
    """Credentials were refused: the execution is held, no attempt is burnt."""


class ResourceGoneError(ConnectorError):
    """The service has no such job (any more)."""


class PermanentError(ConnectorError):
    """The call can never succeed; from ``create`` it asserts "not created"."""
