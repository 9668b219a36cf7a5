"""A process that migrates a database, and dies before a statement if it is told to."""

from __future__ import annotations

import os
import sys

from sqlalchemy import event, make_url
from sqlalchemy.engine import Engine

from orchestrator._storage import upgrade

DIED = 42


def main(path: str, fatal: int) -> None:
    """Migrate *path*; end without a word before statement number *fatal* (from 1)."""
    count = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def _count(*_: object) -> None:
        nonlocal count
        count += 1
        if count == fatal:
            os._exit(DIED)

    print("ready", flush=True)  # noqa: T201 - the starter waits for it
    sys.stdin.readline()
    upgrade(make_url(f"sqlite:///{path}"), busy_s=15)
    print(count, flush=True)  # noqa: T201 - its result


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
