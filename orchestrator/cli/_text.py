"""What is printed: tables, lines and JSON, without anything that steers a terminal.

Names, labels, inputs and outputs are users' data, and may hold anything. In lines
and tables harmful characters are replaced, in JSON they are escaped, so that a
program reads back exactly what is stored.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# All controls, bidirectional marks and overrides, line separators, lone surrogates.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_HIDDEN = frozenset({"outputs_proto"})


def one_line(text: str) -> str:
    """Return *text* as one harmless line."""
    if text.isascii() and text.isprintable():
        return text
    from orchestrator._engine import clean  # noqa: PLC0415 - costs what a database does

    return _HARMFUL.sub("\ufffd", " ".join(clean(text).split()))


def to_json(value: object, *, indent: int | None = 2) -> str:
    """Return *value* as JSON text that is harmless on a terminal."""
    text = json.dumps(value, ensure_ascii=False, default=_jsonable, indent=indent)
    if text.isascii() and text.isprintable():
        return text

    def escape(match: re.Match[str]) -> str:
        return f"\\u{ord(match.group()):04x}"

    # Of those characters only the line breaks of the indentation stand outside of
    # strings; inside, json has escaped them already.
    return "\n".join(_HARMFUL.sub(escape, line) for line in text.split("\n"))


def print_json(value: object) -> None:
    """Print *value* as JSON."""
    print(to_json(value))


def record(item: Any) -> dict[str, Any]:
    """Return a public record, such as an Execution, as a JSON-able dict."""
    return {
        field.name: _plain(getattr(item, field.name))
        for field in dataclasses.fields(item)
        if field.name not in _HIDDEN
    }


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return _stored(value)
    if isinstance(value, datetime):
        return iso(value)
    return value


def _stored(data: bytes) -> object:
    """Return a stored resource meta: JSON if it is any, else base64."""
    try:
        return json.loads(data)
    except ValueError:
        return {"base64": base64.b64encode(data).decode()}


def _jsonable(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def iso(moment: datetime) -> str:
    """Return *moment* with microseconds and Z, as the audit views show it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def short(moment: datetime | None) -> str:
    """Return *moment* to the second, in UTC."""
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def cut_ids(ids: Sequence[str]) -> list[str]:
    """Return *ids*, cut to one length that tells them apart, 12 or more characters.

    The first 12 are the millisecond of the submission.
    """
    length = 12
    while len({i[:length] for i in ids}) < len(set(ids)):
        length += 1
    return [i[:length] for i in ids]


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; on a terminal the last one is cut to its width."""
    table = [[one_line("" if c is None else str(c)) for c in row] for row in rows]
    widths = [
        max(_width(cell) for cell in column)
        for column in zip(heads, *table, strict=True)
    ]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in ([*heads], *table):
        cells = [
            cell + " " * (width - _width(cell))
            for cell, width in zip(row, widths, strict=True)
        ]
        print(_cut("  ".join(cells).rstrip(), room))


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print ``name  value`` lines; what is None or empty is left out."""
    shown = [(k, v) for k, v in fields if v is not None and v not in ("", (), [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        if isinstance(value, datetime):
            text = iso(value)
        elif isinstance(value, (Mapping, list, tuple, bytes)):
            text = to_json(_plain(value), indent=None)
        else:
            text = one_line(str(value))
        print(f"{name:<{width}}  {text}")


def _width(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def _cut(text: str, room: int | None) -> str:
    if room is None or _width(text) <= room:
        return text
    while _width(text) >= room:
        text = text[:-1]
    return text + "…"
