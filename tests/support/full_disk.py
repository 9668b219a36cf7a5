"""A process whose disk is full after a while: what it was told, it prints."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from orchestrator._clock import SystemClock
from orchestrator.errors import StoreUnavailableError
from tests.support.factories import NOW, make_new
from tests.support.stores import claim, make_store

ROOM_BYTES = 200_000


def _leave_room(path: str, size: int) -> None:
    _limit(Path(path).stat().st_size + size)


def _limit(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


async def main(url: str) -> None:
    """Submit until the disk is full, again when there is room, and tell all of it."""
    store = make_store(url, SystemClock())
    await store.open()
    await store.submit(news := [make_new()], NOW)
    _leave_room(f"{store.path}-wal", ROOM_BYTES)
    stored = [new.row["id"] for new in news]
    error = ""
    while not error:
        news = [make_new(inputs=b"x" * 5000) for _ in range(3)]
        try:
            await store.submit(news, NOW)
        except StoreUnavailableError as refusal:
            error = str(refusal)
        else:
            stored += [new.row["id"] for new in news]
    refused = [new.row["id"] for new in news]
    waiting = asyncio.create_task(claim(store, limit=10_000))
    readable = await store.get(stored[0]) is not None
    _limit(resource.RLIM_INFINITY)
    claimed = len(await waiting)
    await store.submit(more := [make_new()], NOW)
    await store.close()
    stored += [new.row["id"] for new in more]
    facts = {"stored": stored, "refused": refused, "error": error}
    print(json.dumps(facts | {"readable": readable, "claimed": claimed}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
