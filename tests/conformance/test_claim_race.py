"""Four processes on one database: each row is claimed by exactly one of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.factories import NOW, make_new
from tests.support.stores import query

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator._storage import Store

PROCESSES, ROWS = 4, 400


def _race(url: str) -> list[list[tuple[str, int]]]:
    """Return what each process claimed, as (id, epoch), all started at once."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.race", url, f"{n}" * 32],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for n in range(PROCESSES)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"ready\n"
    for said in (b"started\n", None):
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(b"go\n")
            racer.stdin.flush()
        for racer in racers if said else ():
            assert racer.stdout is not None
            assert racer.stdout.readline() == said
    taken = [json.loads(racer.communicate()[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * PROCESSES
    return taken


async def test_four_processes_share_400_rows_without_a_double_claim(
    open_store: Callable[[], Store], shared_url: str
) -> None:
    store = open_store()
    await store.open()
    news = [make_new() for _ in range(ROWS)]
    await store.submit(news, NOW)
    taken = await asyncio.to_thread(_race, shared_url)
    ids = [execution_id for mine in taken for execution_id, _ in mine]
    assert len(ids) == ROWS
    assert set(ids) == {new.row["id"] for new in news}
    assert {epoch for mine in taken for _, epoch in mine} == {1}
    assert all(taken), "they did race"
    held = await query(store, "SELECT node, count(*) FROM timer GROUP BY 1")
    assert dict(held) == {
        f"{n}" * 32: len(mine) for n, mine in enumerate(taken) if mine
    }
