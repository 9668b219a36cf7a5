"""Redaction: secret values are replaced in every text, however they are spelled."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping

REDACTED = "***"
"""What stands in a text where a secret stood."""

_SHORTEST = 4
"""Shorter values are not redacted: they would blank out half of every message."""

_SHORTEST_CORE = 6
"""The same for the inner part of a base64 text, which is less telling."""


def spellings(value: str) -> set[str]:
    """Return the spellings in which services and clients quote *value*."""
    raw = value.encode("utf-8", "surrogatepass")
    forms = {
        value,
        quote(value, safe="", errors="replace"),
        quote_plus(value, errors="replace"),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    }
    # Inside a longer base64 text ("user:password") the value starts at one of three
    # offsets; only the characters that depend on nothing else are searched for.
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        start, stop = (0, 2, 3)[offset], (offset + len(raw)) * 8 // 6
        core = encoded[start:stop]
        if len(core) >= _SHORTEST_CORE:
            forms |= {core, core.replace("+", "-").replace("/", "_")}
    whole = base64.b64encode(raw).decode()
    forms |= {whole, whole.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= _SHORTEST}


def _spelled(value: str) -> str:
    """Return a pattern of *value* as it is and as any client URL-encodes it.

    Clients agree neither on which characters need it nor on the case of the digits.
    """
    parts = []
    for char in value:
        ways = [re.escape(char)]
        if not (char.isascii() and char.isalnum()):
            octets = char.encode("utf-8", "surrogatepass")
            ways.append(f"(?i:{''.join(f'%{octet:02x}' for octet in octets)})")
        if char == " ":
            ways.append(r"\+")
        parts.append(ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})")
    return "".join(parts)


def patterns(value: str) -> set[tuple[int, str]]:
    """Return what finds *value* in a text: patterns, with how long their text is.

    Nothing for a value that is so short that it stands everywhere.
    """
    if len(value) < _SHORTEST:
        return set()
    plain = {(len(form), re.escape(form)) for form in spellings(value)}
    return plain | {(len(value), _spelled(value))}


class Redactor:
    """Replaces secret values in texts; knows every value that was ever resolved.

    Raw, URL-encoded, JSON- and repr-escaped and base64 forms are replaced, longest
    first. Values shorter than 4 characters are left alone. Not thread-safe for
    registering; redacting is.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._values: set[str] = set()
        self._forms: set[tuple[int, str]] = set()
        self._pattern: re.Pattern[str] | None = None
        self._longest = 0

    def register(self, values: Mapping[str, str]) -> None:
        """Remember the *values* of resolved secrets; cheap if all are known."""
        fresh = [
            v for v in values.values() if v not in self._values and len(v) >= _SHORTEST
        ]
        if not fresh:
            return
        for value in fresh:
            self._values.add(value)
            self._forms |= patterns(value)
            encoded = len(value.encode("utf-8", "surrogatepass")) * 3
            self._longest = max(self._longest, encoded, *map(len, spellings(value)))
        ordered = sorted(self._forms, key=lambda form: (-form[0], form[1]))
        self._pattern = re.compile("|".join(pattern for _, pattern in ordered))

    def redact(self, text: str) -> str:
        """Return *text* with every known secret replaced by ``***``."""
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def redact_start(self, text: str, limit: int) -> str:
        """Return about *limit* characters of the start of *text*, redacted.

        A text of any length costs no more than its start; a secret that the cut
        would halve is cut off whole.
        """
        if len(text) <= limit:
            return self.redact(text)
        start = self.redact(text[: limit + self._longest])
        return start[: max(len(start) - self._longest, 0)]
