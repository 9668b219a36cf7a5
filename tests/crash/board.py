"""A shared page that outlives its writer: what was it doing when it was killed?

The worker maps the file and counts in it; the parent reads it after the kill. One
word per place that a kill can land in, then one per named point.
"""

from __future__ import annotations

import mmap
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PLACES = ("create", "get", "delete", "find", "commit")
"""Calls in flight by verb, and whether the writer's transaction is open."""

CUT_OFF = "commits cut off"
"""Counts commits that the worker's driver answered with an error, done or not."""

QUOTED = "secrets quoted"
"""Counts texts in which the service quoted the secret of a call."""

READ_BACK = ("transitions read back, done", "transitions read back, not done")
"""Counts what the writer found out about a commit that was cut off."""

MISREAD = "transitions misread"
"""Counts those of them for which the driver's truth was another."""

_COUNTERS = (*PLACES, CUT_OFF, QUOTED, *READ_BACK, MISREAD)
_WORD = struct.calcsize("I")


class Board:
    """The writer's side."""

    def __init__(self, path: Path, points: Sequence[str]) -> None:
        """Create the page at *path* with a counter for each of *points*."""
        names = (*_COUNTERS, *points)
        self._index = {name: index for index, name in enumerate(names)}
        path.write_bytes(bytes(_WORD * len(names)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map).cast("I")

    def reached(self, point: str) -> int:
        """Count a named point; return how often it was reached, 0 if unknown."""
        index = self._index.get(point)
        if index is None:
            return 0
        self._words[index] += 1
        return int(self._words[index])

    def set(self, place: str, value: int) -> None:
        """Say what is going on in *place*."""
        self._words[self._index[place]] = value

    @contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """Count one more in *place* for the time of the block."""
        index = self._index[place]
        self._words[index] += 1
        try:
            yield
        finally:
            self._words[index] -= 1

    def close(self) -> None:
        """Unmap the page; the file stays."""
        self._words.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Reading:
    """What the parent reads after the worker's death."""

    def __init__(self, path: Path, points: Sequence[str]) -> None:
        """Read the page; one that was never made reads as all zero."""
        raw = path.read_bytes() if path.exists() else b""
        names = (*_COUNTERS, *points)
        raw = raw.ljust(_WORD * len(names), b"\0")
        words = struct.unpack(f"{len(names)}I", raw[: _WORD * len(names)])
        self.counts = dict(zip(names, words, strict=True))

    @property
    def places(self) -> list[str]:
        """Where the kill landed; empty for a process between calls and commits."""
        return [place for place in PLACES if self.counts[place]]
