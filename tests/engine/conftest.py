"""Engines for tests: opened on a copy of one migrated database, ended with the test."""

from __future__ import annotations

import shutil
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from orchestrator import Orchestrator
from orchestrator._ids import Ids
from orchestrator._storage import upgrade
from tests.engine.kit import CONFIG, RUNNING, Block, Clock, Script, registry_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from orchestrator.connectors import AsyncConnector


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated, empty database to copy: a migration takes a while."""
    registry_of(Script())  # reads sources, once: no event loop may do that
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    upgrade(make_url(f"sqlite:///{path}"), busy_s=5)
    return path


@pytest.fixture
def path(empty: Path, tmp_path: Path) -> Path:
    """Return the test's own database."""
    target = tmp_path / "jobs.db"
    shutil.copy(empty, target)
    return target


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test moves."""
    return Clock()


@pytest.fixture
async def engine(
    path: Path, clock: Clock
) -> AsyncIterator[Callable[..., Awaitable[Orchestrator]]]:
    """Return a function that opens an engine; what is left open crashes at the end."""
    opened: list[Orchestrator] = []

    async def start(*connectors: AsyncConnector[Any], **options: Any) -> Orchestrator:
        rng = Random(len(opened))
        options.setdefault("clock", clock)
        options.setdefault("config", CONFIG)
        options.setdefault("registry", registry_of(*connectors))
        options.setdefault("ids", Ids(options["clock"], rng))
        orchestrator = Orchestrator(path, rng=rng, **options)
        opened.append(orchestrator)
        await orchestrator.open()
        return orchestrator

    yield start
    for orchestrator in opened:
        if orchestrator._open:
            await orchestrator.crash()


@pytest.fixture
def block() -> Iterator[Callable[..., Block]]:
    """Return a maker of blocks; all are let go before the engine ends."""
    made: list[Block] = []

    def make(answer: Any = RUNNING) -> Block:
        made.append(Block(answer))
        return made[-1]

    yield make
    for each in made:
        each.release.set()
