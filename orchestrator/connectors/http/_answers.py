"""What an answer means: its status, its Retry-After, and values in its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from orchestrator._clock import to_us
from orchestrator._secrets import current_redactor
from orchestrator.connectors.http._client import Answer, NonsenseError
from orchestrator.connectors.http._extra import need
from orchestrator.connectors.http._fields import HEADER_SOURCE, LAST, TYPES
from orchestrator.errors import (
    AuthError,
    ConnectorError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from orchestrator.io import DataFrame, Dir, File

if TYPE_CHECKING:
    from collections.abc import Collection

    from orchestrator._clock import Clock

OK_MIN, REDIRECT_MIN, ERROR_MIN, UNAVAILABLE_MIN = 200, 300, 400, 500
UNAUTHORIZED, FORBIDDEN, CONFLICT, THROTTLED, UNAVAILABLE = 401, 403, 409, 429, 503
_SAID_MAX = 300
_ID_MAX = 2000
_NAMES_MAX = 10
_TEMPORARY = frozenset({408, 425})


class OutcomeUnknownError(Exception):
    """A submit was answered, and the answer does not prove that no job was made."""


def is_ok(answer: Answer) -> bool:
    """Tell whether the service did what it was asked."""
    return OK_MIN <= answer.status < REDIRECT_MIN


def retry_after(
    headers: Mapping[str, str], clock: Clock, longest_s: float = 86_400.0
) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, None if it asks for nothing.

    Seconds or an HTTP date; what is past is 0, what is no such thing is None.
    """
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = _seconds_until(parsedate_to_datetime(text), clock)
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), longest_s) if seconds == seconds else None  # noqa: PLR0124 - NaN


def _seconds_until(moment: datetime, clock: Clock) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (to_us(moment) - clock.now_us()) / 1e6


def refused_submit(
    answer: Answer, said: str, not_created: Collection[int], wait_s: float | None
) -> Exception:
    """Return what a refused submit raises: a steering error only where it is proof."""
    status = answer.status
    if status not in not_created:
        return OutcomeUnknownError(
            f"submit: {said}: nobody knows whether it made a job"
        )
    if status in (UNAUTHORIZED, FORBIDDEN):
        return AuthError(f"submit: {said}")
    if status == THROTTLED:
        return ThrottledError(f"submit: {said}", retry_after=wait_s)
    if status >= UNAVAILABLE_MIN or status in _TEMPORARY:
        return TransientError(f"submit: {said}", retry_after=wait_s)
    return PermanentError(f"submit: {said}")


def refused(
    what: str, answer: Answer, said: str, gone: Collection[int], wait_s: float | None
) -> ConnectorError:
    """Return what a refused look, cancel or search raises."""
    text = f"{what}: {said}"
    if answer.status in gone:
        return ResourceGoneError(text)
    if answer.status in (UNAUTHORIZED, FORBIDDEN):
        return AuthError(text)
    if answer.status == THROTTLED:
        return ThrottledError(text, retry_after=wait_s)
    # Also what looks like our own mistake: a definition can be mended, a job that is
    # given up for it cannot.
    return TransientError(text, retry_after=wait_s)


async def said_by(answer: Answer, error_path: str | None) -> str:
    """Return the status, and in short what the service says to it."""
    if REDIRECT_MIN <= answer.status < ERROR_MIN:
        return f"{answer.status}, a redirect that is not followed (see redirects)"
    words: Any = None
    if error_path is not None:
        with suppress(NonsenseError):
            words = search(error_path, await answer.document())
    redactor = current_redactor()  # before it is cut, as half a secret is none
    if words is None:
        longest = _SAID_MAX * 4 + redactor.longest * 8
        words = answer.body[:longest].decode("utf-8", "replace")
    said = redactor.redact_start(as_words(words), _SAID_MAX)
    return f"{answer.status} {said}".strip()


@lru_cache(maxsize=1000)
def _compiled(path: str) -> Any:
    return need("jmespath").compile(path)


def search(path: str, document: Any) -> Any:
    """Return what a JMESPath finds, None for nothing.

    Raises:
        NonsenseError: A function in it does not take what it was given.
    """
    errors = need("jmespath").exceptions.JMESPathError
    try:
        return _compiled(path).search(document)
    except (errors, RecursionError) as error:
        raise NonsenseError(f"{path}: {error}") from None


def finds_nothing(path: str, document: Any) -> str:
    """Return that *path* does not find what it should, and what there is: no values."""
    if isinstance(document, Mapping):
        names = [*map(str, islice(document, _NAMES_MAX))]
        more = ", ..." if len(document) > len(names) else ""
        kept = current_redactor().redact_start(", ".join(names), _SAID_MAX)
        there = f"has {kept}{more}" if names else "is empty"
    else:
        there = "is empty" if document is None else f"is a {type(document).__name__}"
    return f"{path!r} finds nothing in the answer, which {there}"


@dataclass(frozen=True)
class Told:
    """What a service said of one job when it was asked by *request*.

    Attributes:
        request: The definition's name for it.
        document: The JSON, or the part of it that is about the job.
        headers: Of the answer.
    """

    request: str
    document: Any
    headers: Mapping[str, str]

    def id_at(self, field: str, source: str) -> str:
        """Return the id (or URL) where the definition's *field* says that it is.

        Raises:
            NonsenseError: There is none; the field and its path are named.
        """
        header = source.startswith(HEADER_SOURCE)
        value = self._header(source) if header else search(source, self.document)
        found = as_id(value)
        if found is None:
            seen = self.headers if header else self.document
            raise NonsenseError(
                f"{self.request}.{field}: {finds_nothing(source, seen)}"
            )
        return found

    def _header(self, source: str) -> str | None:
        value = self.headers.get(source.removeprefix(HEADER_SOURCE).removesuffix(LAST))
        if value is None or not source.endswith(LAST):
            return value
        return unquote(urlsplit(value).path.rstrip("/").rpartition("/")[2])


def as_id(value: Any) -> str | None:
    """Return a job's id as text, None for what is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and 0 < len(value) <= _ID_MAX:
        return value
    return None


def as_words(value: Any) -> str:
    """Return a value of an answer as text for humans, or as a state's name."""
    return value if isinstance(value, str) else json.dumps(value)


def as_output(type_name: str, value: Any) -> Any:
    """Return an output as its native value; one that does not fit stays as it is.

    The engine refuses it then, and names the output.
    """
    if type_name in ("file", "dir", "dataframe"):
        kind = {"file": File, "dir": Dir, "dataframe": DataFrame}[type_name]
        if isinstance(value, str):
            return kind(value)
        known = isinstance(value, dict) and {"uri"} <= set(value) <= {"uri", "format"}
        return kind(**value) if known else value
    if type_name in ("datetime", "date", "duration"):
        try:
            return TypeAdapter(TYPES[type_name]).validate_python(value)
        except ValidationError:
            return value
    return value
