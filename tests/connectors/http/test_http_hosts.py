"""Credentials go to the definition's own hosts, whatever inputs and service say."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.connectors.http import HttpConnector, HttpMeta, _hosts
from orchestrator.connectors.http._client import Call, Client, NonsenseError
from orchestrator.errors import ConfigurationError, PermanentError, TransientError
from tests.connectors.http.api import (
    LOCATED,
    Api,
    batches,
    merged,
    submit,
)

BEARER = {"type": "bearer", "token": {"secret": "BATCH_TOKEN"}}
SECRET = {"bearer_token": "correct-horse-battery"}


def bearer(api: Api, **more: Any) -> HttpConnector:
    """Return a connector with a secret."""
    api.require("Bearer correct-horse-battery")
    return HttpConnector(batches(api.url, auth=BEARER, **more))


async def test_a_redirect_is_not_followed(api: Api, other: Api) -> None:
    """Neither with credentials nor without; for a poll that is "later"."""
    connector = bearer(api)
    meta = await submit(connector, secrets=SECRET)
    api.script("GET", 302, headers={"Location": f"{other.url}/v2/batches/b-1"})
    with pytest.raises(TransientError, match="redirect that is not followed"):
        await connector.get(meta, **SECRET)
    assert other.requests() == []


async def test_a_redirect_that_is_allowed_ends_at_a_foreign_host(
    api: Api, other: Api
) -> None:
    """Own hosts are followed to, with credentials; others never see a request."""
    connector = bearer(api, redirects=2)
    meta = await submit(connector, secrets=SECRET)
    api.script("GET /v2/batches/b-1", 307, headers={"Location": "/v2/batches/b-1?x=1"})
    assert (await connector.get(meta, **SECRET)).custom_info is not None
    api.script("GET", 302, headers={"Location": f"{other.url}/v2/batches/b-1"})
    with pytest.raises(TransientError, match="nor in allowed_hosts"):
        await connector.get(meta, **SECRET)
    assert other.requests() == []
    api.script("GET", 302, times=9, headers={"Location": "/again"})
    with pytest.raises(TransientError, match="302"):
        await connector.get(meta, **SECRET)


async def test_a_named_host_may_be_redirected_to(api: Api, other: Api) -> None:
    """It shows that the tests above would see a request that got through."""
    hosts = [other.url.removeprefix("http://")]
    connector = bearer(api, redirects=1, allowed_hosts=hosts)
    meta = await submit(connector, secrets=SECRET)
    api.script("GET", 302, headers={"Location": f"{other.url}/v2/batches/b-1"})
    other.script("GET", body={"job": {"status": {"result": "OK"}}}, times=9)
    await connector.get(meta, **SECRET)
    (asked,) = other.requests("/v2/batches/b-1")[:1]
    assert asked["headers"]["authorization"] == "Bearer correct-horse-battery"


async def test_a_location_at_a_foreign_host_is_refused_and_the_job_unknown(
    api: Api, other: Api
) -> None:
    """There is a job, so nothing asserts that there is none."""
    connector = bearer(api, **LOCATED)
    foreign = f"{other.url}/v2/batches/b-1"
    api.script("POST /v2/batches", 202, headers={"Location": foreign})
    with pytest.raises(NonsenseError, match="nor in allowed_hosts"):
        await submit(connector, secrets=SECRET)
    assert other.requests() == []


async def test_a_handle_with_a_foreign_url_is_not_polled(api: Api, other: Api) -> None:
    """Rows are data, too."""
    connector = bearer(api, **LOCATED)
    host = api.url.removeprefix("http://")
    meta = HttpMeta("b-1", host, f"{other.url}/v2/batches/b-1")
    with pytest.raises(TransientError, match="nor in allowed_hosts"):
        await connector.get(meta, **SECRET)
    assert other.requests() == []


async def test_a_changed_definition_does_not_poll_the_wrong_host(
    api: Api, other: Api
) -> None:
    """A job belongs to the host that it was submitted to."""
    meta = await submit(HttpConnector(batches(api.url)))
    moved = HttpConnector(batches(other.url))
    for call in (moved.get, moved.delete):
        with pytest.raises(TransientError, match="by now"):
            await call(meta)
    assert other.requests() == []


IN_PATH = {"submit": {"path": "/batches/{{.inputs.query}}/run", "form": None}}


@pytest.mark.parametrize("value", ["..", ".", ""])
async def test_an_input_cannot_leave_its_place_in_a_path(api: Api, value: str) -> None:
    """Refused before anything is sent."""
    connector = HttpConnector(batches(api.url, **IN_PATH))
    with pytest.raises(PermanentError, match="submit: "):
        await submit(connector, query=value)
    assert api.requests() == []


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("../../admin", "..%2F..%2Fadmin"),
        ("//evil.example/x", "%2F%2Fevil.example%2Fx"),
        ("https://evil.example", "https%3A%2F%2Fevil.example"),
        ("@evil.example", "%40evil.example"),
        ("a?b#c", "a%3Fb%23c"),
        ("%2e%2e", "%252e%252e"),
        ("a\r\nX: y", "a%0D%0AX%3A%20y"),
        ("\\..\\é", "%5C..%5C%C3%A9"),
    ],
)
async def test_an_input_in_a_path_is_one_encoded_segment(
    api: Api, value: str, sent: str
) -> None:
    """Whatever it holds, the host and the other segments stay."""
    connector = HttpConnector(batches(api.url, **IN_PATH))
    with pytest.raises(PermanentError, match="404"):
        await submit(connector, query=value)
    assert [r["path"] for r in api.requests()] == [f"/v2/batches/{sent}/run"]


async def test_an_input_cannot_choose_the_host_by_following_no_path(api: Api) -> None:
    """With a base URL that has no path, an @ would begin the host."""
    definition = batches(api.url, submit={"path": "/{{.inputs.query}}", "form": None})
    connector = HttpConnector(merged(definition, {"base_url": api.url}))
    with pytest.raises(PermanentError, match="404"):
        await submit(connector, query="@evil.example:80/")
    assert api.requests()[0]["path"] == "/%40evil.example%3A80%2F"


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "a\0b", "naïve"])
async def test_an_input_cannot_add_a_header(api: Api, value: str) -> None:
    """Refused before anything is sent."""
    headers = {"X-Query": "{{.inputs.query}}"}
    connector = HttpConnector(batches(api.url, submit={"headers": headers}))
    with pytest.raises(PermanentError, match="header X-Query"):
        await submit(connector, query=value)
    assert api.requests() == []


async def test_values_are_never_templates(api: Api) -> None:
    """What an input holds is not filled in again."""
    connector = HttpConnector(batches(api.url))
    await submit(connector, query="{{.token}}")
    assert "query=%7B%7B.token%7D%7D" in api.requests()[0]["body"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://batch.example", "plain HTTP"),
        ("ftp://batch.example", "https://"),
        ("https://user:pw@batch.example", "credentials"),
        ("https://batch.example\\@evil.example", "backslash"),
        ("https://batch.example/a/../b", "leads elsewhere"),
        ("https://batch.example/?a=b", "template"),
        ("batch.example", "https://"),
    ],
)
def test_a_base_url_that_is_not_safe_is_refused(url: str, words: str) -> None:
    """The field is named."""
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        HttpConnector(merged(batches(url), {"base_url": url}))
    assert words in str(caught.value)


def test_plain_http_can_be_allowed() -> None:
    """Then the definition says so, for all to see."""
    connector = HttpConnector(batches("http://batch.internal", allow_http=True))
    assert connector.definition.hosts.base == "batch.internal"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://A.example.:443/x", "a.example"),
        ("https://a.example:8443", "a.example:8443"),
        ("http://[::1]:80/", "[::1]"),
        ("http://LOCALHOST:8080", "localhost:8080"),
    ],
)
def test_a_host_has_one_spelling(url: str, host: str) -> None:
    """Case, a final dot and the usual port say nothing."""
    assert _hosts.of(url, allow_http=False) == host


def test_a_downgrade_to_http_is_another_host() -> None:
    """The same name at port 80 is not what was declared."""
    hosts = _hosts.Hosts("a.example", frozenset(), allow_http=False)
    with pytest.raises(ValueError, match="plain HTTP"):
        hosts.check("http://a.example/")
    with pytest.raises(ValueError, match="nor in allowed_hosts"):
        hosts.check("https://a.example:444/")


async def _keys(connector: HttpConnector, api: Api, locations: list[str]) -> set[str]:
    """Return the keys of jobs whose submits are answered with these locations."""
    keys = set()
    for number, location in enumerate(locations):
        api.reset()
        api.script("POST", 202, body={"id": "7"}, headers={"Location": location})
        keys.add(connector.job_key(await submit(connector, f"o{number:032}-1")))
    return keys


def _located(api: Api, job_id: str | None, **more: Any) -> HttpConnector:
    submit = {"job_id": job_id, "status_url": "header:Location"}
    more = {**LOCATED, "log_links": None, "submit": submit, **more}
    return HttpConnector(batches(api.url, **more))


async def test_jobs_whose_urls_differ_in_a_parameter_are_two_jobs(api: Api) -> None:
    """One key for all of them: one entry in the ledger, one remembered answer."""
    urls = [f"{api.url}/v2/status?job={number}" for number in (1, 2)]
    assert len(await _keys(_located(api, None), api, urls)) == 2


@pytest.mark.parametrize("job_id", [None, "id"])
async def test_jobs_of_one_name_at_two_hosts_are_two_jobs(
    api: Api, other: Api, job_id: str | None
) -> None:
    """Each region may count for itself; one job at its own host has one key."""
    hosts = [other.url.removeprefix("http://")]
    connector = _located(api, job_id, allowed_hosts=hosts)
    urls = [f"{host.url}/v2/status/7" for host in (api, other, api)]
    name = "7" if job_id else "/v2/status/7"
    assert await _keys(connector, api, urls) == {
        f"{host.url.removeprefix('http://')}/{name}" for host in (api, other)
    }


async def test_what_one_host_says_of_a_job_is_not_told_of_its_namesake(
    api: Api, other: Api
) -> None:
    """An answer that is kept for a while is the job's, and no other host's job's."""
    connector = _located(api, "id", allowed_hosts=[other.url.removeprefix("http://")])
    said = {api: "ACTIVE", other: "DONE"}
    metas = {}
    for host, state in said.items():
        located = {"Location": f"{host.url}/v2/status/7"}
        api.script("POST", 202, body={"id": "7"}, headers=located)
        metas[host] = await submit(connector)
        body = {"job": {"status": {"lifecycle": state}}}
        host.script("GET", 200, body=body, headers={"Retry-After": "60"})
    told = [(await connector.get(meta)).custom_info for meta in metas.values()]
    assert [info and info["state"] for info in told] == list(said.values())


async def test_one_job_at_changing_hosts_has_one_key_if_it_is_polled_by_path(
    api: Api,
) -> None:
    """What the service says of hosts is not looked at without a status_url."""
    urls = [f"https://region-{number}.example/v2/status/7" for number in (1, 2)]
    key = f"{api.url.removeprefix('http://')}/7"
    assert await _keys(HttpConnector(batches(api.url)), api, urls) == {key}


async def test_ablation_without_the_check_the_secret_gets_out(
    api: Api, other: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second server would have seen the header: the tests above can fail."""
    monkeypatch.setattr(_hosts.Hosts, "check", lambda _, url: url)
    client = Client(bearer(api, redirects=1).definition)
    api.script("GET", 302, headers={"Location": f"{other.url}/x"})
    call = Call(method="GET", url=f"{api.url}/v2/batches/b-1")
    await client.send(call, {"Authorization": "Bearer leak"})
    assert other.requests()[0]["headers"]["authorization"] == "Bearer leak"
