"""What the writer takes: items, the batch they gather in, what their callers await."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from orchestrator._storage._tx import Tx


class Flush(asyncio.Future[None]):
    """Resolved after a batch; a caller's cancellation waits for it (see above)."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002
        """Refuse: the transaction is the batch's, not this caller's."""
        return False


class Item:
    """One thing to write; kinds subclass it and say how.

    Attributes:
        result: Set by the kind; valid only once the commit is confirmed.
        error: Why this item alone was not written, None if it was.
        order: Kinds of a batch are written in this order.
        patient: Whether the item waits while the database is away.
    """

    __slots__ = ("error", "result")
    order = 0
    patient = True

    def __init__(self) -> None:
        """Start unresolved."""
        self.result: Any = None
        self.error: BaseException | None = None

    @classmethod
    async def write(cls, tx: Tx, items: Sequence[Any]) -> None:
        """Write all *items* of this kind and set their results."""
        raise NotImplementedError

    async def landed(self, tx: Tx) -> bool:
        """Whether an earlier transaction, whose answer was lost, wrote this item."""
        raise NotImplementedError


class Run(Item):
    """A rare verb: an async function of the transaction."""

    __slots__ = ("function", "verify")
    order = 10

    def __init__(
        self,
        function: Callable[[Tx], Awaitable[Any]],
        verify: Callable[[Tx], Awaitable[bool]] | None = None,
    ) -> None:
        """Write with *function*; *verify* None says that it may run twice."""
        super().__init__()
        self.function = function
        self.verify = verify

    @classmethod
    async def write(cls, tx: Tx, items: Sequence[Run]) -> None:
        """Run the functions one after the other."""
        for item in items:
            item.result = await item.function(tx)

    async def landed(self, tx: Tx) -> bool:
        """Ask the item's own question; without one, run it again."""
        return False if self.verify is None else await self.verify(tx)


class UserRun(Run):
    """A user's rare verb: fails at once while the database is away."""

    __slots__ = ()
    patient = False


class Batch:
    """The items of one transaction, and what their callers await."""

    __slots__ = ("_flushes", "items")

    def __init__(self) -> None:
        """Begin empty."""
        self.items: list[Item] = []
        self._flushes: dict[bool, Flush] = {}
        """By the items' patience."""

    def add(self, item: Item) -> Flush:
        """Take *item*; the future is resolved when the batch is done."""
        self.items.append(item)
        flush = self._flushes.get(item.patient)
        if flush is None:
            flush = self._flushes[item.patient] = Flush(loop=asyncio.get_running_loop())
        return flush

    def resolve(self) -> None:
        """Tell all callers that their items are done."""
        for flush in self._flushes.values():
            if not flush.done():
                flush.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Give *error* to all items that have none, and tell their callers."""
        for item in self.items:
            item.error = item.error or error
        self.items = []
        self.resolve()

    def fail_impatient(self, error: BaseException) -> None:
        """Give *error* to users' items, and tell their callers now."""
        for item in self.items:
            if not item.patient:
                item.error = error
        self.items = [item for item in self.items if item.patient]
        self.resolve_impatient()

    def resolve_impatient(self) -> None:
        """Tell users now; the engine's items go on waiting."""
        flush = self._flushes.pop(False, None)
        if flush is not None and not flush.done():
            flush.set_result(None)
