"""Rows that somebody's tool has spoiled, shown with what can still be read of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, LargeBinary, cast

from orchestrator._clock import to_datetime
from orchestrator._phase import Cleanup, Hold, Phase, RemotePhase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Row

_WORDS: dict[str, tuple[type[str], str | None]] = {
    "phase": (Phase, Phase.QUEUED),
    "remote_phase": (RemotePhase, None),
    "cleanup": (Cleanup, Cleanup.NONE),
}
_JSON: dict[str, tuple[type[Any], str | None]] = {
    "inputs_json": (dict, "{}"),
    "outputs_json": (dict, None),
    "labels": (dict, "{}"),
    "log_links": (list, None),
    "custom_info": (object, None),
}


def is_sound(row: Row[Any], columns: Sequence[ColumnElement[Any]]) -> bool:
    """Whether every value of *row* is of its column's type: SQLite keeps any."""
    for value, column in zip(row, columns, strict=True):
        if value is None:
            continue
        kind = column.type
        wanted = (
            int
            if isinstance(kind, Integer)
            else bytes
            if isinstance(kind, LargeBinary)
            else str
        )
        if type(value) is not wanted:
            return False
    return True


def raw(columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Return *columns* as a query can read them whatever they hold: as bytes."""
    return [cast(column, LargeBinary).label(column.key) for column in columns]


def mended(row: Row[Any], columns: Sequence[ColumnElement[Any]]) -> SimpleNamespace:
    """Return the `raw` *row* with stand-ins for what cannot be read, which it names."""
    values: dict[str, Any] = {}
    spoiled: list[str] = []
    for data, column in zip(row, columns, strict=True):
        name = str(column.key)
        try:
            values[name] = _value(name, data, column)
        except (ValueError, TypeError, OverflowError, RecursionError):
            spoiled.append(name)
            values[name] = _stand_in(name, data, column)
    if spoiled:
        problem = f"cannot be read: {', '.join(spoiled)}"
        values |= {"hold": Hold.POISON, "last_error": problem, "cleanup_error": problem}
    return SimpleNamespace(**values)


def _value(name: str, data: bytes | None, column: ColumnElement[Any]) -> Any:
    if data is None:
        if name in _WORDS and _WORDS[name][1] is not None:
            raise ValueError(name)
        return None
    if isinstance(column.type, LargeBinary):
        return data
    text = data.decode()
    if isinstance(column.type, Integer):
        number = int(text)
        if name.endswith("_at"):
            to_datetime(number)
        return number
    if name in _WORDS:
        return _WORDS[name][0](text)
    if name in _JSON and not isinstance(json.loads(text), _JSON[name][0]):
        raise TypeError(name)
    return text


def _stand_in(name: str, data: bytes | None, column: ColumnElement[Any]) -> Any:
    if name in _WORDS:
        return _WORDS[name][1]
    if name in _JSON:
        return _JSON[name][1]
    if isinstance(column.type, Integer):
        return 0
    return (data or b"").decode(errors="replace")
