"""What a refusal, or silence, means where a call is one request to a service.

``create`` asserts "no job" only where the answer proves it. Everything else is raised
as plain ConnectorError, which is "unknown" from ``create``; from the other calls it is
TransientError, "later".
"""

from __future__ import annotations

from orchestrator.connectors.utils import redacted
from orchestrator.errors import (
    AuthError,
    ConnectorError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)


def of_refusal(
    text: str,
    *,
    creating: bool,
    throttled: bool,
    unauthorized: bool,
    proof: bool,
    gone: bool,
    retry_after: float | None = None,
) -> ConnectorError:
    """Return what an answer with an error means.

    Args:
        text: What the service said, without secrets.
        creating: Whether the call makes a job.
        throttled: Whether there were too many requests; none of them did anything.
        unauthorized: Whether the credentials, or their rights, do not suffice.
        proof: Whether it proves that this request made no job, and never will.
        gone: Whether the service does not know the job.
        retry_after: Seconds that the service asks for.
    """
    if throttled:
        return ThrottledError(text, retry_after=retry_after)
    if unauthorized:
        return AuthError(text)
    if creating:
        return PermanentError(text) if proof else ConnectorError(text)
    if gone:
        return ResourceGoneError(text)
    return TransientError(text, retry_after=retry_after)


def of_silence(error: OSError, *, creating: bool) -> ConnectorError:
    """Return what it means that there was no answer."""
    if creating:
        return ConnectorError(f"the answer was lost: {text_of(error)}")
    return TransientError(f"no answer: {text_of(error)}")


def text_of(error: BaseException) -> str:
    """Return an error's class and text, without secrets, bounded."""
    return redacted(f"{type(error).__name__}: {error}")
