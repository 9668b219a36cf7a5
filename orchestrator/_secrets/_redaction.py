"""Redaction: secret values are replaced in every text, however they are spelled."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from contextlib import contextmanager
from contextvars import ContextVar, Token
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

REDACTED = "***"
"""What stands in a text where a secret stood."""

_SHORTEST = 4
"""Shorter values are not redacted: they would blank out half of every message."""

_SHORTEST_CORE = 6
"""The same for the inner part of a base64 text, which is less telling."""

LARGE = 4096
"""Of longer values the raw form, its lines and base64 are searched for, character by
character: patterns of their escapes would take seconds to build, with the loop held."""


def spellings(value: str) -> set[str]:
    """Return the spellings in which services and clients quote *value*."""
    raw = value.encode("utf-8", "surrogatepass")
    forms = {value}
    if len(value) <= LARGE:
        forms |= {
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


_ESCAPE = r"(?:\\|%(?:25)*+5[cC])"
"""A backslash as it is or URL-encoded."""
_LETTERS = {"\n": "n", "\r": "r", "\t": "t"}
_ENTITIES = {"<": "lt|#60", ">": "gt|#62", '"': "quot|#34", "'": "apos|#39|#x27"}


def _spelled(value: str) -> str:
    """Return a pattern of *value* as any client escapes it, also more than once.

    In URLs, JSON, ``repr`` and HTML: a service quotes the body of a request inside a
    text inside an answer. Clients agree neither on which characters need an escape
    nor on the case of the digits. What repeats is possessive, so that no text of a
    service costs more than its length.
    """
    parts: list[str] = []
    for match in re.finditer(r"[A-Za-z0-9]+|\\+|.", value, re.DOTALL):
        word = match[0]
        if word.isascii() and word.isalnum():
            parts.append(word)
        elif word[0] == "\\":
            parts.append(f"{_ESCAPE}++")
        else:
            before = f"{_ESCAPE}*+" if parts else ""
            parts.append(f"{before}(?:{'|'.join(_ways(word, first=not parts))})")
    return "".join(parts)


def _octet(octet: int) -> str:
    """Return a pattern of one octet, URL-encoded any number of times."""
    # An encoded percent sign may not eat what encodes it once more.
    return "%25(?:25)*" if octet == ord("%") else f"%(?:25)*+{octet:02x}"


def _ways(char: str, *, first: bool) -> list[str]:
    """Return patterns of one character that is no letter or digit of ASCII."""
    octets = char.encode("utf-8", "surrogatepass")
    units = char.encode("utf-16-be", "surrogatepass").hex()
    escaped = [f"u{units[at : at + 4]}" for at in range(0, len(units), 4)]
    start = _ESCAPE if first else ""
    ways = [
        re.escape(char),
        f"(?i:{''.join(map(_octet, octets))})",
        f"(?i:{start}{f'{_ESCAPE}++'.join(escaped)})",
    ]
    if char == " ":
        ways.append(r"\+")
    if char == "&":
        ways[0] = "&(?:amp;)*+"
    if char in _ENTITIES:
        ways.append(f"&(?:amp;)*+(?:{_ENTITIES[char]});")
    if char in _LETTERS:
        # Without the backslash it is a letter like any other.
        ways.append((start or r"(?<=[\\cC])") + _LETTERS[char])
    return ways


def patterns(value: str) -> set[tuple[int, str]]:
    """Return what finds *value* in a text: patterns, with how long their text is.

    Nothing for a value that is so short that it stands everywhere.
    """
    if len(value) < _SHORTEST:
        return set()
    plain = {(len(form), re.escape(form)) for form in spellings(value)}
    if len(value) > LARGE:
        return plain
    # Backslashes at the start tell nothing; a search for them costs their square.
    core = value.lstrip("\\")
    escaped = {(len(core), _spelled(core))} if len(core) >= _SHORTEST else set()
    return plain | escaped


def _lines(value: str) -> list[str]:
    """Return the lines of a key: what prints it, prints lines."""
    if "\n" not in value:
        return []
    lines = map(str.strip, value.splitlines()[:_LINES_MAX])
    return [line for line in lines if len(line) >= _SHORTEST_LINE]


def _long(values: Iterable[str]) -> Iterator[str]:
    """Yield what of *values* is searched for: also without whitespace around it.

    A line break at the end of a variable is part of the value, and nobody quotes it.
    """
    for value in values:
        for form in dict.fromkeys((value, value.strip())):
            if len(form) >= _SHORTEST:
                yield form


_LINES_MAX = 100
_SHORTEST_LINE = 12
"""Shorter lines of a value are braces, or words that stand everywhere."""

VALUES_MAX = 1000
"""So many values that no call uses are known: each call may get a fresh one."""

_GROUP_MAX = 128
"""So many values stand in one pattern: compiling it takes about a tenth of a second."""

GROUP_CHARS_MAX = LARGE
"""... if they have no more characters than these; a longer value stands alone."""

_NEVER = r"(?!)"


class _Group(NamedTuple):
    """Values that are searched for by one pattern, but for what is large."""

    values: tuple[str, ...]
    pattern: re.Pattern[str]
    large: tuple[str, ...]

    @classmethod
    def of(cls, values: tuple[str, ...]) -> _Group:
        """Compile a pattern, longest forms first."""
        small = [value for value in values if len(value) <= LARGE]
        forms = set().union(*map(patterns, small))
        large = set().union(*(spellings(v) for v in values if len(v) > LARGE))
        for line in (line for value in values for line in _lines(value)):
            if len(line) > LARGE:
                large.add(line)
            else:
                forms.add((len(line), re.escape(line)))
        ordered = sorted(forms, key=lambda form: (-form[0], form[1]))
        pattern = "|".join(pattern for _, pattern in ordered) or _NEVER
        return cls(values, re.compile(pattern), tuple(sorted(large)))

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where *text* quotes a value."""
        for match in self.pattern.finditer(text):
            yield match.span()
        for form in self.large:
            start = text.find(form)
            while start >= 0:
                yield start, start + len(form)
                start = text.find(form, start + len(form))


