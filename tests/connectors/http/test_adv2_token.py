"""The access token that a service quotes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.connectors.http import HttpConnector
from tests.connectors.http.api import batches, submit
from tests.connectors.http.test_http_auth import OAUTH

if TYPE_CHECKING:
    from tests.connectors.http.api import Api

ACCESS = "access-token-1-of-this-service"


async def test_an_access_token_is_in_no_link_and_no_detail(api: Api) -> None:
    """Only the connector knows it: the engine, which hides secrets, does not."""
    api.require("oauth")
    auth = {
        "type": "oauth2",
        "token_url": f"{api.url}/oauth/token",
        "client_id": {"secret": "BATCH_ID"},
        "client_secret": {"secret": "BATCH_SECRET"},
    }
    connector = HttpConnector(
        batches(
            api.url,
            auth=auth,
            log_links=[{"name": "ui", "path": "job.ui"}],
            status={"custom_info": {"seen": "job.seen"}, "message": "job.note"},
        )
    )
    meta = await submit(connector, secrets=OAUTH)
    body = {
        "job": {
            "status": {"lifecycle": "ACTIVE"},
            "ui": f"https://ui.example/?access_token={ACCESS}",
            "seen": [{"authorization": f"Bearer {ACCESS}"}],
            "note": f"called with {ACCESS}",
        }
    }
    api.script("GET", 200, body=body)
    resource = await connector.get(meta, **OAUTH)
    assert ACCESS not in str(resource.message)
    assert ACCESS not in str(resource.log_links)
    assert ACCESS not in json.dumps(resource.custom_info)
