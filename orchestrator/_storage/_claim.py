"""Claims: taking due rows for this node, whole, inside the writer's transaction.

The rows are read and taken under ``BEGIN IMMEDIATE``, so two processes can never
both take one. They come back as one JSON value (see ``_tx``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator._records import Claimed, Timer
from orchestrator._storage._writer import Item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._storage._tx import Tx

_BLOBS = ("meta", "resolution_meta", "inputs")
_FROM_TIMER = ("due_at", "epoch")


def _expression(column: str) -> str:
    if column in ("inputs", "labels"):
        may_create = "e.phase IN ('QUEUED', 'CREATING', 'CREATE_UNKNOWN')"
        value = "hex(e.inputs)" if column == "inputs" else "nullif(e.labels, '{}')"
        return f"CASE WHEN {may_create} THEN {value} END"
    if column in _BLOBS:
        return f"CASE WHEN e.{column} IS NOT NULL THEN hex(e.{column}) END"
    return f"t.{column}" if column in _FROM_TIMER else f"e.{column}"


_WIDE = tuple(field for field in Claimed._fields if field != "timer")
_COLUMNS = ", ".join(
    [_expression(c) for c in _WIDE] + [f"t.{c}" for c in Timer._fields]
)
_BLOB_AT = tuple(_WIDE.index(c) for c in _BLOBS)
_EPOCH_AT = _WIDE.index("epoch")
_DUE_AT = _WIDE.index("due_at")

_SELECT = (
    f"SELECT json_group_array(json_array({_COLUMNS})) FROM ("
    "SELECT * FROM timer WHERE node IS NULL AND due_at <= ? AND"
    " (due_at <= ? OR task_type || ' ' || task_version IN"
    " (SELECT value FROM json_each(?)))"
    " ORDER BY due_at, execution_id LIMIT ?) t"
    " JOIN execution e ON e.id = t.execution_id"
)
_TAKE = (
    "UPDATE timer SET node = ?, epoch = epoch + 1, woken = 0"
    " WHERE execution_id IN (SELECT value FROM json_each(?)) AND node IS NULL"
)
READ_AGAIN = (
    f"SELECT json_group_array(json_array({_COLUMNS})) FROM timer t"
    " JOIN execution e ON e.id = t.execution_id"
    " WHERE t.execution_id = ? AND t.epoch = ? AND t.node = ?"
)
"""One row that this node still holds under this epoch, or nothing."""


def parse(values: list[Any], epochs: int = 0) -> Claimed:
    """Return the claimed row of one JSON array; *epochs* is added to the epoch."""
    wide, narrow = values[: len(_WIDE)], values[len(_WIDE) :]
    for at in _BLOB_AT:
        text = wide[at]
        wide[at] = None if text is None else bytes.fromhex(text)
    wide[_EPOCH_AT] += epochs
    return Claimed(*wide, Timer(*narrow))


class Claim(Item):
    """Take up to *limit* due rows; the result is a list of `Claimed`, by due time.

    Rows of task types that are not *loaded* are taken only if they were due before
    *unloaded_before*.
    """

    __slots__ = ("limit", "loaded", "node", "now", "unloaded_before")
    order = 5

    def __init__(  # noqa: PLR0913 - a claim's terms
        self,
        *,
        node: str,
        now: int,
        limit: int,
        loaded: Sequence[tuple[str, int]],
        unloaded_before: int,
    ) -> None:
        """Claim for *node* what is due at *now*."""
        super().__init__()
        self.node = node
        self.now = now
        self.limit = limit
        self.loaded = json.dumps([f"{name} {version}" for name, version in loaded])
        self.unloaded_before = unloaded_before

    @classmethod
    async def write(cls, tx: Tx, items: Sequence[Claim]) -> None:
        """Read the due rows and take them."""
        for item in items:
            rows = await tx.json(
                _SELECT, (item.now, item.unloaded_before, item.loaded, item.limit)
            )
            if rows:
                ids = json.dumps([row[0] for row in rows])
                taken = await tx.run(_TAKE, (item.node, ids))
                if taken != len(rows):  # impossible under BEGIN IMMEDIATE
                    msg = f"claimed {taken} of {len(rows)} rows"
                    raise AssertionError(msg)
            rows.sort(key=lambda row: (row[_DUE_AT], row[0]))
            item.result = [parse(row, epochs=1) for row in rows]

    async def landed(self, tx: Tx) -> bool:
        """Give back what a lost commit may have taken, then claim anew."""
        ids = [row.id for row in self.result or ()]
        await tx.run(
            "UPDATE timer SET node = NULL WHERE node = ?"
            " AND execution_id IN (SELECT value FROM json_each(?))",
            (self.node, json.dumps(ids)),
        )
        return False
