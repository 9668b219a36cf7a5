"""What is said while a session is opened, without what the client sent for it.

For a key pair the client makes a token of its own, which nobody else ever sees: it
cannot be known and replaced, as a given secret is. It can only be told by its looks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator._secrets import Redactor, current_redactor, redacting

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_TOKEN_LIKE = re.compile(r"[\w+/=-]{24,}")
"""Each part of a token, in any spelling; what a cut leaves of one is no token."""

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""By which Snowflake tells its administrators why it refused a login."""

_SAID_MAX = 100_000


def login() -> AbstractContextManager[None]:
    """Redact what looks like a token, in texts and in logs, until the block ends."""
    return redacting(_Login(current_redactor()))


class _Login(Redactor):
    """Knows what another redactor knows, and tokens by their looks."""

    def __init__(self, known: Redactor) -> None:
        super().__init__()
        self._known = known

    @property
    def longest(self) -> int:
        return max(self._known.longest, 1)

    def redact(self, text: str) -> str:
        return _TOKEN_LIKE.sub(_shown, self._known.redact(text))

    def redact_start(self, text: str, limit: int) -> str:
        known = self._known.redact_start(text, _SAID_MAX)
        return _TOKEN_LIKE.sub(_shown, known)[:limit]


def _shown(found: re.Match[str]) -> str:
    return found[0] if _ID.fullmatch(found[0]) else "***"
