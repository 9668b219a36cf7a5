"""Databricks in the campaign: its SDK, and the stand-in that has the faults.

Class L, as by default: what became of a create is searched by the name of the run.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import RetryStrategy, Timeout
from orchestrator.connectors.databricks import (
    Databricks,
    DatabricksConnector,
    DatabricksTask,
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

_CLIENT = timedelta(seconds=0.25)
_SEARCH = timedelta(seconds=10)
"""A search reads the list page by page: it has many times the time of another call."""

_VARIABLE = "CAMPAIGN_DATABRICKS_TOKEN"

# A run that is listed late is a word of the stand-in's own.
KINDS = {name: kind for name, kind in ALL.items() if not kind.spec.hidden_s}


class Side(StandInSide):
    """The worker's side of it."""

    kinds = KINDS

    async def connect(
        self, around: Around, faults: Points, board: Board
    ) -> AsyncConnector[Any]:
        """Return the connector, pointed at the stand-in."""
        del faults, board
        os.environ.setdefault(_VARIABLE, "dapi-0123456789abcdef")
        connector = DatabricksConnector(
            host=self.url,
            secrets={"databricks_token": _VARIABLE},
            timeout=_CLIENT,
            threads=32,
        )
        connector.policy = replace(policy_of(self.service), find_timeout=_SEARCH)
        keys = connector.job_key
        observe(connector, around, lambda meta: self.token_of(keys(meta)))
        return connector

    def job(self, plan: Plan) -> tuple[TaskTemplate, dict[str, Any]]:
        """Return a notebook's run that behaves as the plan says."""
        spec, again = spoken(plan.spec)
        ends = ",".join("INTERNAL_ERROR" if one else "SUCCESS" for one in again)
        words = {"spec": packed(spec), **({"result": ends} if any(again) else {})}
        notebook = {"notebook_path": "/Shared/clean", "base_parameters": words}
        limit = timedelta(seconds=plan.kind.run_timeout_s)
        task = DatabricksTask(
            plan.kind_name.replace(" ", "_"),
            Databricks({"existing_cluster_id": "0923-1-a", "notebook_task": notebook}),
            retries=RetryStrategy(count=plan.kind.retries),
            timeout=Timeout(max_runtime=limit) if limit else None,
        )
        return task, {}


SIDE = Side
opened = partial(
    opened_stand_in, "databricks", kinds=KINDS, key=lambda url, own: f"{url}#{own}"
)
