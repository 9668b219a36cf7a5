"""Opening the database for a command, and finding the execution that it names."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator._clock import SystemClock
from orchestrator._config import Config, database_url, load_config
from orchestrator._faults import NO_FAULTS
from orchestrator._orchestrator import Orchestrator
from orchestrator._storage import Store
from orchestrator.cli._load import load_connectors
from orchestrator.cli._text import cut_ids
from orchestrator.errors import (
    ExecutionNotFoundError,
    InvalidInputError,
    NotADatabaseError,
)

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import AsyncIterator, Callable, Coroutine

PREFIX_MIN = 8
_FULL = 32
_CANDIDATES = 5
_PREFIX = re.compile(r"[0-9a-f]+")
_DESCRIPTION = f"must be 32 hex digits, or {PREFIX_MIN} or more from its start"


def existing_database(options: Namespace) -> str:
    """Return the URL of the database that *options* name; it has to be there.

    Raises:
        NotADatabaseError: There is no such file, and a command that looks at a
            database must not make one.
    """
    url = database_url(options.database)
    prefix, found, path = url.partition(":///")
    if prefix.startswith("sqlite") and found and path not in ("", ":memory:"):
        file = Path(path.partition("?")[0])
        if not file.exists():
            problem = "there is no such database: check --database or"
            raise NotADatabaseError(str(file), f"{problem} ORCHESTRATOR_DATABASE")
    return url


def reading_config() -> Config:
    """Return the settings of a command that must not change a schema."""
    return dataclasses.replace(load_config(), migrate=False)


def with_database(
    options: Namespace,
    command: Callable[[Orchestrator, Namespace], Coroutine[Any, Any, int]],
    *,
    start: bool = False,
) -> int:
    """Run *command* on an existing database, with a scheduler only on *start*."""
    load_connectors(getattr(options, "connectors", []))
    url, config = existing_database(options), reading_config()

    async def body() -> int:
        async with Orchestrator(url, config=config, start=start) as orch:
            return await command(orch, options)

    return asyncio.run(body())


def with_store(
    options: Namespace,
    command: Callable[[Store, Namespace], Coroutine[Any, Any, int]],
    *,
    check: bool = True,
) -> int:
    """Run *command* on an existing store, of any revision unless it is to *check*."""
    load_connectors(getattr(options, "connectors", []))

    async def body() -> int:
        async with opened_store(options, check=check) as store:
            return await command(store, options)

    return asyncio.run(body())


@asynccontextmanager
async def opened_store(
    options: Namespace, *, check: bool = True
) -> AsyncIterator[Store]:
    """Open the existing store, and close it."""
    url, config = existing_database(options), reading_config()
    store = Store(url, config=config, clock=SystemClock(), faults=NO_FAULTS)
    try:
        if check:
            await store.open()
        yield store
    finally:
        await store.close()


async def full_id(orch: Orchestrator, given: str) -> str:
    """Return the id that *given* abbreviates.

    Raises:
        InvalidInputError: It is no start of an id, too short, or not unique.
        ExecutionNotFoundError: No id starts so.
    """
    prefix = given.strip().lower().replace("-", "")
    if not _PREFIX.fullmatch(prefix) or not PREFIX_MIN <= len(prefix) <= _FULL:
        raise InvalidInputError("id", f"{given!r} {_DESCRIPTION}")
    if len(prefix) == _FULL:
        return prefix
    # Newest first, and "g" is above every digit: the first rows below are those.
    rows = await orch.list(after=prefix + "g", limit=_CANDIDATES + 1)
    found = [row for row in rows if row.id.startswith(prefix)]
    if not found:
        raise ExecutionNotFoundError(given)
    if len(found) > 1:
        cuts = zip(cut_ids([row.id for row in found]), found, strict=True)
        told = [f"{cut} ({row.name}, {row.phase})" for cut, row in cuts][:_CANDIDATES]
        more = " and more" if len(found) > _CANDIDATES else ""
        problem = f"{given!r} may be {', '.join(told)}{more}: give more of it"
        raise InvalidInputError("id", problem)
    return found[0].id