class Redactor:
    """Replaces secret values in texts: those that calls use, and the last 1000.

    Raw, URL-encoded, JSON- and repr-escaped and base64 forms are replaced; of a value
    over 4096 characters the raw and base64 forms, and its first lines. Values shorter
    than 4 characters are left alone. A value that is not known yet costs the
    same however many are: it joins a small group, and groups of one size are joined.
    Safe to share between threads.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._values: dict[str, None] = {}
        """In the order of their last use."""
        self._used: dict[Use, list[str]] = {}
        """What the calls under way use: never dropped."""
        self._groups: tuple[_Group, ...] = ()
        self._longest = 0
        self._lock = threading.Lock()

    @property
    def longest(self) -> int:
        """Characters of the longest form of any value, 0 without values."""
        return self._longest

    def register(self, values: Mapping[str, str]) -> None:
        """Remember the *values* of resolved secrets; cheap if all are known."""
        with self._lock:
            self._register(values.values())

    def hold(self, use: Use, values: Iterable[str]) -> None:
        """Remember *values* at least until *use* is over."""
        with self._lock:
            long = list(_long(values))
            if long and not use.over:
                self._used.setdefault(use, []).extend(long)
            self._register(long)

    def release(self, use: Use) -> None:
        """End *use*: its values are the last that were used."""
        with self._lock:
            use.over = True
            self._register(self._used.pop(use, ()))

    def _register(self, values: Iterable[str]) -> None:
        fresh: list[str] = []
        for value in _long(values):
            if value not in self._values:
                fresh.append(value)
                # Escaped three times, which is more than services do.
                escaped = value if len(value) <= LARGE else ""
                encoded = sum(1 if c.isalnum() else 24 for c in escaped)
                self._longest = max(self._longest, encoded, *map(len, spellings(value)))
            self._values.pop(value, None)
            self._values[value] = None
        if fresh:
            self._groups = self._joined([*self._groups], tuple(dict.fromkeys(fresh)))

    def _joined(
        self, groups: list[_Group], fresh: tuple[str, ...]
    ) -> tuple[_Group, ...]:
        if len(self._values) > VALUES_MAX:
            fresh += self._thinned(groups)
        while groups and len(groups[-1].values) <= len(fresh):
            joined = groups[-1].values + fresh
            if len(joined) > _GROUP_MAX or sum(map(len, joined)) > GROUP_CHARS_MAX:
                break
            fresh = joined
            groups.pop()
        return (*groups, _Group.of(fresh))

    def _thinned(self, groups: list[_Group]) -> tuple[str, ...]:
        """Drop the oldest group that is half unused; return what is used of it."""
        used = set(islice(reversed(self._values), VALUES_MAX // 2))
        used.update(*self._used.values())
        for group in groups:
            kept = tuple(value for value in group.values if value in used)
            if 2 * len(kept) <= len(group.values):
                groups.remove(group)
                for value in group.values:
                    if value not in used:
                        del self._values[value]
                return kept
        return ()

    def redact(self, text: str) -> str:
        """Return *text* with every known secret replaced by ``***``."""
        groups = self._groups
        if not groups:
            return text
        if len(groups) == 1 and not groups[0].large:
            return groups[0].pattern.sub(REDACTED, text)
        found = sorted(span for group in groups for span in group.spans(text))
        parts: list[str] = []
        end = 0
        for start, stop in found:
            if start >= end:
                parts += (text[end:start], REDACTED)
            end = max(end, stop)
        return "".join((*parts, text[end:])) if parts else text

    def redact_start(self, text: str, limit: int) -> str:
        """Return about *limit* characters of the start of *text*, redacted.

        A text of any length costs no more than its start; a secret that the cut
        would halve is cut off whole.
        """
        if len(text) <= limit:
            return self.redact(text)
        start = self.redact(text[: limit + self._longest])
        return start[: max(len(start) - self._longest, 0)]

    def redact_end(self, text: str, limit: int) -> str:
        """Return about *limit* characters of the end of *text*; see `redact_start`."""
        if len(text) <= limit:
            return self.redact(text)
        return self.redact(text[-limit - self._longest :])[self._longest :]

    def redact_record(self, record: logging.LogRecord) -> None:
        """Replace secrets in what *record* will say; without one it stays as it is."""
        if not self.longest:
            return
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - logging itself tells of such a call
            return
        shown = self.redact(text)
        if shown != text:
            record.msg, record.args = shown, ()
        if record.exc_info:
            trace = _formatter.formatException(record.exc_info)
            shown = self.redact(trace)
            if shown != trace:
                record.exc_info, record.exc_text = None, shown


_formatter = logging.Formatter()


class Use:
    """One call's use of secrets: they are known until it is over, at least.

    As a context manager it makes its redactor the current one in the block, and in
    tasks and ``to_thread`` begun there. That does not end the use.

    Attributes:
        redactor: Who knows the values.
        over: Whether it has ended.
    """

    __slots__ = ("_token", "over", "redactor")

    def __init__(self, redactor: Redactor, values: Collection[str] = ()) -> None:
        """Use *values*."""
        self.redactor = redactor
        self.over = False
        self._token: Token[Use] | None = None
        if values:
            redactor.hold(self, values)

    def __enter__(self) -> None:
        """Make it the current one."""
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        """Make the one before it the current one again."""
        if self._token is not None:
            _current.reset(self._token)

    def end(self, _: object = None) -> None:
        """Be over; a callback of the call's future."""
        self.redactor.release(self)


