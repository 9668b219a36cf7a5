"""Secrets in a campaign: what a service quotes of them, and the search for it (P7).

Every life of a worker has a canary of its own as the value of its tasks' secret, and
a service that quotes it: as it is, URL-encoded, in JSON, in base64. Afterwards it is
looked for in every byte that the worker left behind. The search does not ask the
redaction for its spellings: it knows a canary by a head and a tail that no encoding
changes, and by what base64 makes of them.
"""

from __future__ import annotations

import base64
import json
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from orchestrator._secrets import Redactor, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

KEYWORD = "api_key"
VARIABLE = "CRASH_CANARY"
SECRET = Secret(key=KEYWORD, as_env_var=VARIABLE)
"""The reference that the tasks carry."""

HEAD, TAIL = "c4naryHeadQx7", "c4naryTailZw9"
_SIGNED = {"a signed token": "eyJhbGciOi", "Google's signed token": "eyJ0eXAiOi"}
"""How the tokens begin that a vendor's client signs with a key: nobody else has any."""
SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda value: f"https://service/v1?key={quote(value, safe='')}&page=2",
    lambda value: f"key={quote_plus(value)}",
    lambda value: json.dumps({"key": value}),
    lambda value: base64.b64encode(value.encode()).decode(),
    lambda value: f"Basic {base64.b64encode(f'user:{value}'.encode()).decode()}",
    lambda value: base64.urlsafe_b64encode(f"me:{value}:".encode()).decode(),
)


def canary(seed: str) -> str:
    """Return a secret's value, with characters that every encoding changes."""
    return f"{HEAD}/+ %&=\"{Random(seed).getrandbits(64):016x}~?'{TAIL}"


class Indiscreet:
    """A service that quotes the credentials of a call in what it says, mostly."""

    def __init__(self, quoted: Callable[[], object]) -> None:
        """Call *quoted* each time."""
        self._quoted = quoted
        self._ways = cycle((None, *SPELLINGS))

    def __call__(self, text: str, given: Mapping[str, Any]) -> str:
        """Return *text* with what the call was *given* as its secret."""
        way = next(self._ways)
        if way is None:
            return text
        self._quoted()
        return f"{text} (called with {way(given[KEYWORD])})"


def _needles() -> dict[str, bytes]:
    found = {}
    parts = {"its head": HEAD, "its tail": TAIL, **_SIGNED}
    for name, part in parts.items():
        found[name] = part.encode()
        for offset in range(3):
            # Only the characters that no neighbour has a share in.
            encoded = base64.b64encode(b"\0" * offset + part.encode())
            start, stop = (0, 2, 3)[offset], (offset + len(part)) * 8 // 6
            found[f"{name} in base64, at {offset}"] = encoded[start:stop]
    return found


_NEEDLES = _needles()


def traces(where: str, content: bytes) -> list[str]:
    """Return one line per form of any canary that *content* has."""
    return [
        f"a canary, {what}, in {where}" for what, n in _NEEDLES.items() if n in content
    ]


def traces_in(files: Iterable[Path]) -> list[str]:
    """Return the same for *files*; one that is gone meanwhile has nothing."""
    found = []
    for path in files:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        kind = "a lock file" if path.suffix == ".lock" else path.name
        found += traces(kind, content)
    return found


def redact_nothing(put: Callable[[object, str, object], None] = setattr) -> None:
    """Switch this process's redaction off by *put*, to see what is found then."""

    def as_it_is(_self: Redactor, text: str, _limit: int = 0) -> str:
        return text

    for name in ("redact", "redact_start"):
        put(Redactor, name, as_it_is)
