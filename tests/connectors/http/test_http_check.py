"""check_connector finds nothing wrong with a class I, an L and an N definition."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from orchestrator.connectors.http import HttpConnector, HttpTask
from orchestrator.testing import JobServer, JobSpec, State, check_connector
from orchestrator.testing._check import CRASH_POINTS
from tests.connectors.http.api import Api, batches, job_server

POINTS = {
    "I": CRASH_POINTS,
    "L": ("create.before_call", "create.after_call", "find.after_call"),
    "N": ("create.before_call", "create.after_call"),
}


@pytest.mark.parametrize("service", POINTS)
async def test_every_class_keeps_its_promise(service: str) -> None:
    """Against a job server, crashed where classes differ, with a secret to look for."""
    async with JobServer(JobSpec()) as server:
        definition = job_server(server.url, service)
        report = await check_connector(
            partial(HttpConnector, definition),
            HttpTask("job", definition),
            {"forever": False},
            long_inputs={"forever": True},
            count_jobs=server.count_jobs,
            states=list(State),
            map_state=HttpConnector(definition).phase,
            poll_every=timedelta(milliseconds=10),
            crash_points=POINTS[service],
        )
    report.assert_ok()
    checked = {c.name: c.outcome for c in report.checks}
    assert checked["create_is_idempotent"] == (
        "ok" if service == "I" else "not checked"
    )
    assert checked["find"] == ("ok" if service == "L" else "not checked")
    assert checked["secrets"] == "ok"


async def test_odd_shapes_keep_the_promise_too(api: Api) -> None:
    """Forms, nested states, a Location, outputs of their own and a search."""
    definition = batches(api.url)
    report = await check_connector(
        partial(HttpConnector, definition),
        HttpTask("batch", definition),
        {"query": "select"},
        long_inputs={"behave": "wait"},
        poll_every=timedelta(milliseconds=10),
        crash_points=["create.after_call", "delete.after_call"],
    )
    report.assert_ok()
