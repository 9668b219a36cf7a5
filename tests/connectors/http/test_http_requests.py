"""What requests say, and what each answer to them means."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Config, Orchestrator, Registry
from orchestrator._clock import to_datetime
from orchestrator.connectors import Resource
from orchestrator.connectors.http import HttpConnector, HttpTask
from orchestrator.connectors.http._answers import OutcomeUnknownError
from orchestrator.connectors.http._client import BrokenError, NonsenseError
from orchestrator.errors import (
    AuthError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from orchestrator.io import DataFrame
from orchestrator.testing import ManualClock
from tests.connectors.http.api import LOCATED, TOKEN, Api, batches, submit
from tests.connectors.measures import measured

BY_ID: dict[str, Any] = {"submit": {"job_id": "id"}}


async def test_a_whole_life_with_outputs_of_their_own(api: Api, tmp_path: Any) -> None:
    """Submitted, polled, and its typed outputs fetched where they are."""
    definition = batches(api.url, policy={"poll_delay_min": "10ms"})
    registry = Registry()
    registry.register(HttpConnector(definition))
    engine = Orchestrator(tmp_path / "a.db", config=Config(), registry=registry)
    async with engine as orch:
        handle = await orch.submit(HttpTask("batch", definition), {"query": "abc"})
        assert await handle.result() == (
            3,
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            DataFrame("db://abc"),
        )
        handle = await orch.submit(
            HttpTask("batch", definition), {"query": "abc", "behave": "fail"}
        )
        failed = await handle.wait()
        assert (failed.phase, failed.error_message) == ("FAILED", "no table abc")


async def test_a_request_carries_values_where_they_belong(api: Api) -> None:
    """Typed in JSON, as text elsewhere; the token in the header that is declared."""
    more = {
        "query": {"rows": "{{.inputs.rows}}", "none": "{{.inputs.none}}", "a": "b c&d"},
        "headers": {"X-Run": "run {{ .execution.id }}-{{.execution.attempt}}"},
        "form": None,
        "json": {
            "rows": "{{.inputs.rows}}",
            "when": "{{.inputs.when}}",
            "text": "{{.inputs.query}}: {{.inputs.rows}} for {{.labels.team}}",
            "deep": [{"all": "{{.inputs}}", "labels": "{{.labels}}"}, 1, None, True],
            "to": "{{.output_prefix}}",
            "token": "{{.token}}",
        },
    }
    inputs = {"query": "str", "behave": "str", "rows": "list[int]", "none": "any"}
    inputs |= {"when": "duration"}
    definition = batches(api.url, submit=more, inputs=inputs)
    given: dict[str, Any] = {"rows": [1, 2], "none": None, "when": timedelta(hours=1)}
    await submit(HttpConnector(definition), **given)
    (asked,) = api.requests()
    assert asked["path"] == "/v2/batches?rows=1&rows=2&a=b+c%26d"
    assert asked["headers"]["x-run"] == f"run {TOKEN[1:33]}-1"
    assert asked["headers"]["idempotency-key"] == TOKEN
    assert asked["headers"]["content-type"] == "application/json"
    plain = {"query": "q", "behave": "succeed", "rows": [1, 2], "none": None}
    assert json.loads(asked["body"]) == {
        "rows": [1, 2],
        "when": "PT1H",
        "text": "q: [1, 2] for a b",
        "deep": [
            {"all": {**plain, "when": "PT1H"}, "labels": {"team": "a b"}},
            1,
            None,
            True,
        ],
        "to": "out/prefix",
        "token": TOKEN,
    }


@pytest.mark.parametrize("value", [float("inf"), object()])
async def test_what_json_cannot_say_is_not_sent(api: Api, value: object) -> None:
    """No job, for sure."""
    form = {"form": None, "json": "{{.inputs}}"}
    with pytest.raises(PermanentError, match="submit: "):
        await submit(HttpConnector(batches(api.url, submit=form)), query=value)
    assert api.requests() == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, PermanentError),
        (401, AuthError),
        (403, AuthError),
        (404, PermanentError),
        (405, PermanentError),
        (422, PermanentError),
        (429, ThrottledError),
        (408, OutcomeUnknownError),
        (409, OutcomeUnknownError),
        (500, OutcomeUnknownError),
        (502, OutcomeUnknownError),
        (503, OutcomeUnknownError),
        (302, OutcomeUnknownError),
        (303, OutcomeUnknownError),
        (0, BrokenError),
    ],
)
async def test_only_proof_says_that_no_job_was_made(
    api: Api, status: int, error: type[Exception]
) -> None:
    """All else, a 503 with Retry-After too, leaves the outcome unknown."""
    headers = {"Retry-After": "9", "Location": "/elsewhere"}
    api.script("POST", status, headers=headers, body={"error": {"text": "so it is"}})
    with pytest.raises(error) as caught:
        await submit(HttpConnector(batches(api.url)))
    assert type(caught.value) is error
    assert len(api.requests()) == 1
    if status >= 400:
        assert f"{status} so it is" in str(caught.value)
    if status == 429:
        assert getattr(caught.value, "retry_after", None) == 9


async def test_a_definition_may_know_more_proofs(api: Api) -> None:
    """A 503 of a gateway that has a proof for it is "later"."""
    more = {"not_created": [503, 408], "conflict": "refused"}
    connector = HttpConnector(batches(api.url, submit=more))
    api.script("POST", 503, headers={"Retry-After": "9"})
    with pytest.raises(TransientError) as caught:
        await submit(connector)
    assert caught.value.retry_after == 9
    api.script("POST", 409)
    with pytest.raises(PermanentError, match="409"):
        await submit(connector)
    api.script("POST", 400)
    with pytest.raises(OutcomeUnknownError):
        await submit(connector)


async def test_no_connection_means_not_created(api: Api) -> None:
    """The service has seen nothing."""
    connector = HttpConnector(batches("http://127.0.0.1:9"))
    with pytest.raises(TransientError, match="ConnectError"):
        await submit(connector)


async def test_an_answer_that_comes_too_late_is_unknown(api: Api) -> None:
    """The service may be at it."""
    definition = batches("http://192.0.2.1", allow_http=True)
    connector = HttpConnector({**definition, "limits": {"connect": "50ms"}})
    with pytest.raises(TransientError, match="Connect"):
        await submit(connector)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("no json", "no JSON"),
        (
            {"ref": 1},
            "^submit.job_id: 'id' finds nothing in the answer, which has ref$",
        ),
        ({"id": {}}, "^submit.job_id: 'id' finds nothing .* which has id$"),
        (
            {"id": "", **{f"k{i}": "s3cr" for i in range(10)}},
            "id, k0, .*k8, \\.\\.\\.$",
        ),
        ({}, "which is empty$"),
        ([1], "which is a list$"),
        ("", "which is empty$"),
    ],
)
async def test_a_job_without_an_id_is_unknown(api: Api, body: Any, words: str) -> None:
    """There is one, and nobody can tell which."""
    more = {**BY_ID, "find": {"job_id": "id"}}
    api.script("POST", 201, body=body)
    with pytest.raises(NonsenseError, match=words) as caught:
        await submit(HttpConnector(batches(api.url, **more)))
    assert "s3cr" not in str(caught.value)


async def test_a_place_without_an_id_is_named_as_it_is_declared(api: Api) -> None:
    """A header with the names of the headers, a search with those of the item."""
    connector = HttpConnector(batches(api.url))
    api.script("POST", 201, headers={"X-Job": "b-1"})
    told = r"^submit.job_id: 'header:Location/last' finds nothing .*x-job(?!.*b-1)"
    with pytest.raises(NonsenseError, match=f"(?i){told}"):
        await submit(connector)
    item = {"label": TOKEN, "id": "b-1"}
    api.script("GET", body={"page": {"entries": [item]}})
    told = "^find: find.job_id: 'ref.id' finds nothing .* which has label, id$"
    with pytest.raises(TransientError, match=told):
        await connector.find(TOKEN)


async def test_an_output_that_is_nowhere_is_told_with_its_path(
    api: Api, tmp_path: Any
) -> None:
    """The engine misses it; the definition's field says where it was looked for."""
    definition = batches(api.url, outputs={"rows": {"path": "data.lines"}})
    registry = Registry()
    registry.register(HttpConnector(definition))
    engine = Orchestrator(tmp_path / "a.db", config=Config(), registry=registry)
    async with engine as orch:
        task = HttpTask("batch", definition)
        ended = await (await orch.submit(task, {"query": "abc"})).wait()
    assert ended.error_code == "OUTPUTS_REJECTED"
    told = "outputs.rows.path: 'data.lines' finds nothing in the answer, which has data"
    assert ended.error_message
    assert f"(the connector says: {told})" in ended.error_message
    assert ended.message == told


