"""Errors and gRPC status codes, in both directions.

A connector's error leaves a service as INTERNAL, as it leaves Flyte's, so that no
caller is surprised. What our own errors assert beyond that stands in the trailing
metadata, where a caller that knows of it finds it: whether a job may exist, and when
to come again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import grpc

from orchestrator._engine import clean
from orchestrator._records import STEERING
from orchestrator.errors import (
    AuthError,
    CallTimeoutError,
    ConnectorNotFoundError,
    ExecutionNotFoundError,
    InvalidInputError,
    PermanentError,
    ResourceGoneError,
    SecretNotFoundError,
    StoreUnavailableError,
    ThrottledError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FAILURE_KEY = "orchestrator-failure"
RETRY_KEY = "orchestrator-retry-after"
REMEMBERED_KEY = "orchestrator-create-remembered-s"
"""Initial metadata of ListConnectors: seconds in which a create may be repeated."""

_UNKNOWN_TYPE = "Cannot find connector"
_DETAILS_MAX = 1000
"""Details travel in a header, percent-encoded; 8 KiB is all that most peers take."""

_STEERING = {str(failure).lower(): kind for kind, failure in STEERING}


class RefusedError(Exception):
    """The service itself refuses a request, before any connector sees it."""

    def __init__(
        self, code: grpc.StatusCode, details: str, failure: str = "permanent"
    ) -> None:
        """Answer *code* with *details*, and assert that nothing was done.

        *failure* tells our own client whether to come again: "transient" if later.
        """
        super().__init__(details)
        self.code, self.failure = code, failure


class RemoteCallError(RuntimeError):
    """A call to a connector service failed in a way that asserts nothing."""


class Status(NamedTuple):
    """How a call ends that did not succeed."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str], ...]


_CODES: tuple[tuple[type[Exception], grpc.StatusCode, str], ...] = (
    (ExecutionNotFoundError, grpc.StatusCode.NOT_FOUND, "gone"),
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT, "permanent"),
    (StoreUnavailableError, grpc.StatusCode.UNAVAILABLE, ""),
    (CallTimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED, ""),
    (NotImplementedError, grpc.StatusCode.UNIMPLEMENTED, "permanent"),
    (SecretNotFoundError, grpc.StatusCode.INTERNAL, "unauthorized"),
)


def status_of(
    error: BaseException,
    operation: str,
    task_type: str,
    redact: Callable[[str], str],
) -> Status:
    """Return how *error* leaves the service: Flyte's code and text, nothing inside."""
    if isinstance(error, ConnectorNotFoundError):
        details = f"{_UNKNOWN_TYPE} for task type: {task_type}."
        return Status(grpc.StatusCode.NOT_FOUND, _fit(details, redact), ())
    code, failure = grpc.StatusCode.INTERNAL, _assertion(error)
    if isinstance(error, RefusedError):
        code, failure = error.code, error.failure
    for kind, its_code, its_failure in _CODES:
        if isinstance(error, kind):
            code, failure = its_code, its_failure
            break
    trailing = [(FAILURE_KEY, failure)] if failure else []
    if isinstance(error, TransientError) and _is_seconds(error.retry_after):
        trailing.append((RETRY_KEY, f"{error.retry_after:g}"))
    details = f"failed to {operation} {task_type} task with error:\n {_text(error)}."
    return Status(code, _fit(details, redact), tuple(trailing))


def _assertion(error: BaseException) -> str:
    for name, kind in _STEERING.items():
        if isinstance(error, kind):
            return name
    return ""


def _is_seconds(given: object) -> bool:
    """Whether a connector's ``retry_after`` is a time: it may be a header's text."""
    return isinstance(given, (int, float)) and 0 < given < math.inf


def _text(error: BaseException) -> str:
    try:
        return str(error)[:100_000] or type(error).__name__
    except Exception:  # noqa: BLE001 - a user's own __str__
        return type(error).__name__


def _fit(text: str, redact: Callable[[str], str]) -> str:
    return redact(clean(redact(text), _DETAILS_MAX))


_AUTH = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
)
_UNREAD = ("larger than max", "metadata size exceeds", "Stream removed", "RST_STREAM")
"""gRPC's own words for an answer, or an error text, that was too large to be read, or
cut off: a create may have been made, though some of the codes sound like refusals."""


def error_of(
    operation: str,
    code: grpc.StatusCode,
    details: str,
    trailing: Mapping[str, str],
) -> Exception:
    """Return what the end of a call asserts, as the error that steers the engine.

    Whatever is not surely a refusal asserts nothing: a create may have made a job.
    """
    text = f"{code.name}: {details}" if details else code.name
    told = _STEERING.get(trailing.get(FAILURE_KEY, ""))
    if told is not None:
        return _told(told, text, trailing)
    if operation == "create" and any(words in details for words in _UNREAD):
        return RemoteCallError(text)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" not in details:
        return ThrottledError(text)
    if code in _AUTH:
        return AuthError(text)
    if operation == "create":
        return PermanentError(text) if code in _REFUSALS else RemoteCallError(text)
    return _later(code, text)


def _later(code: grpc.StatusCode, text: str) -> Exception:
    """Return what the end of a call means that may simply be made again."""
    if code is grpc.StatusCode.NOT_FOUND:
        # The service has lost the connector, not the job: a redeployment mends that.
        kind = TransientError if _UNKNOWN_TYPE in text else ResourceGoneError
        return kind(text)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return NotImplementedError(text)
    return TransientError(text)


def _told(kind: type[Exception], text: str, trailing: Mapping[str, str]) -> Exception:
    if not issubclass(kind, TransientError):
        return kind(text)
    try:
        seconds = float(trailing.get(RETRY_KEY, ""))
    except ValueError:
        return kind(text)
    return kind(text, retry_after=seconds)
