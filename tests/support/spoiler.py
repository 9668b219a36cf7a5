"""Somebody's tool that writes garbage into the tables, past every check."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

UNMENDED = {"the lease epoch never goes back", "a terminal row never changes"}
"""Why a value cannot be taken back: it is what the triggers are for."""


class Spoiler:
    """Writes garbage past every check, and takes it back."""

    def __init__(self, path: Path) -> None:
        """Open *path* as somebody's tool would."""
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA ignore_check_constraints = ON")
        self._db.execute("PRAGMA synchronous = OFF")
        self._undo: list[tuple[str, tuple[Any, ...]]] = []
        self.refused: set[tuple[str, str]] = set()

    def close(self) -> None:
        """Close."""
        self._db.close()

    def run(self, sql: str, *bound: Any) -> list[Any]:
        """Run one statement."""
        return self._db.execute(sql, bound).fetchall()

    def spoil(self, table: str, key: str, row: str, column: str, value: str) -> bool:
        """Put *value* in; False if the database refuses it, and says why."""
        [(kept,)] = self.run(f"SELECT {column} FROM {table} WHERE {key} = ?", row)  # noqa: S608
        try:
            self.run(f"UPDATE {table} SET {column} = {value} WHERE {key} = ?", row)  # noqa: S608
        except sqlite3.IntegrityError as error:
            self.refused.add((column, str(error).partition(":")[0]))
            return False
        if column == key:
            undo = f"UPDATE {table} SET {key} = ? WHERE hex({key}) = hex({value})"  # noqa: S608
            self._undo.append((undo, (kept,)))
        else:
            undo = f"UPDATE {table} SET {column} = ? WHERE {key} = ?"  # noqa: S608
            self._undo.append((undo, (kept, row)))
        return True

    def mend(self) -> None:
        """Take everything back that a trigger lets through."""
        for sql, bound in self._undo:
            try:
                self.run(sql, *bound)
            except sqlite3.IntegrityError as error:
                assert str(error) in UNMENDED  # noqa: PT017 - one of many
