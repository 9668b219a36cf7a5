"""What the errors of Google's client mean to an execution.

The proof that ``create`` made no job is a refusal with a 4xx status that this very
request got.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.connectors._refusals import of_refusal, of_silence, text_of
from orchestrator.connectors.utils import redacted
from orchestrator.errors import AuthError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.api_core.exceptions import GoogleAPICallError

    from orchestrator.errors import ConnectorError

THROTTLED_REASONS = frozenset(
    {"jobRateLimitExceeded", "quotaExceeded", "rateLimitExceeded"}
)
UNCLEAR_REASONS = frozenset(
    {"backendError", "internalError", "jobBackendError", "jobInternalError"}
)
"""Reasons that come with a 400, too, and prove nothing."""

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_TIMEOUT, _THROTTLED, _SERVER = 408, 429, 500


@contextmanager
def translated(*, creating: bool) -> Iterator[None]:
    """Raise what the engine understands in place of what Google's client raises.

    Args:
        creating: Whether the call makes a job.
    """
    from google.api_core import exceptions as api  # noqa: PLC0415 - the extra
    from google.auth import exceptions as auth  # noqa: PLC0415

    try:
        yield
    except api.GoogleAPICallError as error:
        raise of_answer(error, creating=creating) from error
    except auth.TransportError as error:
        # No token was to be had: the job request itself may have been sent before,
        # and refused with 401, which made no job either.
        raise TransientError(f"no access token: {text_of(error)}") from error
    except auth.GoogleAuthError as error:
        kind = TransientError if error.retryable else AuthError
        raise kind(f"no access token: {_code(error)}") from None
    except OSError as error:  # requests' errors are of this kind
        raise of_silence(error, creating=creating) from error


def of_answer(error: GoogleAPICallError, *, creating: bool) -> ConnectorError:
    """Return what an answer with an error status means."""
    status = int(error.code or 0)
    reasons = reasons_of(error)
    unclear = status in (0, _TIMEOUT) or status >= _SERVER or reasons & UNCLEAR_REASONS
    return of_refusal(
        redacted(f"{status} {', '.join(sorted(reasons))}: {error.message}"),
        creating=creating,
        throttled=status == _THROTTLED or bool(reasons & THROTTLED_REASONS),
        unauthorized=status in (_UNAUTHORIZED, _FORBIDDEN),
        proof=not unclear,
        gone=status == _NOT_FOUND,
        retry_after=retry_after(error),
    )


def reasons_of(error: GoogleAPICallError) -> set[str]:
    """Return the ``reason`` of each part of an error."""
    parts = [part for part in error.errors or () if isinstance(part, dict)]
    return {str(part["reason"]) for part in parts if part.get("reason")}


def retry_after(error: GoogleAPICallError) -> float | None:
    """Return the seconds of the ``Retry-After`` header, None without such."""
    headers = getattr(error.response, "headers", None) or {}
    said = str(headers.get("Retry-After", ""))
    return float(said) if said.isdecimal() else None


def _code(error: BaseException) -> str:
    """Return what a token endpoint calls its refusal.

    Not its text: that may hold what was sent, which is a credential.
    """
    said = str(error.args[0]).partition(":")[0] if error.args else ""
    code = f": {said}" if re.fullmatch(r"[a-z_]{1,60}", said) else ""
    return f"{type(error).__name__}{code}"
