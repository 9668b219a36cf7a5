"""What a connector says, told on by the durable service."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flyteidl2.connector import connector_pb2

from orchestrator._clock import to_datetime
from orchestrator._engine._text import info_json
from orchestrator._phase import Phase, RemotePhase
from orchestrator._records import Execution
from orchestrator._tasks import attempt_metadata
from orchestrator.flyte._durable import _labels, resource_of_record
from orchestrator.flyte._wire import identity_of
from tests.flyte.test_durable import request_for


def _nested(levels: int) -> dict[str, Any]:
    info: dict[str, Any] = {"x": 1}
    for _ in range(levels - 1):
        info = {"d": info}
    return info


@pytest.mark.parametrize(
    "info",
    [_nested(60), {"n": 10**400}, [1, 2]],
    ids=["60 levels", "a huge number", "a list"],
)
def test_the_end_of_a_job_is_told_whatever_its_details_are(info: Any) -> None:
    """The engine keeps them; GetTask must not fail for them for ever."""
    stored = json.loads(info_json(info, lambda text: text))
    now = to_datetime(0)
    ended = Execution(
        id="0" * 32,
        name="t",
        task_type="counted",
        task_version=0,
        phase=Phase.SUCCEEDED,
        attempt=1,
        version=1,
        submitted_at=now,
        updated_at=now,
        remote_phase=RemotePhase.SUCCEEDED,
        custom_info=stored,
    )
    answer = connector_pb2.GetTaskResponse(resource=resource_of_record(ended))
    told = connector_pb2.GetTaskResponse.FromString(answer.SerializeToString())
    assert told.resource.phase == answer.resource.phase


def test_a_retried_execution_is_another_job_for_the_next_service() -> None:
    """Flyte, durable service, durable service: ``retry`` in the middle one.

    Both executions carry Flyte's run; their tokens tell them apart.
    """
    labels = _labels(request_for("run-1"))
    common = connector_pb2.TaskExecutionMetadata()
    first, again = (
        identity_of(
            attempt_metadata(
                common,
                execution_id=run * 32,
                attempt=1,
                token=f"o{run * 32}-1",
                labels=labels,
            )
        )
        for run in "ab"
    )
    assert first != again
