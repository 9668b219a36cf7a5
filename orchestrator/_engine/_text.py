"""Texts from services, made fit for rows, terminals and pages: bounded and harmless."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any

from orchestrator._codec import exceeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MESSAGE_MAX = 4000
LINKS_MAX = 100
INFO_MAX = 65536
INFO_DEPTH_MAX = 100
_ERROR_MAX = 1_000_000
_CUT = " … [shortened]"

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
# Controls but tab and newline; bidirectional overrides; lone surrogates.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean(text: str, limit: int = MESSAGE_MAX) -> str:
    """Return *text* without control sequences, at most *limit* characters long.

    The start is kept, as it names the error; what is cut is said.
    """
    if text.isascii() and text.isprintable() and len(text) <= limit:
        return text
    text = text[: limit * 4]
    text = _HARMFUL.sub("\ufffd", _ANSI.sub("", text))
    text = unicodedata.normalize("NFC", text)
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT


def describe(error: BaseException) -> str:
    """Return an error's kind and text; a hostile ``__str__`` harms nobody."""
    name = type(error).__name__
    try:
        # Far beyond what is kept: the rest of a text without end is never copied.
        text = str(error)[:_ERROR_MAX]
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it raises
        text = "(its text cannot be read)"
    return f"{name}: {text}" if text else name


def links_shown(
    links: Iterable[Mapping[str, str]], say: Callable[[str, int], str]
) -> list[dict[str, str]]:
    """Return the first log links, each part as *say* makes it fit to be shown.

    *say* gets a text and the most characters of it that are kept.
    """
    return [
        {"name": say(link["name"], 200), "uri": say(link["uri"], 2000)}
        for link in links
    ]


def info_json(info: Mapping[str, Any], redact: Callable[[str], str]) -> str:
    """Return a job's details as JSON text; what cannot be shown says so instead."""
    if exceeds(info, INFO_MAX, depth_max=INFO_DEPTH_MAX):
        return _problem(
            f"has more than {INFO_MAX} characters or {INFO_DEPTH_MAX} levels"
        )
    try:
        text = json.dumps(info, ensure_ascii=False, allow_nan=False, default=str)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        return _problem(f"is no JSON: {clean(redact(str(error)))}")
    if len(text) > INFO_MAX:
        return _problem(f"has {len(text)} characters, {INFO_MAX} are kept")
    shown = redact(text)
    if shown != text:
        try:
            json.loads(shown)
        except ValueError:  # the secret was no string, or reached beyond one
            return _problem("holds a secret")
    return shown


def _problem(what: str) -> str:
    return json.dumps({"problem": f"custom_info {what}"}, ensure_ascii=False)
