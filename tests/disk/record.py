"""What a process did to its database files, read from strace's text.

Written for ``strace -f -y -xx -s BIG``: every string in hex, every descriptor with
its path. Calls of several threads come in pieces; a write counts when it has
returned, a sync covers what had returned when it began, and what the worker says
counts from the moment in which it begins to say it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TRACED = (
    "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,"
    "fallocate,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,"
    "unlink,unlinkat"
)
FOLDER = "."
"""The name of the folder itself, whose sync makes names durable."""

_SYNCS = ("fsync", "fdatasync")
_SUFFIXES = ("", "-wal", "-shm", "-journal")
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$", re.DOTALL)
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_RESULT = re.compile(r"\) += (-?\d+|\?)[^=\"]*$")
_DESCRIPTOR = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?(?:, )?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_UNFINISHED = " <unfinished ...>"


class RecordError(Exception):
    """The record holds what this module cannot account for."""


@dataclass(frozen=True)
class Create:
    """A name was opened for creation; no effect if it was there."""

    name: str


@dataclass(frozen=True)
class Write:
    """Bytes at an offset."""

    name: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    """A new size."""

    name: str
    size: int


@dataclass(frozen=True)
class Sync:
    """A sync that has returned.

    Attributes:
        covers: It covers the events before this one.
        failed: Whether it returned an error.
    """

    name: str
    covers: int
    failed: bool = False


@dataclass(frozen=True)
class Unlink:
    """A name was removed."""

    name: str


@dataclass(frozen=True)
class Said:
    """A line that the worker wrote to standard output."""

    line: str


Event = Create | Write | Truncate | Sync | Unlink | Said


def parse(
    lines: Iterable[str], database: Path, events: list[Event] | None = None
) -> list[Event]:
    """Return what happened to *database*'s files, after *events* of an earlier life.

    Raises:
        RecordError: Data was cut by strace, or a call is not accounted for.
    """
    reader = _Reader(database, [] if events is None else events)
    for pid, call, arguments, result, began in _calls(lines, reader):
        reader.take(pid, call, arguments, result, began)
    return reader.events


def _calls(
    lines: Iterable[str], reader: _Reader
) -> Iterator[tuple[str, str, str, int, int]]:
    """Yield pid, call, arguments, result, and how many events had come before it."""
    open_calls: dict[str, tuple[str, str, int]] = {}
    for line in lines:
        text = line.rstrip("\n")
        resumed = _RESUMED.match(text)
        if resumed:
            pid, _, rest = resumed.groups()
            call, arguments, began = open_calls.pop(pid)
            arguments += rest
        else:
            started = _CALL.match(text)
            if started is None:
                continue  # a signal, an exit
            pid, call, arguments = started.groups()
            began = len(reader.events)
            if call == "write":
                reader.say(arguments)
            if arguments.endswith(_UNFINISHED):
                cut = arguments.removesuffix(_UNFINISHED)
                open_calls[pid] = (call, cut, began)
                continue
        result = _RESULT.search(arguments)
        if result is None or result[1] == "?":
            continue  # the process ended in it
        yield pid, call, arguments[: result.start()], int(result[1]), began


def _plain(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


class _Reader:
    """Turns calls into events."""

    def __init__(self, database: Path, events: list[Event]) -> None:
        self.events = events
        self._names = {
            f"{database}{suffix}": f"{database.name}{suffix}" for suffix in _SUFFIXES
        }
        self._names[str(database.parent)] = FOLDER

    def say(self, arguments: str) -> None:
        """Take up what is being written to standard output."""
        if not arguments.startswith("1<"):
            return
        for line in _data(arguments).decode().splitlines():
            self.events.append(Said(line))

    def take(
        self, pid: str, call: str, arguments: str, result: int, began: int
    ) -> None:
        """Take up one call that has returned."""
        if call == "sync_file_range" or (result < 0 and call not in _SYNCS):
            return  # the former promises nothing
        paths = [*self._paths(arguments)]
        if call in ("open", "openat", "creat"):
            for path in paths:
                self._opened(path, call, _TEXT.sub("", arguments))
            return
        if call in ("unlink", "unlinkat"):
            self.events.extend(map(Unlink, paths))
            return
        name = self._descriptor(arguments)
        if name is not None:
            self.events.append(_change(call, name, arguments, result, began))
        elif paths:
            msg = f"{call} on a database file, by {pid}: {arguments[:200]}"
            raise RecordError(msg)

    def _opened(self, name: str, call: str, flags: str) -> None:
        if call == "creat" or "O_CREAT" in flags:
            self.events.append(Create(name))
        if call == "creat" or "O_TRUNC" in flags:
            self.events.append(Truncate(name, 0))

    def _descriptor(self, arguments: str) -> str | None:
        """Return which of our names the first argument is, None for another file."""
        found = _DESCRIPTOR.match(arguments)
        if found is None or found[3]:  # what is deleted already, nobody will read
            return None
        return self._names.get(_plain(found[2]).decode("utf-8", "replace"))

    def _paths(self, arguments: str) -> Iterator[str]:
        for found in _TEXT.finditer(arguments):
            path = _plain(found[1]).decode("utf-8", "replace")
            if path in self._names and self._names[path] != FOLDER:
                yield self._names[path]


def _change(call: str, name: str, arguments: str, result: int, began: int) -> Event:
    match call:
        case "fsync" | "fdatasync":
            return Sync(name, began, failed=result < 0)
        case "pwrite64":
            offset = int(arguments.rpartition(", ")[2])
            return Write(name, offset, _data(arguments)[:result])
        case "ftruncate":
            return Truncate(name, int(arguments.rpartition(", ")[2]))
    msg = f"{call} on {name}: {arguments[:200]}"
    raise RecordError(msg)


def _data(arguments: str) -> bytes:
    found = _TEXT.search(arguments)
    if found is None or found[2]:
        msg = f"strace cut the data: {arguments[:120]}"
        raise RecordError(msg)
    return _plain(found[1])
