"""What is left undone and what the world contradicts is found; the whole passes.

The invariants of any moment are broken one by one in ``tests/conformance``.
"""

# ruff: noqa: S608 - the pieces are constants of this module

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path  # noqa: TC003 - a field of a named tuple
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.simulation import invariants
from tests.simulation.crashes import Crashes
from tests.simulation.run import Simulation
from tests.simulation.world import Kind, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockbuster import BlockBuster

# Engines come and go: opening and closing a database touches the file system.
pytestmark = pytest.mark.may_block

SEEDS = (14, 18, 34, *range(100))
ONE = "(SELECT id FROM execution ORDER BY version DESC, id LIMIT 1)"
JOB = "(SELECT min(id) FROM external_job WHERE adopted_at IS NOT NULL)"

# What to do to a good database, and which invariant has to notice.
BREAKS: dict[str, tuple[str, ...]] = {
    "all rows are terminal": (
        f"""UPDATE execution SET phase = 'QUEUED', finished_at = NULL,
            error_code = NULL WHERE id = {ONE}""",
    ),
    "no debt": (
        f"""UPDATE external_job SET cleanup = 'DUE', cleanup_due_at = 1
            WHERE id = {JOB}""",
    ),
    "no search": (
        f"""INSERT INTO sweep (token, execution_id, attempt, task_type, task_version,
            since, due_at, until) VALUES ('o', {ONE}, 1, 'sim-l', 0, 1, 1, 1)""",
    ),
}


class Played(NamedTuple):
    """A simulation that ended well: its database and its witnesses."""

    path: Path
    world: World
    wished: list[tuple[str, str | None]]
    hashes: dict[str, str]

    @property
    def rich(self) -> bool:
        """Whether everything has happened that a test below breaks."""
        jobs = self.world.jobs.values()
        kinds = {Kind.IDEMPOTENT, Kind.LISTED} <= {job.kind for job in jobs}
        retried = any(job.attempt[1] > 1 for job in jobs)
        with closing(sqlite3.connect(self.path)) as db:
            query = "SELECT count(*) FROM history WHERE to_phase = 'ABORTING'"
            aborted = db.execute(query).fetchone()[0]
        return kinds and retried and bool(aborted)


@pytest.fixture(scope="session")
def good(
    empty: Path,
    tmp_path_factory: pytest.TempPathFactory,
    blocking_guard: BlockBuster,
) -> Played:
    """Return the first simulation in which enough has happened."""
    blocking_guard.deactivate()  # as for every test here, but once for all
    played = _first_rich(empty, tmp_path_factory)
    blocking_guard.activate()
    return played