_NOBODY = Use(Redactor())
_current: ContextVar[Use] = ContextVar("orchestrator_secrets", default=_NOBODY)
"""The running call's use of secrets: inherited by tasks and ``to_thread``."""


def current_redactor() -> Redactor:
    """Return the redactor of the engine that makes the running call.

    Outside of a call it is one that knows nothing. A connector that shortens what a
    service said does it with this one: half a secret is not known any more.
    """
    return _current.get().redactor


def remember_secret(value: str) -> None:
    """Treat *value*, such as a token that was got for a secret, like a secret.

    For as long as the running call goes on, and some time after. Of no effect outside
    of an engine's call.
    """
    use = _current.get()
    if use is not _NOBODY:
        use.redactor.hold(use, (value,))


@contextmanager
def redacting(redactor: Redactor) -> Iterator[None]:
    """Make *redactor* the current one in the block, and in tasks begun there."""
    use = Use(redactor)
    try:
        with use:
            yield
    finally:
        use.end()


class RedactingFilter(logging.Filter):
    """Redacts what is logged within a call of a connector: put it on your handlers.

    Message, arguments and traceback of every logger's records, a vendor's client
    included; fields given as ``extra=``, and what a thread of the client's own logs,
    are left as they are. On a logger it would not see the records of the loggers below.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact *record*, and let it pass."""
        _current.get().redactor.redact_record(record)
        return True


_filter = RedactingFilter()


def get_logger(name: str) -> logging.Logger:
    """Return a logger of this library: what it logs is redacted for every handler."""
    logger = logging.getLogger(name)
    logger.addFilter(_filter)
    return logger
