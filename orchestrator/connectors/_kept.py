"""Clients that are kept for the next call, by what they were made for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

C = TypeVar("C")


class Kept(Generic[C]):
    """At most so many clients; the one that was unused longest goes first.

    Safe to share between threads. A client that goes is not closed: calls that are
    under way hold on to it.
    """

    def __init__(self, kept: int) -> None:
        """Keep *kept* of them."""
        self._kept = kept
        self._clients: OrderedDict[Hashable, C] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._clients)

    def get(self, key: Hashable, make: Callable[[], C]) -> C:
        """Return the client of *key*, made outside of the lock if there is none."""
        with self._lock:
            known = self._clients.get(key)
            if known is not None:
                self._clients.move_to_end(key)
                return known
        made = make()
        with self._lock:
            client = self._clients.setdefault(key, made)
            while len(self._clients) > self._kept:
                self._clients.popitem(last=False)
        return client
