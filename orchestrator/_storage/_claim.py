"""Claims: taking due rows for this node, whole, inside the writer's transaction.

The rows are read and taken under ``BEGIN IMMEDIATE``, so two processes can never
both take one. They come back as one JSON value (see ``_tx``).
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from orchestrator._phase import MAY_CREATE, Hold
from orchestrator._records import Claimed, Timer
from orchestrator._secrets import get_logger
from orchestrator._storage._items import Item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator._storage._tx import Tx

logger = get_logger(__name__)

_BLOBS = ("meta", "inputs")
_INPUTS_MAX = 65536
_FROM_TIMER = ("due_at", "epoch")


def _expression(column: str) -> str:
    if column in ("inputs", "labels"):
        phases = ", ".join(f"'{phase}'" for phase in MAY_CREATE)
        may_create = f"e.phase IN ({phases})"
        value = "nullif(e.labels, '{}')"
        if column == "inputs":  # large ones are read one by one, before the create
            value = (
                f"CASE WHEN length(e.inputs) <= {_INPUTS_MAX} THEN hex(e.inputs) END"
            )
        return f"CASE WHEN {may_create} THEN {value} END"
    if column in _BLOBS:
        return f"CASE WHEN e.{column} IS NOT NULL THEN hex(e.{column}) END"
    return f"t.{column}" if column in _FROM_TIMER else f"e.{column}"


_WIDE = tuple(field for field in Claimed._fields if field != "timer")
_NARROW = ("execution_id", "epoch", "due_at", "woken", *Timer._fields)
_COLUMNS = ", ".join(
    [_expression(c) for c in _WIDE] + [f"t.{c}" for c in Timer._fields]
)
_BLOB_AT = tuple(_WIDE.index(c) for c in _BLOBS)
_EPOCH_AT = _WIDE.index("epoch")
_KNOWN_MAX = 5_000

_DUE = (
    "SELECT * FROM timer WHERE node IS NULL AND due_at <= ? AND"
    " (due_at <= ? OR task_type || ' ' || task_version IN"
    " (SELECT value FROM json_each(?)))"
    " ORDER BY due_at, execution_id LIMIT ?"
)
_READ = f"SELECT json_group_array(json_array({', '.join(_NARROW)})) FROM "
_SELECT = f"{_READ} ({_DUE})"
# In hex, since JSON has no room for what an id may have become.
_SELECT_IDS = f"SELECT json_group_array(hex(execution_id)) FROM ({_DUE})"
_PUT_OFF_HEX = "UPDATE timer SET due_at = ? WHERE hex(execution_id) = ?"
_SELECT_ONE = f"{_READ} timer WHERE execution_id = ?"
_SELECT_WIDE = (
    f"SELECT json_group_array(json_array({_COLUMNS})) FROM json_each(?) k"
    " JOIN timer t ON t.execution_id = k.value"
    " JOIN execution e ON e.id = k.value"
)
_TAKE = (
    "UPDATE timer SET node = ?, epoch = epoch + 1, woken = 0"
    " WHERE execution_id IN (SELECT value FROM json_each(?)) AND node IS NULL"
    # A zombie, whose lease was broken while it was paused, claims nothing.
    " AND NOT EXISTS (SELECT 1 FROM node WHERE id = ? AND ended_at IS NOT NULL)"
)
_PUT_OFF = "UPDATE timer SET due_at = ? WHERE execution_id = ?"
_MARK = f"UPDATE execution SET hold = '{Hold.POISON}' WHERE id = ?"
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
    return Claimed._make([*wide, Timer._make(narrow)])


class Known:
    """Rows as this node last left them, so that most claims read only the timer.

    A row is still as it was left if its epoch is (nobody claimed it since) and no
    wish has woken it: a wish always does.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._rows: dict[str, Claimed] = {}

    def leave(self, row: Claimed) -> None:
        """Remember *row* as released; of too many the oldest is forgotten.

        A row that is to be created again, by a retry, has dropped its inputs while
        its job ran: it is read whole.
        """
        whole = row.inputs is not None or row.phase not in MAY_CREATE
        if not whole:
            return
        if len(self._rows) >= _KNOWN_MAX:
            del self._rows[next(iter(self._rows))]
        self._rows[row.id] = row

    def take(self, execution_id: str, epoch: int, woken: int) -> Claimed | None:
        """Return and forget the row if it surely is as it was left."""
        row = self._rows.pop(execution_id, None)
        return row if row is not None and row.epoch == epoch and not woken else None


