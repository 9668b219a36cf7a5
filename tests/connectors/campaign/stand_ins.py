"""What the vendors' subjects share: specs in their words, witnesses, tokens."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator._ids import create_token
from orchestrator.testing import JobSpec, Rule, State
from tests.connectors.campaign.entry import WORKER, ConnectorSide, arguments
from tests.crash.subject import Subject
from tests.emulators import Running, running
from tests.jobserver.witness import Witness, WitnessedJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.testing import ServiceClass
    from tests.crash.scenario import Kind

_NO_VENDORS = 422


class StandInSide(ConnectorSide):
    """The worker's side of a stand-in; the URL is its own."""

    async def release(self, token: str) -> None:
        """Let the stand-in give the answers that it withholds of *token*."""
        await asyncio.to_thread(Running(self.url, Path(), 0).release, token)

    def token_of(self, job_key: str) -> str:
        """Return the token of a job that was created by this life or another."""
        database = self._options.database.partition("///")[2]
        query = "SELECT execution_id, attempt FROM external_job WHERE job_key = ?"
        with closing(sqlite3.connect(database, timeout=10)) as db:
            row = db.execute(query, (job_key,)).fetchone()
        return create_token(*row) if row else ""


def spoken(spec: JobSpec) -> tuple[JobSpec, tuple[bool, ...]]:
    """Return *spec* as vendors can be told, and which of its ends ask for a retry.

    They have no state for "try again", but reasons of a failure; and 400 for 422.
    """
    again = tuple(end is State.RETRYABLE for end in spec.ends)
    ends = tuple(
        State.FAILED if one else end for one, end in zip(again, spec.ends, strict=True)
    )
    return replace(spec, ends=ends, faults=tuple(map(_spoken, spec.faults))), again


def _spoken(rule: Rule) -> Rule:
    return replace(rule, status=400) if rule.status == _NO_VENDORS else rule


class StandInWitness(Witness):
    """A stand-in's ledger, with jobs named as the connector's ``job_key`` names them.

    Args:
        path: The ledger.
        key: Makes such a name of the vendor's id.
    """

    def __init__(self, path: Path, key: Callable[[str], str] = str) -> None:
        super().__init__(path)
        self._key = key

    def jobs(self) -> list[WitnessedJob]:
        """Return every job ever made, in order of creation."""
        made = super().jobs()
        keys = dict(self._rows("SELECT job_id, key FROM body"))
        return [replace(job, id=self._key(keys[job.id])) for job in made]


@contextmanager
def opened_stand_in(
    name: str,
    service: ServiceClass,
    folder: Path,
    seed: str,
    *,
    kinds: Mapping[str, Kind],
    key: Callable[[str, str], str] = lambda _url, vendors: vendors,
) -> Iterator[Subject]:
    """Run the stand-in ``tests.emulators.NAME`` until the block ends.

    Args:
        name: Of connector and stand-in.
        service: What the connector promises.
        folder: For the ledger.
        seed: Of chances.
        kinds: Ways for its jobs to live.
        key: Makes a ``job_key`` of the stand-in's URL and the vendor's id.
    """
    with running(name, folder / "ledger.db", "--seed", seed) as server:
        witness = StandInWitness(server.ledger, lambda own: key(server.url, own))
        yield Subject(
            name=name,
            service=service,
            witness=witness,
            arguments=arguments(name, server.url),
            worker=WORKER,
            kinds=kinds,
        )
