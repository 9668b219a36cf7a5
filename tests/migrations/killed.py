"""The first migration, killed: ``python -m tests.migrations.killed``.

A SIGKILL before each statement, each in a process of its own, on a new file. What it
leaves has nothing of ours, and the next start completes it to the same schema. Exits
with 1 if one does not.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.jobserver.launch import ROOT
from tests.support import future


@dataclass
class Found:
    """What the kills left.

    Attributes:
        killed: Processes killed, each before another statement.
        empty: Files with no table, index, trigger or view.
        completed: Files that a rerun brought to the schema of an upgrade in peace.
    """

    killed: int = 0
    empty: int = 0
    completed: int = 0


def first_migration(folder: Path, *, step: int) -> Found:
    """Kill at each *step*-th statement, in *folder*; look, and run it again."""
    command = ["--kill-each", str(folder), "--step", str(step)]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.support.future",
            folder / "none",
            "none",
            *command,
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = Found(killed=int(done.stdout))
    whole = _schema(folder / f"{found.killed}.db")
    for number in range(found.killed):
        path = folder / f"{number}.db"
        found.empty += not _schema(path)
        future.upgrade(path)
        found.completed += bool(whole) and _schema(path) == whole
    return found


def _schema(path: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return set(db.execute("SELECT name, sql FROM sqlite_master").fetchall())


def main() -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.migrations.killed")
    parser.add_argument("--step", type=int, default=1, help="each N-th statement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        found = first_migration(Path(folder), step=options.step)
    sys.stdout.write(
        f"statements, a SIGKILL before each  {found.killed}\n"
        f"left nothing of ours               {found.empty}\n"
        f"completed by the next start        {found.completed}\n"
    )
    return int(not found.killed == found.empty == found.completed)


if __name__ == "__main__":
    sys.exit(main())
