"""Ids: the one place that makes them, from a clock and a random source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from random import Random

    from orchestrator._clock import Clock

EXECUTION_ID = re.compile(r"[0-9a-f]{32}")
TOKEN = re.compile(r"o[0-9a-f]{32}-[1-9][0-9]*")


class IdFactory(Protocol):
    """Where ids come from. Handed to constructors, never global."""

    def execution_id(self) -> str:
        """Return a new UUIDv7 as 32 lower-case hex digits."""
        ...

    def node_id(self) -> str:
        """Return the identity of one start of one process."""
        ...


class Ids:
    """UUIDv7 (RFC 9562, section 5.7) from an injected clock and random source.

    Ids of one factory sort by time; within one millisecond by a counter that
    starts at a random value, so that bulk submissions keep their order.
    """

    def __init__(self, clock: Clock, rng: Random) -> None:
        """Take time from *clock* and chance from *rng*."""
        self._clock = clock
        self._rng = rng
        self._last_ms = -1
        self._counter = 0

    def execution_id(self) -> str:
        """Return a new UUIDv7 as 32 lower-case hex digits."""
        ms = max(self._clock.now_us() // 1000, self._last_ms)
        if ms == self._last_ms:
            self._counter += 1
            if self._counter >> 26:  # the counter is spent: borrow from the future
                ms, self._counter = ms + 1, 0
        else:
            self._counter = self._rng.getrandbits(25)
        self._last_ms = ms
        high, low = self._counter >> 14, self._counter & 0x3FFF
        tail = self._rng.getrandbits(48)
        bits = ms << 80 | 7 << 76 | high << 64 | 2 << 62 | low << 48 | tail
        return f"{bits:032x}"

    def node_id(self) -> str:
        """Return the identity of one start of one process: 32 hex digits."""
        return f"{self._rng.getrandbits(128):032x}"


def create_token(execution_id: str, attempt: int) -> str:
    """Return the token of one attempt: the same for a replay, new for a retry.

    Lower case, at most 44 characters: a legal BigQuery job id, label value and
    Databricks idempotency token.
    """
    return f"o{execution_id}-{attempt}"
