"""Text for humans: one clean, short line from whatever a program printed."""

from __future__ import annotations

import re
import unicodedata

from orchestrator._secrets import current_redactor

MESSAGE_LENGTH_MAX = 300
ERROR_LENGTH_MAX = 1000

# Terminal sequences: CSI (colours, cursor), OSC (titles, links), two-byte escapes.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -~]?"
)


def clean(text: str) -> str:
    """Return *text* without terminal sequences, controls and invisible characters.

    Tabs become spaces; direction overrides and other format characters go too, as
    they let a line look like another one.
    """
    text = _ESCAPES.sub("", text).replace("\t", " ")
    return "".join(c for c in text if unicodedata.category(c)[0] != "C")


def shorten(text: str, length: int) -> str:
    """Return the end of *text*, at most *length* characters, in which no secret is cut.

    The command has its secrets, and prints what it likes.
    """
    if len(text) <= length:
        return text
    end = current_redactor().redact_end(text, length)
    return "…" + end[1 - length :]


def lines_of(data: bytes) -> list[str]:
    """Return the clean, non-empty lines that a terminal would be showing.

    Of a line that a program redraws with carriage returns, the last state counts.
    """
    text = data.decode("utf-8", "replace")
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return [line for line in (clean(raw).strip() for raw in shown) if line]


def last_line(data: bytes) -> str | None:
    """Return the last clean, non-empty line, None if there is none."""
    lines = lines_of(data)
    return shorten(lines[-1], MESSAGE_LENGTH_MAX) if lines else None


def last_words(data: bytes) -> str:
    """Return the end of what a program complained about, on one line."""
    return shorten(" | ".join(lines_of(data)[-8:]), ERROR_LENGTH_MAX)
