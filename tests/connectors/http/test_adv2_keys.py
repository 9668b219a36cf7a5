"""What tells two jobs of an HTTP service apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.connectors.http import HttpConnector
from tests.connectors.http.api import batches, submit

if TYPE_CHECKING:
    from tests.connectors.http.api import Api


async def test_jobs_whose_urls_differ_in_a_parameter_are_two_jobs(api: Api) -> None:
    """One key for all of them: one entry in the ledger, one remembered answer."""
    definition = batches(
        api.url,
        submit={"job_id": None, "status_url": "header:Location"},
        status={"path": None},
        results=None,
        cancel=None,
        find=None,
        outputs=None,
        log_links=None,
    )
    connector = HttpConnector(definition)
    keys = set()
    for number in (1, 2):
        api.reset()
        where = {"Location": f"{api.url}/v2/status?job={number}"}
        api.script("POST", 202, body={}, headers=where)
        meta = await submit(connector, f"o{'0' * 30}{number}1-1")
        keys.add(connector.job_key(meta))
    assert len(keys) == 2
