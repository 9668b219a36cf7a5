"""Snowflake in the campaign: its client, and the stand-in that has the faults.

Class L: what became of a create is searched in the query history, by the query's tag.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import RetryStrategy, Timeout
from orchestrator.connectors.snowflake import (
    SnowflakeConfig,
    SnowflakeConnector,
    SnowflakeTask,
)
from tests.connectors.campaign.observed import observe
from tests.connectors.campaign.stand_ins import StandInSide, opened_stand_in, spoken
from tests.crash.scenario import KINDS as ALL
from tests.crash.worker import policy_of
from tests.emulators._base import packed

if TYPE_CHECKING:
    from orchestrator._connector import AsyncConnector
    from orchestrator._tasks import TaskTemplate
    from tests.crash.board import Board
    from tests.crash.points import Points
    from tests.crash.scenario import Plan
    from tests.jobserver.connectors import Around

_CALL_S = 2.0
"""More than the client's own timeout, which is in whole seconds."""

# A query that is listed late is a word of the stand-in's own. Snowflake refuses a query
# in an answer with status 200; what a gateway refuses proves nothing, however often.
KINDS = {
    name: kind
    for name, kind in ALL.items()
    if name != "rejected" and not kind.spec.hidden_s
}


class Side(StandInSide):
    """The worker's side of it."""

    kinds = KINDS

    async def connect(
        self, around: Around, faults: Points, board: Board
    ) -> AsyncConnector[Any]:
        """Return the connector, pointed at the stand-in."""
        del faults, board
        connector = SnowflakeConnector(
            endpoint=self.url, timeout=timedelta(seconds=1), threads=16
        )
        connector.policy = policy_of(self.service, _CALL_S)
        keys = connector.job_key
        observe(connector, around, lambda meta: self.token_of(keys(meta)))
        return connector

    def job(self, plan: Plan) -> tuple[TaskTemplate, dict[str, Any]]:
        """Return a query that behaves as the plan says."""
        spec, again = spoken(plan.spec)
        fail = ",".join("000603" if one else "ok" for one in again)
        reasons = f"/* fail={fail} */ " if any(again) else ""
        limit = timedelta(seconds=plan.kind.run_timeout_s)
        task = SnowflakeTask(
            plan.kind_name.replace(" ", "_"),
            f"SELECT 1 AS one {reasons}{packed(spec)}",
            SnowflakeConfig(
                account="shop-main",
                database="SHOP",
                schema="PUBLIC",
                warehouse="SMALL",
                user="RUNNER",
            ),
            retries=RetryStrategy(count=plan.kind.retries),
            timeout=Timeout(max_runtime=limit) if limit else None,
        )
        return task, {}


SIDE = Side
opened = partial(opened_stand_in, "snowflake", kinds=KINDS)
