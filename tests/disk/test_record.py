"""strace's text becomes events: in order, whole, and nothing is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disk.record import (
    Create,
    RecordError,
    Said,
    Sync,
    Truncate,
    Unlink,
    Write,
    parse,
)

DATABASE = Path("/data/jobs.db")


def _hex(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def _fd(number: int, path: str) -> str:
    return f"{number}<{_hex(path)}>"


DB, WAL = _fd(3, "/data/jobs.db"), _fd(4, "/data/jobs.db-wal")
OUT, FOLDER = _fd(1, "pipe:[17]"), _fd(5, "/data")


def test_each_call_on_a_database_file_becomes_an_event_and_no_other_call_does() -> None:
    """Only a sync counts that failed; other files, reads and deleted files do not."""
    record = f"""\
7 openat(AT_FDCWD<{_hex("/")}>, "{_hex("/data/jobs.db")}", O_RDWR|O_CREAT, 0600) = {DB}
7 openat(AT_FDCWD<{_hex("/")}>, "{_hex("/data/jobs.db")}", O_RDONLY) = {DB}
7 openat(AT_FDCWD<{_hex("/")}>, "{_hex("/data/x")}", O_RDWR|O_CREAT, 0600) = 9
7 openat(AT_FDCWD<{_hex("/")}>, "{_hex("/data/jobs.db-wal")}", O_CREAT) = -1 EIO (I)
7 pwrite64({DB}, "{_hex("page = (1)")}", 10, 4096) = 10
7 pwrite64({_fd(9, "/data/x")}, "{_hex("page")}", 4, 0) = 4
7 pwrite64(4<{_hex("/data/jobs.db-wal")}>(deleted), "{_hex("page")}", 4, 0) = 4
7 ftruncate({DB}, 8192) = 0
7 fdatasync({DB}) = 0
7 fsync({FOLDER}) = 0
7 fdatasync({DB}) = -1 EIO (Input/output error) (INJECTED)
7 write({OUT}, "{_hex("ACK key id")}{_hex(chr(10))}", 11) = 11
7 unlink("{_hex("/data/jobs.db-wal")}") = 0
7 +++ exited with 0 +++
"""
    assert parse(record.splitlines(), DATABASE) == [
        Create("jobs.db"),
        Write("jobs.db", 4096, b"page = (1)"),
        Truncate("jobs.db", 8192),
        Sync("jobs.db", 3),
        Sync(".", 4),
        Sync("jobs.db", 5, failed=True),
        Said("ACK key id"),
        Unlink("jobs.db-wal"),
    ]


def test_a_short_write_is_as_long_as_its_result() -> None:
    line = f'7 pwrite64({WAL}, "{_hex("frame")}", 5, 32) = 3'
    assert parse([line], DATABASE) == [Write("jobs.db-wal", 32, b"fra")]


def test_a_sync_covers_what_had_returned_when_it_began() -> None:
    """Two threads: the write of one returns while the other syncs."""
    record = f"""\
7 pwrite64({WAL}, "{_hex("a")}", 1, 0) = 1
7 fdatasync({WAL} <unfinished ...>
8 pwrite64({WAL}, "{_hex("b")}", 1, 1 <unfinished ...>
8 <... pwrite64 resumed>) = 1
7 <... fdatasync resumed>) = 0
"""
    assert parse(record.splitlines(), DATABASE) == [
        Write("jobs.db-wal", 0, b"a"),
        Write("jobs.db-wal", 1, b"b"),
        Sync("jobs.db-wal", 1),
    ]


def test_what_is_said_counts_when_it_begins() -> None:
    """A sync that returns only after the word was begun does not excuse it."""
    record = f"""\
7 fdatasync({WAL} <unfinished ...>
8 write({OUT}, "{_hex("ACK")}", 3 <unfinished ...>
7 <... fdatasync resumed>) = 0
8 <... write resumed>) = 3
"""
    assert parse(record.splitlines(), DATABASE) == [
        Said("ACK"),
        Sync("jobs.db-wal", 0),
    ]


def test_a_later_life_is_appended() -> None:
    """Its syncs count events from the very first one."""
    events = parse([f'7 pwrite64({WAL}, "{_hex("a")}", 1, 0) = 1'], DATABASE)
    parse([f"9 fdatasync({WAL}) = 0"], DATABASE, events)
    assert events[1] == Sync("jobs.db-wal", 1)


@pytest.mark.parametrize(
    "line",
    [
        f'7 pwrite64({WAL}, "{_hex("frame")}"..., 4096, 32) = 4096',
        f'7 write({WAL}, "{_hex("frame")}", 5) = 5',
        f"7 fallocate({WAL}, 0, 0, 32768) = 0",
        f'7 rename("{_hex("/data/new")}", "{_hex("/data/jobs.db")}") = 0',
    ],
)
def test_what_is_not_accounted_for_is_an_error(line: str) -> None:
    """Cut data, and calls that SQLite is not known to make, spoil the record."""
    with pytest.raises(RecordError):
        parse([line], DATABASE)