async def test_a_conflict_adopts_by_its_answer_or_by_search(api: Api) -> None:
    """A search that fails or finds nothing is no proof either."""
    more = {"submit": {"conflict": "adopt"}}
    connector = HttpConnector(batches(api.url, **more))
    first = await submit(connector)
    api.script("POST /v2/batches", 409, headers={"Location": "/v2/batches/b-7"})
    assert (await submit(connector)).job_id == "b-7"
    api.script("POST /v2/batches", 409)
    assert await submit(connector) == first
    api.script("POST /v2/batches", 409, times=2)
    with pytest.raises(OutcomeUnknownError, match="finds no job"):
        await submit(connector, f"o{'0' * 31}9-1")
    api.script("GET /v2/batches", 403)
    with pytest.raises(OutcomeUnknownError, match="find failed"):
        await submit(connector)


async def test_a_token_may_be_the_jobs_id(api: Api) -> None:
    """Of a service that lets the client choose: PUT with no answer to read."""
    path = "/batches/{{.token}}"
    more = {"method": "PUT", "path": path, "job_id": None, "form": None}
    connector = HttpConnector(batches(api.url, submit=more, find=None))
    api.script("PUT", 201)
    assert (await submit(connector)).job_id == TOKEN


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, ResourceGoneError),
        (410, ResourceGoneError),
        (401, AuthError),
        (403, AuthError),
        (429, ThrottledError),
        (400, TransientError),
        (503, TransientError),
        (302, TransientError),
        (0, TransientError),
    ],
)
async def test_what_a_refused_poll_or_cancel_means(
    api: Api, status: int, error: type[Exception]
) -> None:
    """Nothing of it is the job's failure."""
    connector = HttpConnector(batches(api.url))
    meta = await submit(connector)
    for match, call in (("GET", connector.get), ("POST", connector.delete)):
        api.script(match, status, headers={"Retry-After": "11"})
        with pytest.raises(error) as caught:
            await call(meta)
        assert type(caught.value) is error
        if status in (429, 503):
            assert getattr(caught.value, "retry_after", None) == 11


