"""Is all there that was acknowledged? One rebuilt image is asked by plain SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.crash.audit import Audit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass
class Owed:
    """What the worker was told before the cut.

    Attributes:
        transitions: Execution and version; a submit is version 1.
        wishes: Executions whose abort was accepted.
        keys: Idempotency key -> execution.
    """

    transitions: set[tuple[str, int]] = field(default_factory=set)
    wishes: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)

    def note(self, line: str) -> None:
        """Take up one line of the worker."""
        match line.split(" "):
            case ["ACK", key, execution_id]:
                self.transitions.add((execution_id, 1))
                self.keys[key] = execution_id
            case ["MOVED", execution_id, version]:
                self.transitions.add((execution_id, int(version)))
            case ["WISH", execution_id]:
                self.wishes.add(execution_id)
            case _:  # READY, OPEN, GIVEN-UP, TERMINAL, DONE
                pass


@dataclass(frozen=True)
class Facts:
    """What an image holds.

    Attributes:
        damage: What SQLite's integrity check or a read complains of; empty is sound.
        broken: Histories that break a law, one line each.
        transitions: Execution and version of every row of history.
        wishes: Executions whose abort was wished, or is too late to be.
        keys: Idempotency key -> execution.
    """

    damage: str = ""
    broken: tuple[str, ...] = ()
    transitions: frozenset[tuple[str, int]] = frozenset()
    wishes: frozenset[str] = frozenset()
    keys: Mapping[str, str] = field(default_factory=dict)

    def lost(self, owed: Owed) -> list[str]:
        """Return one line for each thing that was acknowledged and is not here."""
        gone = sorted(owed.transitions - self.transitions)
        return [
            *(f"{execution_id} version {version}" for execution_id, version in gone),
            *(f"abort of {id_}" for id_ in sorted(owed.wishes - self.wishes)),
            *(
                f"key {key} of {id_}"
                for key, id_ in owed.keys.items()
                if self.keys.get(key) != id_ and (id_, 1) in self.transitions
            ),
        ]


def write_image(image: Mapping[str, bytes], folder: Path) -> None:
    """Make *folder* hold exactly the files of *image*."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in image.items():
        (folder / name).write_bytes(content)


def look(database: Path) -> Facts:
    """Return the facts of the database that SQLite recovers at *database*."""
    if not database.exists():
        return Facts()
    try:
        with closing(sqlite3.connect(database, timeout=10)) as db:
            db.execute("PRAGMA synchronous = OFF")  # it is thrown away
            damage = db.execute("PRAGMA integrity_check(5)").fetchall()
            if damage != [("ok",)]:
                return Facts(damage="; ".join(str(row[0]) for row in damage))
        audit = Audit(database)
        if not audit.ready():
            return Facts()
        broken = tuple(audit.broken_histories())
        with closing(sqlite3.connect(database)) as db:
            history = db.execute("SELECT execution_id, version FROM history")
            transitions = frozenset(history.fetchall())
            wished = db.execute(
                "SELECT id FROM execution WHERE abort_requested_at IS NOT NULL"
                " OR finished_at IS NOT NULL"
            )
            wishes = frozenset(row[0] for row in wished)
            keys = dict(db.execute("SELECT key, execution_id FROM idempotency_key"))
    except sqlite3.DatabaseError as error:
        return Facts(damage=f"{type(error).__name__}: {error}")
    return Facts("", broken, transitions, wishes, keys)
