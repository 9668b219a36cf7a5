"""The crash worker, which also says each transition that the engine has acknowledged.

One more kind of line on standard output, ``MOVED id version``: written when the
writer tells a step that its change is committed, before the step goes on.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from orchestrator._storage._apply import Apply
from orchestrator._storage._items import Batch
from tests.crash import worker

if TYPE_CHECKING:
    from collections.abc import Callable


def say_commits() -> None:
    """From now on, say what the writer acknowledges."""
    resolve = Batch.resolve

    def resolve_and_say(batch: Batch) -> None:
        lines = [
            f"MOVED {item.row.id} {item.row.version + 1}"
            for item in batch.items
            if isinstance(item, Apply)
            and item.error is None
            and item.result
            and item.change.cause is not None
        ]
        if lines:
            worker.say("\n".join(lines))
        resolve(batch)

    _replace(Batch, "resolve", resolve_and_say)


def _replace(owner: type, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)


def set_pragma(setting: str) -> None:
    """Give every connection this *setting*, ``name=value``, whatever the store sets."""

    @event.listens_for(Pool, "checkout")
    def _checkout(connection: Any, _record: object, _proxy: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA {setting}")
        cursor.close()


def main() -> None:
    """Read this command line and leave the rest to the crash worker."""
    parser = argparse.ArgumentParser(prog="python -m tests.disk.worker", add_help=False)
    parser.add_argument("--synchronous", choices=("OFF", "NORMAL", "FULL"))
    parser.add_argument("--checkpoint", type=int, help="the WAL after so many pages")
    options, rest = parser.parse_known_args()
    say_commits()
    if options.synchronous:
        set_pragma(f"synchronous={options.synchronous}")
    if options.checkpoint is not None:
        set_pragma(f"wal_autocheckpoint={options.checkpoint}")
    sys.argv[1:] = rest
    worker.main()


if __name__ == "__main__":
    main()
