"""A version of this library that is not there yet: it knows one more revision.

As a command, ``python -m tests.support.future PATH KIND``, it upgrades PATH as that
version would. With ``--kill-each FOLDER`` it upgrades a copy of PATH for every
statement of the upgrade, each in a process that is killed before that statement;
the copies stay in FOLDER, 0.db to the last, which came to its end; their number is
printed. ``--step N`` takes each N-th statement.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command as _imported_before_the_fork  # noqa: F401
from sqlalchemy import event, make_url
from sqlalchemy.engine import Engine

from orchestrator._storage import _migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

FUTURE = "9002"
KINDS = {
    # What an older version can live with, and what it cannot.
    "additive": [
        "ALTER TABLE execution ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'",
        "CREATE INDEX execution_colour ON execution (colour)",
        "UPDATE execution SET colour = 'old' WHERE finished_at IS NULL",
        "CREATE TABLE shade (id INTEGER PRIMARY KEY, colour TEXT)",
    ],
    "breaking": ["ALTER TABLE timer RENAME COLUMN step TO stride"],
}
_REVISION = """
from alembic import op
revision, down_revision = "{revision}", "{head}"
def upgrade():
    for statement in {statements!r}:
        op.execute(statement)
"""


@contextmanager
def future(kind: str) -> Iterator[None]:
    """Be that version inside the block; *kind* says what its revision changes."""
    head, folder_of = _migrate.HEAD, _migrate.migrations_dir
    with tempfile.TemporaryDirectory() as folder:
        mine = Path(folder) / "migrations"
        shutil.copytree(folder_of(), mine)
        text = _REVISION.format(revision=FUTURE, head=head, statements=KINDS[kind])
        (mine / "versions" / f"{FUTURE}_future.py").write_text(text)
        _migrate.HEAD, _migrate.migrations_dir = FUTURE, lambda: mine
        try:
            yield
        finally:
            _migrate.HEAD, _migrate.migrations_dir = head, folder_of


def upgrade(path: Path, *, fatal: int = 0) -> None:
    """Upgrade *path*; be killed before statement number *fatal* (from 1)."""
    statements = count(1)

    def before(*_: object) -> None:
        if next(statements) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", before)
    _migrate.upgrade(make_url(f"sqlite:///{path}"), busy_s=15)
    event.remove(Engine, "before_cursor_execute", before)


def kill_each(path: Path, folder: Path, step: int) -> int:
    """Kill an upgrade of a copy of *path* at each *step*-th statement; return how many.

    One more is upgraded to its end.
    """
    for number, fatal in enumerate(count(1, step)):
        copy = folder / f"{number}.db"
        if path.exists():
            shutil.copy(path, copy)
        child = os.fork()
        if child == 0:
            upgrade(copy, fatal=fatal)
            os._exit(0)
        (_, status) = os.waitpid(child, 0)
        if os.WIFEXITED(status):  # there was no such statement
            return number
    raise AssertionError


def main() -> None:
    """Read the command line and upgrade."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.future")
    parser.add_argument("path", type=Path)
    parser.add_argument("kind", choices=(*KINDS, "none"))
    parser.add_argument("--kill-each", type=Path)
    parser.add_argument("--step", type=int, default=1)
    arguments = parser.parse_args()

    def run() -> None:
        if arguments.kill_each is None:
            upgrade(arguments.path)
        else:
            killed = kill_each(arguments.path, arguments.kill_each, arguments.step)
            print(killed)  # noqa: T201 - its result

    if arguments.kind == "none":
        run()
    else:
        with future(arguments.kind):
            run()


if __name__ == "__main__":
    main()
