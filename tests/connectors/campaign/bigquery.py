"""BigQuery in the campaign: Google's client, and the stand-in that has the faults."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import RetryStrategy, Timeout
from orchestrator.connectors.bigquery import (
    BigQueryConfig,
    BigQueryConnector,
    BigQueryTask,
)
from orchestrator.testing import Rule, ServiceClass, State
from tests.connectors.campaign.entry import WORKER, ConnectorSide, arguments
from tests.connectors.campaign.observed import observe
from tests.crash.scenario import KINDS
from tests.crash.subject import Subject
from tests.crash.worker import policy_of
from tests.emulators import Running, running
from tests.emulators._base import packed
from tests.jobserver.witness import Witness, WitnessedJob

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator._connector import AsyncConnector
    from orchestrator._tasks import TaskTemplate
    from tests.crash.board import Board
    from tests.crash.points import Points
    from tests.crash.scenario import Plan
    from tests.jobserver.connectors import Around

_CLIENT = timedelta(seconds=0.25)
"""Below the policy's timeout, so that a call's thread is free again soon."""


def query(plan: Plan) -> str:
    """Return a query that behaves as the plan says.

    BigQuery has no state for "try again", but reasons of a failure.
    """
    ends = plan.spec.ends
    again = [end is State.RETRYABLE for end in ends]
    fail = ",".join("backendError" if one else "ok" for one in again)
    spec = replace(
        plan.spec,
        faults=tuple(map(_in_words_of_bigquery, plan.spec.faults)),
        ends=tuple(
            State.FAILED if one else end for one, end in zip(again, ends, strict=True)
        ),
    )
    reasons = f"/* fail={fail} */ " if any(again) else ""
    return f"SELECT 1 AS one {reasons}{packed(spec)}"


def _in_words_of_bigquery(rule: Rule) -> Rule:
    """Return *rule* with a status that BigQuery has."""
    return replace(rule, status=400) if rule.status == 422 else rule


class Side(ConnectorSide):
    """The worker's side of it."""

    kinds = KINDS

    async def connect(
        self, around: Around, faults: Points, board: Board
    ) -> AsyncConnector[Any]:
        """Return the connector, pointed at the stand-in."""
        del faults, board
        connector = BigQueryConnector(endpoint=self.url, timeout=_CLIENT, threads=32)
        connector.policy = policy_of(self.service)
        observe(connector, around, lambda meta: str(meta.job_id))
        return connector

    def job(self, plan: Plan) -> tuple[TaskTemplate, dict[str, Any]]:
        """Return a query."""
        limit = timedelta(seconds=plan.kind.run_timeout_s)
        task = BigQueryTask(
            plan.kind_name.replace(" ", "_"),
            query(plan),
            BigQueryConfig("shop-project", "europe-west1"),
            retries=RetryStrategy(count=plan.kind.retries),
            timeout=Timeout(max_runtime=limit) if limit else None,
        )
        return task, {}

    async def release(self, token: str) -> None:
        """Let the stand-in give the answers that it withholds of *token*."""
        await asyncio.to_thread(Running(self.url, Path(), 0).release, token)


SIDE = Side


class BigQueryWitness(Witness):
    """The stand-in's ledger, with the ids that BigQuery gives to jobs."""

    def jobs(self) -> list[WitnessedJob]:
        """Return every job ever made, in order of creation."""
        keys = dict(self._rows("SELECT job_id, key FROM body"))
        return [
            replace(job, id=keys[job.id]) for job in super().jobs() if job.id in keys
        ]


@contextmanager
def opened(service: ServiceClass, folder: Path, seed: str) -> Iterator[Subject]:
    """Run the stand-in until the block ends."""
    with running("bigquery", folder / "ledger.db", "--seed", seed) as server:
        yield Subject(
            name="bigquery",
            service=service,
            witness=BigQueryWitness(server.ledger),
            arguments=arguments("bigquery", server.url),
            worker=WORKER,
            kinds=SIDE.kinds,
        )