def _first_rich(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    for seed in SEEDS:
        path = tmp_path_factory.mktemp("played") / "good.db"
        path.write_bytes(empty.read_bytes())
        simulation = Simulation(seed, path, crashes=Crashes())
        result = asyncio.run(simulation.run())
        assert not result.problems
        wished = [(wish.key, wish.id) for wish in simulation._wishes]
        played = Played(path, simulation.world, wished, simulation._hashes)
        if played.rich:
            return played
    raise AssertionError


@pytest.fixture
def played(good: Played, tmp_path: Path) -> Played:
    """Return a copy of a good simulation, to be broken."""
    path = tmp_path / "played.db"
    path.write_bytes(good.path.read_bytes())
    jobs = {key: replace(job) for key, job in good.world.jobs.items()}
    world = replace(good.world, jobs=jobs, creates=Counter(good.world.creates))
    return good._replace(path=path, world=world)


@pytest.fixture
def tamper(played: Played) -> Iterator[Callable[[str], invariants.Database]]:
    """Return a function that breaks the database behind the engine's back."""
    opened: list[invariants.Database] = []

    def change(statement: str) -> invariants.Database:
        with closing(sqlite3.connect(played.path)) as db:
            names = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            for (name,) in db.execute(names).fetchall():
                db.execute(f"DROP TRIGGER {name}")
            db.execute("PRAGMA ignore_check_constraints = ON")
            assert db.execute(statement).rowcount >= 1, "nothing was broken"
            db.commit()
        opened.append(invariants.Database(played.path))
        return opened[-1]

    yield change
    for database in opened:
        database.close()


def test_everything_that_may_be_left_is_left_once() -> None:
    """No query is believed that was never seen to find anything."""
    unseen = [
        n for n in invariants.QUIET if not any(n.startswith(name) for name in BREAKS)
    ]
    assert not unseen


@pytest.mark.parametrize(
    ("name", "statement"),
    [(name, sql) for name, statements in BREAKS.items() for sql in statements],
    ids=[f"{n}-{i}" for n, sqls in BREAKS.items() for i, _ in enumerate(sqls)],
)
def test_what_is_left_to_do_is_found(
    name: str, statement: str, tamper: Callable[[str], invariants.Database]
) -> None:
    found = tamper(statement).broken(invariants.QUIET)
    assert any(line.startswith(f"broken: {name}") for line in found), found


def test_a_changed_terminal_row_is_noticed(
    played: Played, tamper: Callable[[str], invariants.Database]
) -> None:
    """P4: also a column that no invariant reads."""
    database = tamper(f"UPDATE execution SET message = 'new' WHERE id = {ONE}")
    found = invariants.changed(played.hashes, database.terminal_hashes())
    assert len(found) == 1


def test_a_lost_submission_is_noticed(
    played: Played, tamper: Callable[[str], invariants.Database]
) -> None:
    """P1: also if another row has taken its place."""
    database = tamper(f"DELETE FROM execution WHERE id = {ONE}")
    found = list(invariants.acknowledged(database, played.wished))
    assert len(found) == 1
    assert "P1" in found[0]


def _second_job(world: World, kind: Kind) -> str:
    """Let a service make another job of a token, and return the token."""
    token = next(job.token for job in world.jobs.values() if job.kind is kind)
    twin = world._new_job(kind, token, world.clock.now_us())
    twin.runs_at = twin.ends_at = world.clock.now_us() + 10**12
    world.jobs[twin.id] = twin
    return token


@pytest.mark.parametrize("kind", [Kind.IDEMPOTENT, Kind.LISTED])
def test_a_second_job_and_an_orphan_are_noticed(
    kind: Kind, played: Played, tamper: Callable[[str], invariants.Database]
) -> None:
    """P2 and P3: the world is asked, not the engine's own tables."""
    database = tamper("UPDATE execution SET message = message")
    assert not invariants.against_world(database, played.world)
    _second_job(played.world, kind)
    found = invariants.against_world(database, played.world)
    assert any(line.startswith("P2") for line in found)
    assert any(line.startswith("P3") for line in found)


def _created_too_often(world: World) -> None:
    world.creates.update(dict.fromkeys(world.creates, 50))


def _never_deleted(world: World) -> None:
    for job in world.jobs.values():
        job.deletes, job.dies_at, job.lost_at = 0, None, None
        job.ends_at = world.clock.now_us()


def _other_jobs(world: World) -> None:
    for job in world.jobs.values():
        job.id = "x"


def _all_at_once(world: World) -> None:
    for job in world.jobs.values():
        job.made_at = 1


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Q6", _created_too_often),
        ("P10", _never_deleted),
        ("Q10", _other_jobs),
        ("Q12", _all_at_once),
    ],
    ids=["Q6", "P10", "Q10", "Q12"],
)
def test_what_the_services_saw_is_noticed(
    name: str,
    change: Callable[[World], object],
    played: Played,
    tamper: Callable[[str], invariants.Database],
) -> None:
    """Q6, Q10, Q12, P10: each contradiction of the world's record is found."""
    database = tamper("UPDATE execution SET message = message")
    change(played.world)
    found = invariants.against_world(database, played.world)
    assert any(line.startswith(name) for line in found), found
