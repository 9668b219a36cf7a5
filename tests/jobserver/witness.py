"""Questions to a job server's ledger: what really happened, told from outside.

Works on the ledger file, while the server runs or after it has ended. The command
``python -m tests.jobserver.witness FILE`` prints the totals.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.testing._jobserver._vocabulary import (
    ENDED,
    State,
    attempt_of,
    execution_of,
)

_ENDED = tuple(sorted(state.value for state in ENDED))
_ENDED_SQL = "('" + "', '".join(_ENDED) + "')"


@dataclass(frozen=True)
class WitnessedJob:
    """One job that the service made, as its ledger has it.

    Attributes:
        seq: When it was made, in the ledger's own order.
        ended_seq: When its end was recorded, None while it lives.
        deletes: How many deletes of it were executed.
    """

    id: str
    service: str
    token: str
    seq: int
    state: State
    ended_seq: int | None
    deletes: int

    @property
    def live(self) -> bool:
        """Whether nobody has seen it end yet."""
        return self.ended_seq is None

    @property
    def execution_id(self) -> str:
        """The execution that its token names."""
        return execution_of(self.token)

    @property
    def attempt(self) -> int | None:
        """The attempt that its token names, None for a foreign token."""
        return attempt_of(self.token)


class Witness:
    """Reads one ledger file; every answer is of the moment of the question."""

    def __init__(self, path: Path | str) -> None:
        """Look at the ledger at *path*, which must exist."""
        self._uri = f"{Path(path).resolve().as_uri()}?mode=ro"

    def _rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._uri, uri=True)) as db:
            return db.execute(query, arguments).fetchall()

    def jobs(self) -> list[WitnessedJob]:
        """Return every job ever made, in order of creation."""
        query = f"""
            SELECT job.id, job.service, job.token, job.seq, last.state,
                   (SELECT min(seq) FROM job_state
                    WHERE job_id = job.id AND state IN {_ENDED_SQL}),
                   coalesce(deleted.n, 0)
            FROM job
            JOIN job_state last ON last.job_id = job.id AND last.seq =
                 (SELECT max(seq) FROM job_state WHERE job_id = job.id)
            LEFT JOIN (SELECT job_id, count(*) AS n FROM call
                       WHERE verb = 'delete' AND executed AND job_id IS NOT NULL
                       GROUP BY job_id) deleted ON deleted.job_id = job.id
            ORDER BY job.seq"""  # noqa: S608 - constants of this module
        return [
            WitnessedJob(
                id=row[0],
                service=row[1],
                token=row[2],
                seq=row[3],
                state=State(row[4]),
                ended_seq=row[5],
                deletes=row[6],
            )
            for row in self._rows(query)
        ]

    def by_token(self) -> dict[str, list[WitnessedJob]]:
        """Return the jobs of each token, oldest first."""
        grouped: dict[str, list[WitnessedJob]] = {}
        for job in self.jobs():
            grouped.setdefault(job.token, []).append(job)
        return grouped

    def by_attempt(self) -> dict[tuple[str, int], list[WitnessedJob]]:
        """Return the jobs of each (execution, attempt), oldest first."""
        return {
            (execution_of(token), attempt_of(token) or 0): jobs
            for token, jobs in self.by_token().items()
        }

    def duplicates(self) -> dict[str, list[WitnessedJob]]:
        """Return the tokens for which more than one job was ever made (P2)."""
        return {token: jobs for token, jobs in self.by_token().items() if len(jobs) > 1}

    def live_duplicates(self) -> dict[str, list[WitnessedJob]]:
        """Return the tokens of which more than one job lives now."""
        return {
            token: live
            for token, jobs in self.duplicates().items()
            if len(live := [job for job in jobs if job.live]) > 1
        }

    def live_jobs(self) -> list[WitnessedJob]:
        """Return the jobs whose end nobody has seen."""
        return [job for job in self.jobs() if job.live]

    def orphans(self, wanted: frozenset[str] = frozenset()) -> list[WitnessedJob]:
        """Return live jobs that nobody wants: all but those with *wanted* ids.

        Ask after quiescence, when no execution is live and *wanted* is empty.
        """
        return [job for job in self.live_jobs() if job.id not in wanted]

    def overlaps(self) -> list[tuple[WitnessedJob, WitnessedJob]]:
        """Return pairs of one execution where attempt k+1 began before k ended."""
        grouped: dict[str, list[WitnessedJob]] = {}
        for job in self.jobs():
            if job.attempt is not None:
                grouped.setdefault(job.execution_id, []).append(job)
        return [
            (earlier, later)
            for jobs in grouped.values()
            for later in jobs
            for earlier in jobs
            if (earlier.attempt or 0) < (later.attempt or 0)
            and (earlier.ended_seq is None or earlier.ended_seq > later.seq)
        ]

    def calls(self, verb: str | None = None) -> dict[str, int]:
        """Return how many requests were executed per token (of one verb, or all)."""
        query = "SELECT token, count(*) FROM call WHERE executed"
        if verb is None:
            return dict(self._rows(query + " GROUP BY token"))
        return dict(self._rows(query + " AND verb = ? GROUP BY token", verb))

    def faults(self) -> dict[tuple[str, str], int]:
        """Return how often each fault hit each verb."""
        query = (
            "SELECT verb, fault, count(*) FROM call"
            " WHERE fault IS NOT NULL GROUP BY verb, fault"
        )
        return {(verb, fault): count for verb, fault, count in self._rows(query)}

    def totals(self) -> dict[str, int]:
        """Return the totals: jobs, tokens, calls by verb, duplicates, live jobs."""
        verbs = self._rows("SELECT verb, count(*) FROM call GROUP BY verb")
        return {
            "jobs": len(self.jobs()),
            "tokens": len(self.by_token()),
            "duplicates": len(self.duplicates()),
            "live": len(self.live_jobs()),
            "overlaps": len(self.overlaps()),
            **{f"calls.{verb}": count for verb, count in sorted(verbs)},
        }


def main() -> None:
    """Print the totals of the ledgers named on the command line."""
    for path in sys.argv[1:]:
        sys.stdout.write(f"{path}\n")
        for name, count in Witness(path).totals().items():
            sys.stdout.write(f"  {name:<14} {count}\n")


if __name__ == "__main__":
    main()
