"""check_connector finds nothing wrong with a RemoteConnector at a durable service."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from functools import partial
from inspect import Parameter
from typing import TYPE_CHECKING

from orchestrator._tasks import TaskTemplate
from orchestrator.flyte import RemoteConnector
from orchestrator.models import NativeInterface
from orchestrator.testing import JobSpec, check_connector
from tests.connectors.campaign.flyte import FlyteWitness
from tests.flyte.support import service
from tests.jobserver.connectors import JobServerI
from tests.jobserver.launch import job_server

if TYPE_CHECKING:
    from pathlib import Path

SERVED = "tests.connectors.campaign.flyte_service"
TASK = TaskTemplate(
    name="job",
    task_type=JobServerI.task_type_name,
    interface=NativeInterface(
        inputs={"spec": (str, Parameter.empty)},
        outputs={"job_id": str, "token": str},
    ),
)


def spec(**fields: bool) -> dict[str, str]:
    """Return the inputs of a job that behaves so."""
    return {"spec": json.dumps(JobSpec(**fields).to_json())}  # type: ignore[arg-type]


async def test_a_durable_service_keeps_the_promise_for_its_caller(
    tmp_path: Path,
) -> None:
    """Two engines in a row, the first of which crashes around create and delete."""
    ledger, database = tmp_path / "ledger.db", tmp_path / "service.db"
    words = ("--connectors", SERVED, "--durable", "--database", str(database))

    witness = FlyteWitness(ledger, database)

    def accepted(token: str) -> int:
        return witness.calls("create").get(token, 0)

    with (
        job_server(ledger) as jobs,
        service(*words, JOB_SERVER=jobs.address) as running,
    ):
        report = await check_connector(
            partial(
                RemoteConnector,
                running.endpoint,
                TASK.task_type,
                create_is_idempotent=timedelta(days=30),
            ),
            TASK,
            spec(),
            long_inputs=spec(until_told=True),
            count_jobs=accepted,
            poll_every=timedelta(milliseconds=10),
            crash_points=[
                "create.before_call",
                "create.after_call",
                "delete.after_call",
            ],
        )
        jobs_of = Counter(job.token for job in witness.jobs())
    report.assert_ok()
    outcomes = {check.name: check.outcome for check in report.checks}
    assert outcomes["create_is_idempotent"] == "ok"
    assert set(jobs_of.values()) == {1}