async def test_a_job_that_ended_may_be_cancelled(api: Api) -> None:
    """409 says so; again and again it is no error."""
    connector = HttpConnector(batches(api.url))
    meta = await submit(connector)
    for _ in range(2):
        await connector.delete(meta)
    assert (await connector.get(meta)).phase == TaskExecution.ABORTED


async def test_without_a_cancel_request_a_job_is_waited_for(api: Api) -> None:
    """Nothing is sent."""
    connector = HttpConnector(batches(api.url, cancel=None))
    meta = await submit(connector)
    await connector.delete(meta)
    assert len(api.requests()) == 1


async def test_an_unknown_state_is_tolerated_and_told_once(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """So is none at all, or one that is a number."""
    connector = HttpConnector(batches(api.url))
    meta = await submit(connector)
    told = Resource(TaskExecution.UNDEFINED)
    for result in ("RESTING", "RESTING", 7, None):
        api.script("GET", body={"job": {"status": {"result": result}}})
        told = await connector.get(meta)
        assert told.phase == TaskExecution.UNDEFINED
        shown = json.dumps(result) if result != "RESTING" else result
        assert (told.message or "").startswith(f"unknown state '{shown}', polled on")
    assert "status.state: 'job.status.result || job.s" in (told.message or "")
    assert [r.args for r in caplog.records] == [
        ("batches", "RESTING"),
        ("batches", "7"),
        ("batches", "null"),
    ]


@pytest.mark.parametrize("body", ["<html>", "[" * 100_000, "9" * 5000])
async def test_a_nonsense_answer_is_looked_at_again(api: Api, body: str) -> None:
    """It says nothing of the job."""
    connector = HttpConnector(batches(api.url))
    meta = await submit(connector)
    api.script("GET", body=body)
    with pytest.raises(TransientError, match="no JSON"):
        await connector.get(meta)


async def test_an_answer_that_is_too_large_is_not_read(api: Api) -> None:
    """Whatever its length says."""
    connector = HttpConnector(batches(api.url, limits={"answer_bytes": 2000}))
    meta = await submit(connector)
    api.script("GET", body="x" * 100_000)
    with pytest.raises(TransientError, match="larger than 2000"):
        await connector.get(meta)


async def test_a_service_may_ask_to_be_left_alone_for_a_while(api: Api) -> None:
    """The last answer is repeated until then; a delete ends the wait."""
    clock = ManualClock()
    connector = HttpConnector(batches(api.url), clock=clock)
    meta = await submit(connector)
    body = {"job": {"status": {"lifecycle": "ACTIVE"}}}
    api.script("GET", 200, body=body, times=3, headers={"Retry-After": "60"})
    first = await connector.get(meta)
    clock.advance(59)
    assert await connector.get(meta) == first
    assert len(api.requests("/v2/batches/b-1")) == 1
    clock.advance(2)
    await connector.get(meta)
    assert len(api.requests("/v2/batches/b-1")) == 2
    await connector.delete(meta)
    await connector.get(meta)
    assert len(api.requests("/v2/batches/b-1")) == 4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("DATE", 90.0),
        ("PAST", 0.0),
        ("99999", 600.0),
        ("soon", None),
        ("-5", 0.0),
        ("nan", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date(
    api: Api, text: str, seconds: float | None
) -> None:
    """Cut to what the definition allows; nonsense is as if it were not there."""
    clock = ManualClock()
    now = to_datetime(clock.now_us())
    dates = {"DATE": now + timedelta(seconds=90), "PAST": now - timedelta(days=1)}
    value = format_datetime(dates[text], usegmt=True) if text in dates else text
    api.script("POST", 429, headers={"Retry-After": value})
    with pytest.raises(ThrottledError) as caught:
        await submit(HttpConnector(batches(api.url), clock=clock))
    waits = caught.value.retry_after
    assert waits == (None if seconds is None else pytest.approx(seconds, abs=1))


async def test_a_status_can_mean_at_work(api: Api) -> None:
    """202 with nothing to read, until the job is done."""
    connector = HttpConnector(batches(api.url, status={"running": [202]}))
    meta = await submit(connector)
    api.script("GET", 202)
    assert (await connector.get(meta)).phase == TaskExecution.RUNNING


async def test_a_url_of_the_service_is_polled_as_it_is(api: Api) -> None:
    """Relative ones are seen from the submit request."""
    connector = HttpConnector(batches(api.url, **LOCATED))
    meta = await submit(connector)
    assert meta.status_url == f"{api.url}/v2/batches/b-1"
    assert meta.job_id == "/v2/batches/b-1"
    assert (await connector.get(meta)).phase == TaskExecution.RUNNING


async def test_a_search_believes_only_what_is_proof(api: Api) -> None:
    """An empty list of the token's jobs; not a page of others', not a 404."""
    connector = HttpConnector(batches(api.url))
    meta = await submit(connector)
    assert await connector.find(TOKEN) == meta
    assert await connector.find(f"o{'0' * 31}2-1") is None
    others = {"page": {"entries": [{"ref": {"id": "b-9"}, "label": "another"}]}}
    for status, body, words in (
        (200, others, "does not search by token"),
        (200, {"page": {}}, "no list"),
        (404, {}, "404"),
        (500, {}, "500"),
    ):
        api.script("GET", status, body=body)
        with pytest.raises((TransientError, ResourceGoneError), match=words):
            await connector.find(TOKEN)
    whole = HttpConnector(batches(api.url, find={"lists_all": True, "absent": [404]}))
    api.script("GET", 200, body=others)
    assert await whole.find(TOKEN) is None
    api.script("GET", 404)
    assert await whole.find(TOKEN) is None


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"lifecycle": "ACTIVE"}, "ACTIVE"),
        ({"result": "ERROR"}, "ERROR"),
        ({"result": "ERROR", "problem": {"detail": ""}, "note": "bad"}, "bad"),
        ({"result": "ERROR", "problem": {"detail": "worse"}, "note": "bad"}, "worse"),
        ({"result": "NEW", "note": "odd"}, "unknown state 'NEW', polled on: odd"),
    ],
)
async def test_a_job_without_words_is_told_by_its_state(
    api: Api, status: dict[str, Any], message: str
) -> None:
    """In the service's own word, also of a failure: "the service says" is less."""
    look = {"message": "job.status.note"}
    connector = HttpConnector(batches(api.url, status=look))
    meta = await submit(connector)
    api.script("GET", body={"job": {"status": status}})
    assert (await connector.get(meta)).message == message


