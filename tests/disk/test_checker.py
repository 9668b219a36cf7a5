"""The checker: silent about a store that syncs, red about one that does not.

The records are synthetic (after each commit, the difference between the files before
and after it), the database and its rows are real.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from orchestrator._phase import Cause, Phase
from orchestrator._records import Change
from orchestrator._storage import upgrade
from orchestrator.testing import ManualClock
from tests.disk.checker import Facts, Owed, look
from tests.disk.power_loss import DATABASE, Figures, judge
from tests.disk.record import FOLDER, Create, Event, Said, Sync, Write
from tests.support.factories import NOW, make_new
from tests.support.stores import NODE, apply, claim, make_store

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator._storage import Store

_INTENT = {"creates": 1, "create_called_at": NOW}
FILES = (DATABASE, f"{DATABASE}-wal")


@dataclass
class Recorder:
    """Writes the events of a store in *folder*, commit by commit."""

    folder: Path
    before: dict[str, bytes]
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with the files before."""
        self._now = dict(self.before)

    def commit(self, said: str, *, synced: bool) -> None:
        """Record what the last commit wrote; then the worker says so."""
        for name in FILES:
            content = (self.folder / name).read_bytes()
            old = self._now.get(name)
            if old is None:
                self.events.append(Create(name))
            if content != old:
                same = _same(old or b"", content)
                self.events.append(Write(name, same, content[same:]))
                self._now[name] = content
                if synced:
                    self.events.append(Sync(name, len(self.events)))
        if synced:
            self.events.append(Sync(FOLDER, len(self.events)))
        self.events.append(Said(said))


def _same(old: bytes, new: bytes) -> int:
    pairs = enumerate(zip(old, new, strict=False))
    return next((at for at, (a, b) in pairs if a != b), len(old))


async def _moved(store: Store, phase: Phase, cause: Cause) -> str:
    """Let the one row of *store* move on; return what a worker says of it."""
    [row] = await claim(store)
    change = Change(phase, 1, cause=cause, due_at=NOW, sets=_INTENT)
    assert await apply(store, row, change)
    return f"MOVED {row.id} {row.version + 1}"


async def _record(folder: Path, *, synced: bool) -> Recorder:
    """Submit one execution, whose submit is always synced, and let it move twice."""
    store = make_store(f"sqlite+aiosqlite:///{folder / DATABASE}", ManualClock())
    recorder = Recorder(folder, {DATABASE: (folder / DATABASE).read_bytes()})
    try:
        await store.open()
        await store.register_node(NODE, version="1", until=2 * NOW)
        recorder.commit("NODE", synced=True)
        await store.submit([new := make_new(key="nightly")], NOW)
        recorder.commit(f"ACK nightly {new.row['id']}", synced=True)
        for phase, cause in (
            (Phase.CREATING, Cause.CREATE_INTENT),
            (Phase.QUEUED, Cause.CREATE_TRANSIENT),
        ):
            said = await _moved(store, phase, cause)
            recorder.commit(said, synced=synced)
    finally:
        await store.close()
    return recorder


def _judge(recorder: Recorder, folder: Path) -> Figures:
    return judge(recorder.events, folder, seed=0, repeat=3, before=recorder.before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a migrated database."""
    (tmp_path / "database").mkdir()
    path = tmp_path / "database" / DATABASE
    upgrade(make_url(f"sqlite:///{path}"), busy_s=5)
    return path.parent


async def test_a_store_that_syncs_before_it_acknowledges_loses_nothing(
    folder: Path, tmp_path: Path
) -> None:
    recorder = await _record(folder, synced=True)
    figures = _judge(recorder, tmp_path)
    assert figures.clean, figures.lines()
    assert figures.acknowledged == 3
    assert figures.images.total() > len(recorder.events)


async def test_a_commit_that_is_acknowledged_without_a_sync_is_found_lost(
    folder: Path, tmp_path: Path
) -> None:
    """As with synchronous=NORMAL: sound, but some of the truth is gone."""
    recorder = await _record(folder, synced=False)
    figures = _judge(recorder, tmp_path)
    assert not figures.clean
    versions = sorted(line.split(" ")[-1] for line in figures.lost)
    assert versions == ["2", "3"], "the submit was synced"
    assert figures.lossy["drop"] == 3, "from the first acknowledgement on"
    assert figures.lossy["keep"] == 0
    assert figures.corrupt == 0


async def test_a_page_of_the_database_that_is_torn_is_found_corrupt(
    folder: Path, tmp_path: Path
) -> None:
    """Pages written in place, without a log, and never synced as a whole."""
    content = (folder / DATABASE).read_bytes()
    events: list[Event] = [Create(DATABASE), Sync(FOLDER, 1)]
    events += [
        Write(DATABASE, at, content[at : at + 4096])
        for at in range(0, len(content), 4096)
    ]
    figures = judge(events, tmp_path, seed=0, repeat=1)
    assert figures.corrupt > len(events)
    assert not figures.clean


async def test_a_gap_in_history_is_found(folder: Path) -> None:
    """The audit of the crash campaign is asked about every image."""
    await _record(folder, synced=True)
    assert look(folder / DATABASE).broken == ()
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        db.execute("DROP TRIGGER history_no_delete")
        db.execute("DELETE FROM history WHERE version = 2")
        db.commit()
    assert any("gap" in line for line in look(folder / DATABASE).broken)


def test_each_kind_of_acknowledgement_is_owed() -> None:
    owed = Owed()
    for line in ("READY", "ACK k one", "MOVED one 2", "WISH one", "DONE"):
        owed.note(line)
    everything = Facts(
        transitions=frozenset({("one", 1), ("one", 2)}),
        wishes=frozenset({"one"}),
        keys={"k": "one"},
    )
    assert everything.lost(owed) == []
    assert Facts().lost(owed) == ["one version 1", "one version 2", "abort of one"]
    of_another = Facts(everything.damage, (), everything.transitions, frozenset("x"))
    assert of_another.lost(owed) == ["abort of one", "key k of one"]


def test_a_database_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert look(tmp_path / "missing") == look(tmp_path / "empty") == Facts()
