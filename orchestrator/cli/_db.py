"""``db upgrade``, ``db current`` and ``phases``."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from orchestrator.cli._errors import NO_DATABASE, OK
from orchestrator.cli._text import print_fields, print_json

if TYPE_CHECKING:
    from argparse import Namespace

    from orchestrator._storage import Store


def upgrade(options: Namespace) -> int:
    """Bring the schema to this version's; a database that is missing is made."""
    from orchestrator._config import database_url, load_config  # noqa: PLC0415
    from orchestrator._orchestrator import Orchestrator  # noqa: PLC0415
    from orchestrator._storage import HEAD  # noqa: PLC0415

    url = database_url(options.database)
    config = dataclasses.replace(load_config(), migrate=True)

    async def migrate() -> None:
        async with Orchestrator(url, config=config, start=False):
            pass

    asyncio.run(migrate())
    return _tell(url, HEAD, HEAD, as_json=options.json)


def current(options: Namespace) -> int:
    """Show the schema's revision; exit 3 unless it is this version's."""
    from orchestrator.cli._open import with_store  # noqa: PLC0415

    return with_store(options, _current, check=False)


async def _current(store: Store, options: Namespace) -> int:
    from orchestrator._storage import HEAD  # noqa: PLC0415

    found = await store.revision()
    return _tell(store.path, found, HEAD, as_json=options.json)


def _tell(database: str, found: str | None, head: str, *, as_json: bool) -> int:
    if as_json:
        print_json(
            {
                "database": database,
                "revision": found,
                "expected": head,
                "current": found == head,
            }
        )
    else:
        advice = ""
        if found is None or found < head:
            advice = "run `orchestrator db upgrade`"
        elif found > head:
            advice = "install the newer version that wrote it"
        fields = {"database": database, "revision": found or "none", "expected": head}
        print_fields([*fields.items(), ("advice", advice)])
    return OK if found == head else NO_DATABASE


def phases(options: Namespace) -> int:
    """Print the state machine."""
    from orchestrator._machine import MARKS, TRANSITIONS, chart  # noqa: PLC0415
    from orchestrator._phase import TERMINAL, Phase  # noqa: PLC0415

    if not options.json:
        print(chart())
        return OK
    print_json(
        {
            "phases": list(Phase),
            "terminal": sorted(TERMINAL),
            "marks": list(MARKS),
            "transitions": [
                {"from": source, "cause": cause, "to": target}
                for (source, cause), target in TRANSITIONS.items()
                if cause not in MARKS
            ],
        }
    )
    return OK