async def test_links_and_details_are_shown(api: Api) -> None:
    """Of a path and of a template; what is no web page is no link."""
    links = [
        {"name": "Console", "url": "https://console.example/{{.job_id}}"},
        {"name": "Logs", "path": "job.links.logs"},
        {"name": "Odd", "path": "job.links.odd"},
    ]
    status = {"custom_info": {"usd": "job.cost"}, "message": "job.note"}
    connector = HttpConnector(batches(api.url, log_links=links, status=status))
    meta = await submit(connector)
    told = {"logs": "http://logs.example/1", "odd": "javascript:alert(1)"}
    job = {"status": {"result": "ACTIVE"}, "links": told, "cost": 1.5, "note": "half"}
    api.script("GET", body={"job": {**job, "percent": 50}})
    resource = await connector.get(meta)
    assert [(x.name, x.uri) for x in resource.log_links or []] == [
        ("Console", "https://console.example/b-1"),
        ("Logs", "http://logs.example/1"),
    ]
    assert resource.message == "half"
    assert resource.custom_info == {"state": "ACTIVE", "usd": 1.5, "progress": 50}
    api.script("GET", body={"job": {**job, "percent": 75}})
    assert await measured(connector, meta) == {"usd": 1.5, "progress": 75}


async def test_a_job_id_with_slashes_stays_one_segment(api: Api) -> None:
    """Also what the service says is data."""
    more = {**BY_ID, "find": {"job_id": "id"}}
    connector = HttpConnector(batches(api.url, **more))
    api.script("POST", 201, body={"id": "../../admin"})
    meta = await submit(connector)
    with pytest.raises(ResourceGoneError):
        await connector.get(meta)
    assert api.requests()[-1]["path"] == "/v2/batches/..%2F..%2Fadmin"
    api.script("POST", 201, body={"id": ".."})
    meta = await submit(connector)
    with pytest.raises(TransientError, match="leads elsewhere"):
        await connector.get(meta)
