"""Secrets during the checks: given values, and searched for in all that stays."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from orchestrator._secrets import RedactingFilter, patterns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from random import Random

    from orchestrator._secrets import SecretReference

_FILE = "a file of the database"
_ECHOES = ("aiosqlite", "sqlalchemy", "asyncio")
"""Loggers that say at DEBUG what is searched anyway: the rows."""


@contextmanager
def secrets_set(
    references: Mapping[str, SecretReference], rng: Random
) -> Iterator[dict[str, str]]:
    """Yield the value of each secret, by keyword.

    A variable of the environment that has a value keeps it, since the service wants
    the real one; the others get a canary for as long as the context is open.
    """
    names = {keyword: secret.variable for keyword, secret in references.items()}
    invented = [name for name in names.values() if name not in os.environ]
    for name in invented:
        os.environ[name] = f"canary/{rng.getrandbits(96):024x}+%&"
    try:
        yield {keyword: os.environ[name] for keyword, name in names.items()}
    finally:
        for name in invented:
            os.environ.pop(name, None)


class Logs(logging.Handler):
    """Keeps what is logged, from DEBUG on, while its context is open.

    As a program's own handler has it that carries a `RedactingFilter`. Handlers that
    are there go on with what they would have got without it.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        super().__init__()
        self.addFilter(RedactingFilter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep *record* as text, with its traceback."""
        if record.name.startswith(_ECHOES):
            return
        self.lines.append(f"{record.name}: {self.format(record)}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Listen."""
        root = logging.getLogger()
        level, others = root.level, list(root.handlers)
        levels = [handler.level for handler in others]
        for handler in others:
            handler.setLevel(max(handler.level, level))
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            root.setLevel(level)
            root.removeHandler(self)
            for handler, before in zip(others, levels, strict=True):
                handler.setLevel(before)


def leaks(values: Mapping[str, str], folder: Path, logs: Logs) -> list[str]:
    """Return where a secret's value was found: keyword and place, never the value.

    Raw, URL-encoded, JSON-escaped and base64, in every row and file of the databases
    below *folder* and in the *logs*. Values of less than 4 characters are not
    searched for.
    """
    forms = {
        keyword: re.compile("|".join(pattern for _, pattern in patterns(value)))
        for keyword, value in values.items()
        if patterns(value)
    }
    found: dict[str, set[str]] = {}
    for place, text in _places(folder, logs):
        for keyword, pattern in forms.items():
            if pattern.search(text):
                found.setdefault(keyword, set()).add(place)
    for places in found.values():
        if len(places) > 1:
            places.discard(_FILE)  # a row of it says more
    return sorted(f"{k} in {place}" for k, places in found.items() for place in places)


def _places(folder: Path, logs: Logs) -> Iterator[tuple[str, str]]:
    for line in logs.lines:
        yield f"a line of the log of {line.partition(':')[0]}", line
    for path in sorted(folder.glob("*.db")):
        yield from _rows(path)
    for path in sorted(folder.glob("*.db*")):
        yield _FILE, path.read_bytes().decode(errors="replace")


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            rows = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - ours
            columns = [column[0] for column in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    stored = isinstance(value, bytes)
                    text = value.decode(errors="replace") if stored else str(value)
                    yield f"column {table}.{column}", text
