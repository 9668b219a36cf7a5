"""What a power cut may leave of writes, syncs, sizes and names."""

from __future__ import annotations

from random import Random

from tests.disk.images import SECTOR, Disk, Policy
from tests.disk.record import (
    FOLDER,
    Create,
    Event,
    Said,
    Sync,
    Truncate,
    Unlink,
    Write,
)

A, B = b"A" * SECTOR, b"B" * SECTOR


def _disk(*events: Event) -> Disk:
    disk = Disk()
    for event in events:
        disk.play(event)
    return disk


def _image(disk: Disk, policy: Policy, seed: int = 0) -> dict[str, bytes]:
    rng = Random(seed)
    return disk.build(disk.plan(policy, rng), rng)


def _all(disk: Disk, policy: Policy, name: str) -> set[bytes | None]:
    return {_image(disk, policy, seed).get(name) for seed in range(300)}


NAMED = (Create("db"), Sync(FOLDER, 1))


def test_without_a_sync_nothing_is_sure_and_with_one_all_of_it_is() -> None:
    disk = _disk(*NAMED, Write("db", 0, A))
    assert _image(disk, Policy.DROP) == {"db": b""}
    assert _image(disk, Policy.KEEP) == {"db": A}
    assert _all(disk, Policy.SUBSET, "db") == {b"", A}
    disk.play(Sync("db", 3))
    assert {_image(disk, policy)["db"] for policy in Policy} == {A}


def test_a_sync_makes_sure_only_what_it_covers() -> None:
    disk = _disk(*NAMED, Write("db", 0, A), Write("db", SECTOR, B), Sync("db", 3))
    assert _image(disk, Policy.DROP) == {"db": A}
    assert _image(disk, Policy.KEEP) == {"db": A + B}


def test_each_unsynced_write_is_there_or_not_by_itself() -> None:
    """A later write may be there without an earlier one, which leaves zeros."""
    disk = _disk(*NAMED, Write("db", 0, A), Write("db", SECTOR, B))
    assert _all(disk, Policy.SUBSET, "db") == {b"", A, bytes(SECTOR) + B, A + B}


def test_a_sync_that_failed_has_lost_what_it_was_to_write() -> None:
    """Also for the next sync, which succeeds, unless it was written again."""
    disk = _disk(*NAMED, Write("db", 0, A), Sync("db", 3, failed=True))
    disk.play(Write("db", SECTOR, B))
    disk.play(Sync("db", 5))
    assert {_image(disk, policy)["db"] for policy in Policy} == {bytes(SECTOR) + B}


def test_writes_to_one_place_keep_their_order() -> None:
    disk = _disk(*NAMED, Write("db", 0, A), Write("db", 0, B), Said("ACK"))
    assert _all(disk, Policy.SUBSET, "db") == {b"", A, B}
    assert _image(disk, Policy.KEEP) == {"db": B}


def test_a_size_is_a_write_too() -> None:
    disk = _disk(*NAMED, Write("db", 0, A), Sync("db", 3), Truncate("db", 3))
    assert _image(disk, Policy.DROP) == {"db": A}
    assert _image(disk, Policy.KEEP) == {"db": b"AAA"}
    disk.play(Truncate("db", 5))
    assert _image(disk, Policy.KEEP) == {"db": b"AAA\0\0"}


def test_a_torn_write_is_there_in_halves_or_sectors() -> None:
    """Sectors are those of the file: a write that begins within one has a short one."""
    old, new = b"o" * SECTOR * 4, b"n" * SECTOR * 2
    disk = _disk(*NAMED, Write("db", 0, old), Sync("db", 3), Write("db", 100, new))
    torn = _all(disk, Policy.TEAR, "db")
    assert old[:100] + b"n" * SECTOR + old[100 + SECTOR :] in torn, "a half"
    first = old[:100] + b"n" * (SECTOR - 100) + old[SECTOR:]
    middle = old[:SECTOR] + b"n" * SECTOR + old[2 * SECTOR :]
    assert {first, middle} <= torn, "sectors"
    kept = {
        image[edge - 1] == ord("n")
        for image in torn
        if image is not None
        for edge in (SECTOR, 2 * SECTOR)
    }
    assert kept == {True, False}


def test_a_name_is_sure_only_after_the_folder_was_synced() -> None:
    """Also when the file itself was: that is all that POSIX promises."""
    disk = _disk(Create("wal"), Write("wal", 0, A), Sync("wal", 2))
    assert _image(disk, Policy.DROP) == {}
    assert _all(disk, Policy.SUBSET, "wal") == {None, A}
    disk.play(Sync(FOLDER, 3))
    assert _image(disk, Policy.DROP) == {"wal": A}


def test_a_removed_file_may_come_back_and_a_new_one_is_another() -> None:
    disk = _disk(Create("wal"), Write("wal", 0, A), Sync("wal", 2), Sync(FOLDER, 3))
    disk.play(Unlink("wal"))
    assert _image(disk, Policy.DROP) == {"wal": A}
    assert _image(disk, Policy.KEEP) == {}
    disk.play(Create("wal"))
    disk.play(Write("wal", 0, B))
    assert _image(disk, Policy.DROP) == {"wal": A}
    assert _image(disk, Policy.KEEP) == {"wal": B}
    assert _all(disk, Policy.SUBSET, "wal") == {A, None, b"", B}


def test_opening_a_file_that_is_there_makes_none() -> None:
    disk = _disk(*NAMED, Write("db", 0, A), Create("db"))
    assert _image(disk, Policy.KEEP) == {"db": A}


def test_the_shared_memory_file_is_junk_where_chance_decides() -> None:
    """It is written through a mapping that nobody syncs or records."""
    disk = _disk(Create("db-shm"), Sync(FOLDER, 1), Write("db-shm", 0, A))
    disk.play(Sync("db-shm", 3))
    assert _image(disk, Policy.KEEP) == {"db-shm": A}
    junk = _image(disk, Policy.SUBSET)["db-shm"]
    assert len(junk) == SECTOR
    assert junk != A


def test_the_same_seed_makes_the_same_image() -> None:
    disk = _disk(*NAMED, *(Write("db", SECTOR * n, bytes([n]) * 999) for n in range(9)))
    for policy in Policy:
        assert _image(disk, policy, 5) == _image(disk, policy, 5)
    assert len({_image(disk, Policy.TEAR, seed)["db"] for seed in range(50)}) > 40