class Claim(Item):
    """Take up to *limit* due rows; the result is a list of `Claimed`, by due time.

    Rows of task types that are not *loaded* are taken only if they were due before
    *unloaded_before*.
    """

    __slots__ = (
        "hold_until",
        "known",
        "limit",
        "loaded",
        "node",
        "now",
        "unloaded_before",
    )
    order = 5

    def __init__(
        self,
        *,
        node: str,
        now: int,
        limit: int,
        loaded: Sequence[tuple[str, int]],
        unloaded_before: int,
        hold_until: int,
        known: Known,
    ) -> None:
        """Claim for *node* what is due at *now*."""
        super().__init__()
        self.node = node
        self.now = now
        self.limit = limit
        self.loaded = json.dumps([f"{name} {version}" for name, version in loaded])
        self.unloaded_before = unloaded_before
        self.hold_until = hold_until
        self.known = known

    @classmethod
    async def write(cls, tx: Tx, items: Sequence[Claim]) -> None:
        """Read the due rows and take them; one that cannot be read is put on hold."""
        for item in items:
            item.result = await cls._claim(tx, item)

    @classmethod
    async def _claim(cls, tx: Tx, item: Claim) -> list[Claimed]:
        due = (item.now, item.unloaded_before, item.loaded, item.limit)
        return await tx.take(
            lambda: cls._take(tx, item, _SELECT, due),
            lambda: tx.json(_SELECT_IDS, due),
            lambda key: cls._take(
                tx, item, _SELECT_ONE, (bytes.fromhex(key).decode(),)
            ),
            lambda key, error: cls._hold(tx, item, key, error),
        )

    @classmethod
    async def _take(
        cls, tx: Tx, item: Claim, select: str, params: Sequence[Any]
    ) -> list[Claimed]:
        """Take what *select* finds; nothing is taken if any of it cannot be read."""
        rows = await tx.json(select, params)
        if not rows:
            return []
        result = await cls._read(tx, item, rows)
        ids = json.dumps([row[0] for row in rows])
        taken = await tx.run(_TAKE, (item.node, ids, item.node))
        if taken == 0:  # the node has ended: see _TAKE
            return []
        if taken != len(rows):  # impossible under BEGIN IMMEDIATE
            msg = f"claimed {taken} of {len(rows)} rows"
            raise AssertionError(msg)
        return result

    @staticmethod
    async def _hold(tx: Tx, item: Claim, key: str, error: Exception) -> None:
        """Put the row off, and mark it, as far as it goes; *key* is its id in hex."""
        try:
            execution_id = bytes.fromhex(key).decode()
        except UnicodeDecodeError:
            logger.error("timer %s (hex) is of no execution", key)  # noqa: TRY400 - it says all
            await tx.run(_PUT_OFF_HEX, (item.hold_until, key))
            return
        logger.error(
            "row %s cannot be read, and is on hold until somebody mends it:"
            " what did other programs write to it?",
            execution_id,
            exc_info=error,
        )
        await tx.run(_PUT_OFF, (item.hold_until, execution_id))
        try:
            await tx.run(_MARK, (execution_id,))
        except sqlite3.IntegrityError as refusal:
            tx.blame_row(refusal)
            logger.warning("row %s cannot even be marked: %s", execution_id, refusal)

    @staticmethod
    async def _read(tx: Tx, item: Claim, rows: list[list[Any]]) -> list[Claimed]:
        """Return the claimed rows in order: from memory, or whole from the table."""
        found: dict[str, Claimed] = {}
        unknown = []
        for execution_id, epoch, due_at, woken, *timer in rows:
            known = item.known.take(execution_id, epoch, woken)
            if known is None:
                unknown.append(execution_id)
            else:
                found[execution_id] = known._replace(
                    epoch=epoch + 1, due_at=due_at, timer=Timer._make(timer)
                )
        if unknown:
            for wide in await tx.json(_SELECT_WIDE, (json.dumps(unknown),)):
                found[wide[0]] = parse(wide, epochs=1)
        # An index entry whose row is missing would be corruption: it is left out.
        order = [row[0] for row in rows]
        return [found[i] for i in order if i in found]

    async def landed(self, tx: Tx) -> bool:
        """Give back what a lost commit may have taken, then claim anew."""
        ids = [row.id for row in self.result or ()]
        await tx.run(
            "UPDATE timer SET node = NULL WHERE node = ?"
            " AND execution_id IN (SELECT value FROM json_each(?))",
            (self.node, json.dumps(ids)),
        )
        return False
