"""BigQuery in the campaign: Google's client, and the stand-in that has the faults."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import RetryStrategy, Timeout
from orchestrator.connectors.bigquery import (
    BigQueryConfig,
    BigQueryConnector,
    BigQueryTask,
)
from tests.connectors.campaign.observed import observe
from tests.connectors.campaign.stand_ins import StandInSide, opened_stand_in, spoken
from tests.crash.scenario import KINDS
from tests.crash.worker import policy_of
from tests.emulators._base import packed

if TYPE_CHECKING:
    from orchestrator._connector import AsyncConnector
    from orchestrator._tasks import TaskTemplate
    from tests.crash.board import Board
    from tests.crash.points import Points
    from tests.crash.scenario import Plan
    from tests.jobserver.connectors import Around

_CLIENT = timedelta(seconds=0.25)
"""Below the policy's timeout, so that a call's thread is free again soon."""


class Side(StandInSide):
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
        """Return a query that behaves as the plan says."""
        spec, again = spoken(plan.spec)
        fail = ",".join("backendError" if one else "ok" for one in again)
        reasons = f"/* fail={fail} */ " if any(again) else ""
        limit = timedelta(seconds=plan.kind.run_timeout_s)
        task = BigQueryTask(
            plan.kind_name.replace(" ", "_"),
            f"SELECT 1 AS one {reasons}{packed(spec)}",
            BigQueryConfig("shop-project", "europe-west1"),
            retries=RetryStrategy(count=plan.kind.retries),
            timeout=Timeout(max_runtime=limit) if limit else None,
        )
        return task, {}


SIDE = Side
opened = partial(opened_stand_in, "bigquery", kinds=Side.kinds)
