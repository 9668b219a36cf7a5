"""One process of the claim race: claims everything it can, prints what it got."""

from __future__ import annotations

import asyncio
import json
import sys

from orchestrator._clock import SystemClock
from orchestrator._config import Config
from tests.support.factories import NOW
from tests.support.stores import claim, make_store


async def main(url: str, node: str) -> None:
    """Claim ten rows, and when the starter says so again all that can be had.

    The second start lets the slowest take part, whatever else the machine does.
    """
    store = make_store(url, SystemClock(), config=Config())
    await store.open()
    print("ready", flush=True)  # noqa: T201 - the starter waits for it
    await asyncio.to_thread(sys.stdin.readline)
    taken = [(row.id, row.epoch) for row in await claim(store, node, now=NOW, limit=10)]
    print("started", flush=True)  # noqa: T201 - the starter waits for it
    await asyncio.to_thread(sys.stdin.readline)
    while rows := await claim(store, node, now=NOW, limit=10):
        taken += [(row.id, row.epoch) for row in rows]
    await store.close()
    print(json.dumps(taken), flush=True)  # noqa: T201 - its result


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
