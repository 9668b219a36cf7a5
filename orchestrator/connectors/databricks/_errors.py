"""What the errors of Databricks' SDK mean to an execution.

The proof that ``create`` made no run is a refusal that this very request got.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.connectors._refusals import of_refusal, of_silence
from orchestrator.connectors.utils import redacted
from orchestrator.errors import ConnectorError

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
        raise of_silence(error, creating=creating) from error


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
    refused = isinstance(error, (errors.BadRequest, errors.NotFound))
    unknown = isinstance(error, errors.NotFound) or bool(_NO_SUCH_RUN.search(text))
    return of_refusal(
        text,
        creating=creating,
        throttled=isinstance(error, errors.TooManyRequests) or code in THROTTLED_CODES,
        unauthorized=isinstance(
            error, (errors.Unauthenticated, errors.PermissionDenied)
        ),
        proof=refused and not unclear and code not in UNCLEAR_CODES,
        gone=refused and unknown,
        retry_after=error.retry_after_secs,
    )
