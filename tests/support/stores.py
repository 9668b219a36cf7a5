"""What tests do to a store besides its verbs: statements, dumps, rows in a phase."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from orchestrator._config import Config
from orchestrator._faults import NO_FAULTS, Faults
from orchestrator._phase import Cause, Phase
from orchestrator._storage import INVARIANTS, Store
from orchestrator._storage._items import Run
from orchestrator._storage._schema import metadata
from tests.support.factories import (
    NOW,
    TASK_TYPE,
    make_claimed,
    make_new,
    seconds,
)

if TYPE_CHECKING:
    from orchestrator._clock import Clock
    from orchestrator._records import Change, Claimed
    from orchestrator._storage._tx import Tx

NODE, OTHER = "a" * 32, "b" * 32
LOADED = [(TASK_TYPE, 0)]
CONFIG = Config(busy_timeout=seconds(0.1))

REFUSED = (sqlite3.IntegrityError, IntegrityError)
"""What the driver raises where a CHECK, a key or a trigger says no."""


def make_store(
    url: str, clock: Clock, *, config: Config = CONFIG, faults: Faults = NO_FAULTS
) -> Store:
    """Return a store that is not open yet."""
    return Store(url, config=config, clock=clock, faults=faults)


def preload(store: Store, statements: list[str]) -> None:
    """Let a memory database begin with *statements*: migrating takes a while."""

    @event.listens_for(store._engine.sync_engine, "connect")
    def _load(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for sql in statements:
            cursor.execute(sql)
        cursor.close()


async def execute(store: Store, *statements: str, **bound: Any) -> int:
    """Run statements in one transaction; return how many rows the last changed."""

    async def write(tx: Tx) -> int:
        changed = 0
        for sql in statements:
            changed = await tx.run(sql, bound or ())  # type: ignore[arg-type]
        return changed

    return int(await store.writer.write(Run(write)))


async def query(store: Store, sql: str, **bound: Any) -> list[tuple[Any, ...]]:
    """Return rows by a reader's connection."""
    [rows] = await _queries(store, sql, **bound)
    return rows


async def _queries(
    store: Store, *statements: str, **bound: Any
) -> list[list[tuple[Any, ...]]]:
    async def read(connection: Any) -> list[list[tuple[Any, ...]]]:
        results = [await connection.execute(text(sql), bound) for sql in statements]
        return [[tuple(row) for row in result] for result in results]

    return await store.read(read)


async def dump(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    names = [table.name for table in metadata.sorted_tables]
    statements = [f"SELECT * FROM {name}" for name in names]  # noqa: S608
    tables = await _queries(store, *statements)
    return {
        name: sorted(rows, key=repr) for name, rows in zip(names, tables, strict=True)
    }


async def claim(
    store: Store, node: str = NODE, *, now: int = NOW, limit: int = 100
) -> list[Claimed]:
    """Claim what is due of the loaded task type."""
    return await store.claim(node=node, limit=limit, loaded=LOADED, now=now)


async def apply(
    store: Store, row: Claimed, change: Change, *, node: str = NODE, now: int = NOW
) -> bool:
    """Apply a change and return whether the guards took it."""
    item, flushed = store.apply(row, change, node=node, now=now)
    await flushed
    if item.error is not None:
        raise item.error
    return bool(item.result)


async def make_queued(store: Store, **changes: Any) -> Claimed:
    """Submit an execution and claim it."""
    new = make_new(**changes)
    await store.submit([new], NOW)
    [row] = [r for r in await claim(store) if r.id == new.row["id"]]
    return row


async def make_row(store: Store, template: Claimed | str = Phase.RUNNING) -> Claimed:
    """Bring an execution into the state of *template*, or a phase, and claim it."""
    if isinstance(template, str):
        template = make_claimed(template)
    new = make_new(max_attempts=9)
    execution_id = new.row["id"]
    await store.submit([new], NOW)
    beside = {"id", "timer", "epoch", "due_at"}
    sets = {k: v for k, v in template._asdict().items() if k not in beside}
    moved = template.phase != Phase.QUEUED
    sets["version"] = 2 if moved else 1
    sets["labels"] = sets["labels"] or "{}"
    assignments = ", ".join(f"{column} = :{column}" for column in sets)
    timer = ", ".join(f"{column} = :t_{column}" for column in template.timer._fields)

    async def write(tx: Tx) -> None:
        bound: Any = sets | {"id_": execution_id}
        await tx.run(f"UPDATE execution SET {assignments} WHERE id = :id_", bound)  # noqa: S608
        bound = {f"t_{k}": v for k, v in template.timer._asdict().items()}
        sql = f"UPDATE timer SET {timer} WHERE execution_id = :id_"  # noqa: S608
        await tx.run(sql, bound | {"id_": execution_id})
        if moved:
            await tx.run(
                "INSERT INTO history (execution_id, version, attempt, cause,"
                " from_phase, to_phase, at, epoch) VALUES (?, 2, ?, ?, ?, ?, ?, 0)",
                (
                    execution_id,
                    template.attempt,
                    "FACTORY",
                    "QUEUED",
                    template.phase,
                    NOW,
                ),
            )
            for phase, delta in (("QUEUED", -1), (template.phase, 1)):
                await tx.run(
                    "INSERT INTO counter VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
                    " SET executions = executions + excluded.executions",
                    (TASK_TYPE, phase, delta),
                )

    await store.writer.write(Run(write))
    [row] = [r for r in await claim(store) if r.id == execution_id]
    return row


LAWS = {
    f"{law.name} {law.says}": law.query
    for law in INVARIANTS
    if law.name in ("Q1", "Q2", "Q3", "Q5", "Q8", "timer", "end", "counter", "key")
}
"""What holds also of rows that a factory has put into a phase without its history."""


async def check_store(store: Store) -> None:
    """Assert every law of the tables."""
    found = await _queries(store, *LAWS.values())
    broken = {law: rows for law, rows in zip(LAWS, found, strict=True) if rows}
    assert broken == {}


def cause_of(change: Change) -> Cause:
    """Return a change's cause, which must be there."""
    assert change.cause is not None
    return change.cause
