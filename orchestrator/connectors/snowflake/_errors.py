"""What the errors of Snowflake's client mean to an execution.

``create`` asserts "no job" only where the service itself refused this very request, or
nothing was sent yet. Everything else is raised as plain ConnectorError, which is
"unknown" from ``create`` and "later" from ``get``, ``find`` and ``delete``. The codes
are the service's, and the same in all versions of the client; the classes are not.
"""

from __future__ import annotations

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
    from snowflake.connector.errors import Error

NOT_FOUND = 709
CANCELED = 604
_NOT_ALLOWED = frozenset({2003, 3001})
"""No such object, or no right to it; no right."""

UNREADABLE = (KeyError, TypeError, ValueError, OSError)
"""What version 4 of the client raises, bare, of an answer without the usual parts."""

_SESSION_CODES = range(390000, 391000)
_HTTP_UNAUTHORIZED = 290401


def of_login(error: Error) -> ConnectorError:
    """Return what a failed login means; nothing was submitted yet."""
    from snowflake.connector import errors  # noqa: PLC0415 - the extra

    text = f"no session: {text_of(error)}"
    # Some classes are version 4's alone, and 5 warns whoever names them.
    refused = isinstance(error, errors.ProgrammingError)
    if code_of(error) in _SESSION_CODES or refused or _is(error, "ForbiddenError"):
        return AuthError(text)
    # Version 4 tells a refusal from silence by the class alone.
    if is_old() and type(error) is errors.DatabaseError:
        return AuthError(text)
    return TransientError(text)


def of_create(error: Error) -> ConnectorError:
    """Return what the failed submission of a query means."""
    from snowflake.connector import errors  # noqa: PLC0415 - the extra

    code, text = code_of(error), text_of(error)
    if code in _SESSION_CODES:
        return TransientError(f"the session ended, nothing was run: {text}")
    refused = isinstance(error, errors.ProgrammingError | errors.IntegrityError)
    if refused and code > 0 and code != CANCELED:
        return PermanentError(text)
    return ConnectorError(f"nobody knows whether the query runs: {text}")


def of_call(error: Error) -> ConnectorError:
    """Return what a failed ``get``, ``find`` or ``delete`` means."""
    code, text = code_of(error), text_of(error)
    if code == NOT_FOUND:
        return ResourceGoneError(text)
    if code in _NOT_ALLOWED or code in _SESSION_CODES:
        return AuthError(text)
    if _is(error, "TooManyRequests"):
        return ThrottledError(text)
    return TransientError(text)


def is_session_trouble(error: BaseException) -> bool:
    """Tell whether a new session may do what this one could not.

    A session that is gone shows as a refusal with a code, and, where an answer has no
    rows, as one that the client cannot read.
    """
    from snowflake.connector import errors  # noqa: PLC0415 - the extra

    if not isinstance(error, errors.Error):
        return isinstance(error, TypeError | KeyError)
    code = code_of(error)
    gone = code in _SESSION_CODES or code == _HTTP_UNAUTHORIZED
    return gone or isinstance(error, errors.InternalError)


def code_of(error: Error) -> int:
    """Return the service's or the client's code, -1 for none."""
    code = error.errno
    return code if isinstance(code, int) else -1


def is_session_code(code: int) -> bool:
    """Tell whether *code* speaks of the session that asks, not of what it asked."""
    return code in _SESSION_CODES


def text_of(error: BaseException) -> str:
    """Return the error's text, bounded."""
    return redacted(f"{error or type(error).__name__}")


def _is(error: Error, name: str) -> bool:
    return type(error).__name__ == name


def is_old() -> bool:
    """Tell whether the client is of the generation before that in Rust."""
    from snowflake.connector import __version__  # noqa: PLC0415 - the extra

    return int(__version__.split(".")[0]) < 5  # noqa: PLR2004
