"""Texts from services, made fit for rows, terminals and pages: bounded and harmless."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE_MAX = 4000
LINKS_MAX = 100
INFO_MAX = 65536

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
    return text if len(text) <= limit else f"{text[: limit - 12]} … [shortened]"


def links_json(links: list[dict[str, str]]) -> str:
    """Return log links as JSON text; of too many the first are kept."""
    kept = [
        {"name": clean(link["name"], 200), "uri": clean(link["uri"], 2000)}
        for link in links[:LINKS_MAX]
    ]
    return json.dumps(kept, ensure_ascii=False)


def info_json(info: Mapping[str, Any]) -> str:
    """Return a job's details as JSON text; what cannot be shown says so instead."""
    try:
        text = json.dumps(info, ensure_ascii=False, allow_nan=False, default=str)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        return json.dumps({"problem": f"custom_info is no JSON: {clean(str(error))}"})
    if len(text) > INFO_MAX:
        problem = f"custom_info has {len(text)} characters, {INFO_MAX} are kept"
        return json.dumps({"problem": problem})
    return text
