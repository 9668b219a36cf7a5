"""What the errors of Databricks' SDK mean to an execution.

``create`` asserts "no run" only where the answer proves it: a refusal that this very
request got. Everything else is raised as plain ConnectorError, which is "unknown" from
``create`` and "later" from ``get`` and ``delete``.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.connectors.utils import redacted
from orchestrator.errors import (
    AuthError,
    ConnectorError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databricks.sdk.errors.base import DatabricksError

THROTTLED_CODES = frozenset(
    {"QUOTA_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"}
)
UNCLEAR_CODES = frozenset(
    {
        "ABORTED",
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "INTERNAL_ERROR",
        "INTERNAL_SERVER_ERROR",
        "TEMPORARILY_UNAVAILABLE",
        "UNKNOWN",
    }
)
"""Codes that prove nothing, whatever the status."""

_NO_SUCH_RUN = re.compile(r"Run:? .*(does not exist|doesn't exist)")


class SentOnceError(Exception):
    """Raised where the SDK would wait before it repeats a request."""


@contextmanager
def translated(*, creating: bool) -> Iterator[None]:
    """Raise what the engine understands in place of what the SDK raises.

    Args:
        creating: Whether the call makes a run.
    """
    from databricks.sdk.errors.base import DatabricksError  # noqa: PLC0415 - extra

    try:
        yield
    except ConnectorError:
        raise
    except Exception as caught:
        repeatable = isinstance(caught, SentOnceError)
        error = caught.__context__ if repeatable else caught
        if isinstance(error, DatabricksError):
            raise of_answer(error, creating=creating, unclear=repeatable) from error
        if not isinstance(error, OSError):  # requests' errors are of this kind
            raise
        if creating:
            raise ConnectorError(f"the answer was lost: {_text(error)}") from error
        raise TransientError(f"no answer: {_text(error)}") from error


def of_answer(
    error: DatabricksError, *, creating: bool, unclear: bool = False
) -> ConnectorError:
    """Return what an answer with an error status means.

    Args:
        error: The SDK's, whose class stands for status and code.
        creating: Whether the call makes a run.
        unclear: Whether the SDK itself takes the error for a passing one.
    """
    from databricks.sdk import errors  # noqa: PLC0415 - the extra

    code = str(error.error_code or "")
    text = redacted(f"{code or type(error).__name__}: {error}")
    after = error.retry_after_secs
    if isinstance(error, errors.TooManyRequests) or code in THROTTLED_CODES:
        return ThrottledError(text, retry_after=after)
    if isinstance(error, (errors.Unauthenticated, errors.PermissionDenied)):
        return AuthError(text)
    refused = isinstance(error, (errors.BadRequest, errors.NotFound))
    if creating:
        proof = refused and not unclear and code not in UNCLEAR_CODES
        return PermanentError(text) if proof else ConnectorError(text)
    if isinstance(error, errors.NotFound) or (refused and _NO_SUCH_RUN.search(text)):
        return ResourceGoneError(text)
    return TransientError(text, retry_after=after)


def _text(error: BaseException) -> str:
    return redacted(f"{type(error).__name__}: {error}")
