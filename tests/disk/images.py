"""The files as a power cut may leave them, at any event of a record.

The model: what was written since a file's last sync may be there, or not, or be torn,
each write by itself; a name that was made or removed since the folder's last sync may
be there or not, in the order of the changes. This is more than most file systems do
to a program, and all that a program may rely on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.disk.record import FOLDER, Create, Event, Said, Sync, Truncate, Unlink, Write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

SECTOR = 512
_SHARED_MEMORY = "-shm"


class Policy(StrEnum):
    """What becomes of all that was not synced."""

    DROP = "drop"
    KEEP = "keep"
    SUBSET = "subset"
    """Each write by chance; the shared memory file is junk."""
    TEAR = "tear"
    """As subset, and one write is there in part: a half, or some of its sectors."""


Part = tuple[tuple[int, int], ...] | None
"""Which bytes of a write are there: ranges within its data; None is all."""


@dataclass
class _File:
    """One file, whatever its names."""

    durable: bytearray = field(default_factory=bytearray)
    generation: int = 0
    pending: list[tuple[int, Write | Truncate]] = field(default_factory=list)

    def sync(self, covers: int, *, failed: bool) -> None:
        done = [change for index, change in self.pending if index < covers]
        self.pending = self.pending[len(done) :]
        self.generation += bool(done)
        for change in done:
            # What a failed sync was to write, Linux takes for clean: no later sync
            # writes it, and a cut loses it.
            if not failed:
                _put(self.durable, change)


@dataclass(frozen=True)
class Plan:
    """One image, not built yet: equal plans are equal images.

    Attributes:
        names: How many changes of names since the folder's sync are there.
        files: By name, the file, its generation, and what is there besides.
        junk: Whether the shared memory file is junk: that is never synced.
    """

    names: tuple[int, int]
    files: tuple[tuple[str, int, int, tuple[tuple[int, Part], ...]], ...]
    junk: bool


class Disk:
    """Plays a record; at any moment, tells what a power cut could leave."""

    def __init__(self, before: Mapping[str, bytes] | None = None) -> None:
        """Begin with the files *before*, all of them durable; None is none."""
        before = before or {}
        self._files = [_File(bytearray(content)) for content in before.values()]
        self._durable_names = {name: number for number, name in enumerate(before)}
        self._renamed: list[tuple[int, str, int | None]] = []
        """Changes of names since the folder's sync: event, name, file or None."""
        self._synced_names = 0
        self._names = dict(self._durable_names)
        self._index = 0

    def play(self, event: Event) -> None:
        """Let one event happen."""
        match event:
            case Create(name):
                if name not in self._names:
                    self._files.append(_File())
                    self._rename(name, len(self._files) - 1)
            case Unlink(name):
                self._rename(name, None)
            case Write(name) | Truncate(name):
                self._files[self._names[name]].pending.append((self._index, event))
            case Sync(name, covers, failed) if name == FOLDER:
                if not failed:
                    self._sync_names(covers)
            case Sync(name, covers, failed):
                if name in self._names:
                    self._files[self._names[name]].sync(covers, failed=failed)
            case Said():
                pass
        self._index += 1

    def _rename(self, name: str, file: int | None) -> None:
        self._renamed.append((self._index, name, file))
        _name(self._names, name, file)

    def _sync_names(self, covers: int) -> None:
        while self._renamed and self._renamed[0][0] < covers:
            _, name, file = self._renamed.pop(0)
            _name(self._durable_names, name, file)
            self._synced_names += 1

    def plan(self, policy: Policy, rng: Random) -> Plan:
        """Choose what a cut right now leaves."""
        count = len(self._renamed)
        by_chance = policy in (Policy.SUBSET, Policy.TEAR)
        chance = float(policy is Policy.KEEP)
        if by_chance:
            chance = rng.choice((0.2, 0.5, 0.8))
        kept_names = {
            Policy.DROP: 0,
            Policy.KEEP: count,
            Policy.SUBSET: rng.randint(0, count),
            Policy.TEAR: rng.randint(0, count),
        }[policy]
        names = self._namespace(kept_names)
        torn = self._choose_torn(names, rng) if policy is Policy.TEAR else None
        files = []
        for name, number in sorted(names.items()):
            file = self._files[number]
            kept: list[tuple[int, Part]] = []
            for index, change in file.pending:
                if index == torn:
                    assert isinstance(change, Write)
                    kept.append((index, _tear(change, rng)))
                elif rng.random() < chance:
                    kept.append((index, None))
            files.append((name, number, file.generation, tuple(kept)))
        return Plan((self._synced_names, kept_names), tuple(files), by_chance)

    def build(self, plan: Plan, rng: Random) -> dict[str, bytes]:
        """Return the files of an image that was planned right now, by name."""
        image = {}
        for name, number, _, kept in plan.files:
            file = self._files[number]
            content = bytearray(file.durable)
            changes = dict(file.pending)
            for index, part in kept:
                _put(content, changes[index], part)
            if name.endswith(_SHARED_MEMORY) and plan.junk:
                content = bytearray(rng.randbytes(len(content)))
            image[name] = bytes(content)
        return image

    def _namespace(self, kept: int) -> dict[str, int]:
        names = dict(self._durable_names)
        for _, name, file in self._renamed[:kept]:
            _name(names, name, file)
        return names

    def _choose_torn(self, names: dict[str, int], rng: Random) -> int | None:
        writes = [
            index
            for name, number in sorted(names.items())
            for index, change in self._files[number].pending
            if isinstance(change, Write) and not name.endswith(_SHARED_MEMORY)
        ]
        return rng.choice(writes) if writes else None


def _name(names: dict[str, int], name: str, file: int | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file


def _put(content: bytearray, change: Write | Truncate, part: Part = None) -> None:
    """Change *content*; what a file was extended by and nobody wrote is zero."""
    if isinstance(change, Truncate):
        content[change.size :] = bytes(max(change.size - len(content), 0))
        return
    for start, end in ((0, len(change.data)),) if part is None else part:
        first, last = change.offset + start, change.offset + end
        if len(content) < last:
            content.extend(bytes(last - len(content)))
        content[first:last] = change.data[start:end]


def _tear(write: Write, rng: Random) -> Part:
    size = len(write.data)
    match rng.randrange(3):
        case 0:
            return ((0, size // 2),)
        case 1:
            return ((size // 2, size),)
    edges = [0]
    edges += [
        edge - write.offset
        for edge in range(
            (write.offset // SECTOR + 1) * SECTOR, write.offset + size, SECTOR
        )
    ]
    sectors = zip(edges, [*edges[1:], size], strict=True)
    return tuple(sector for sector in sectors if rng.random() < 0.5)
