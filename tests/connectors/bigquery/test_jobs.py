"""Jobs: made once, looked at, cancelled, and what they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from orchestrator.connectors.bigquery import BigQueryConnector, BigQueryMeta
from orchestrator.errors import PermanentError, ResourceGoneError, TransientError
from orchestrator.io import DataFrame
from tests.connectors.bigquery.kit import LOCATION, PROJECT, Attempt, attempt, task
from tests.connectors.measures import measured
from tests.emulators import Running, State

if TYPE_CHECKING:
    from orchestrator._connector import Resource

SLOW = "SELECT 1 AS one /* sleep=600 */"


def google(service: Running) -> bigquery.Client:
    """Return Google's client, to look from outside."""
    return bigquery.Client(
        PROJECT,
        AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": service.url},
    )


async def made(
    service: Running, connector: BigQueryConnector, one: Attempt
) -> tuple[BigQueryMeta, bigquery.QueryJob]:
    """Create *one* and return its handle, and the job as Google's client sees it."""
    meta = await one.create(connector)
    job = google(service).get_job(one.token, PROJECT, LOCATION)
    assert isinstance(job, bigquery.QueryJob)
    return meta, job


async def ended(connector: BigQueryConnector, one: Attempt) -> Resource:
    """Create a job that ends at once and return what is told of it."""
    return await connector.get(await one.create(connector))


async def test_a_job_is_made_once_however_often_it_is_created(
    service: Running, connector: BigQueryConnector
) -> None:
    """The second create is a 409 in truth, and the same handle to us; ended or not."""
    for one in (attempt(SLOW), attempt()):
        first = await one.create(connector)
        assert await one.create(BigQueryConnector(endpoint=service.url)) == first
        assert service.count(one.token) == 1
        assert service.calls("create")[one.token] == 2
        assert connector.job_key(first) == f"{PROJECT}:{LOCATION}.{one.token}"


async def test_a_job_of_somebody_else_is_not_taken_for_ours(
    service: Running, connector: BigQueryConnector
) -> None:
    """A job with our id without our label, or with another one's, is refused."""
    for labels in ({}, {"orchestrator-token": "another"}):
        one = attempt()
        config = bigquery.QueryJobConfig(labels=labels)
        google(service).query(
            "SELECT 2",
            job_config=config,
            job_id=one.token,
            location=LOCATION,
            job_retry=None,
        )
        with pytest.raises(PermanentError, match="not ours"):
            await one.create(connector)


async def test_a_job_without_labels_is_ours_if_its_query_is(
    service: Running, connector: BigQueryConnector
) -> None:
    """Some emulators forget labels."""
    one = attempt("SELECT 3")
    google(service).query(
        "SELECT 3", job_id=one.token, location=LOCATION, job_retry=None
    )
    assert (await one.create(connector)).job_id == one.token


async def test_labels_and_configuration_are_the_jobs(
    service: Running, connector: BigQueryConnector
) -> None:
    """Ours, the configured ones, and the execution's in BigQuery's spelling."""
    table = {"projectId": PROJECT, "datasetId": "d", "tableId": "t"}
    config = bigquery.QueryJobConfig(
        destination=bigquery.TableReference.from_api_repr(table),
        write_disposition="WRITE_TRUNCATE",
        maximum_bytes_billed=10**12,
        priority="BATCH",
        use_query_cache=False,
        labels={"team": "data"},
        job_timeout_ms=60_000,
    )
    one = attempt(job=config, labels={"Owner": "Ann Ö", "7": "no key", "team": "x"})
    meta, job = await made(service, connector, one)
    assert job.labels == {
        "orchestrator-token": one.token,
        "orchestrator-execution": one.token[1:33],
        "orchestrator-attempt": "1",
        "orchestrator-task": "the_task",
        "team": "data",
        "owner": "ann__",
    }
    assert (job.priority, job.use_query_cache) == ("BATCH", False)
    assert (job.maximum_bytes_billed, job.use_legacy_sql) == (10**12, False)
    assert job.write_disposition == "WRITE_TRUNCATE"
    assert int(job.configuration.job_timeout_ms) == 60_000
    told = await connector.get(meta)
    assert told.outputs == {"results": DataFrame(f"bq://{PROJECT}:d.t")}


async def test_the_query_part_alone_does_as_configuration(
    service: Running, connector: BigQueryConnector
) -> None:
    """A plain mapping, and parameters of one's own, structs included."""
    point = bigquery.StructQueryParameter(
        "point",
        bigquery.ScalarQueryParameter("x", "INT64", 1),
        bigquery.ScalarQueryParameter("y", "STRING", "b"),
    )
    own = {"priority": "BATCH", "queryParameters": [point.to_api_repr()]}
    one = attempt("SELECT @point AS p, @n AS n", {"n": int}, {"n": 2}, job=own)
    _, job = await made(service, connector, one)
    assert job.priority == "BATCH"
    assert [dict(row) for row in job.result()] == [{"p": {"x": 1, "y": "b"}, "n": 2}]


async def test_a_running_job_tells_its_progress_and_where_to_look(
    service: Running, connector: BigQueryConnector
) -> None:
    """PENDING is queued; RUNNING has stages; the link leads to the console."""
    queued = await attempt("SELECT 1 /* queue=600 */").create(connector)
    assert (await connector.get(queued)).phase == TaskExecution.QUEUED
    one = attempt(SLOW)
    told = await ended(connector, one)
    assert told.phase == TaskExecution.RUNNING
    assert told.outputs is None
    assert told.custom_info
    assert told.custom_info["statement_type"] == "SELECT"
    assert told.custom_info["stages"] == 1
    assert told.custom_info["units_pending"] == 40
    assert told.log_links
    assert told.log_links[0].uri == (
        "https://console.cloud.google.com/bigquery?project=shop-project"
        f"&j=bq:{LOCATION}:{one.token}&page=queryresults"
    )


async def test_an_ended_job_tells_its_cost_and_its_results(
    connector: BigQueryConnector,
) -> None:
    """The reference is to the anonymous table; a task without outputs has none."""
    one = attempt()
    meta = await one.create(connector)
    told = await connector.get(meta)
    assert told.phase == TaskExecution.SUCCEEDED
    uri = f"bq://{PROJECT}:_anonymous.anon_{LOCATION}_{one.token}"
    assert told.outputs == {"results": DataFrame(uri)}
    assert told.custom_info
    assert told.custom_info["total_bytes_processed"] == 15_000
    assert told.custom_info["total_bytes_billed"] == 10_485_760
    assert told.custom_info["slot_millis"] > 0
    assert told.custom_info["cache_hit"] is False
    assert told.custom_info["stages_complete"] == told.custom_info["stages"] == 4
    metrics = await measured(connector, meta)
    assert metrics["total_bytes_billed"] == 10_485_760
    assert metrics["slot_millis"] == told.custom_info["slot_millis"]
    assert "cache_hit" not in metrics
    bare = await ended(connector, attempt(output_dataframe_type=None))
    assert (bare.phase, bare.outputs) == (TaskExecution.SUCCEEDED, None)


@pytest.mark.parametrize(
    ("query", "phase", "text"),
    [
        ("SELEC 1", TaskExecution.FAILED, "invalidQuery: near"),
        ("SELECT * FROM d.t", TaskExecution.FAILED, "notFound"),
        (
            "SELECT 1 /* fail=backendError */",
            TaskExecution.RETRYABLE_FAILED,
            "backendError: as scripted",
        ),
        (
            "SELECT 1 /* fail=resourcesExceeded */",
            TaskExecution.RETRYABLE_FAILED,
            "resourcesExceeded",
        ),
        ("SELECT 1 /* fail=newReason */", TaskExecution.FAILED, "newReason"),
    ],
)
async def test_a_failed_job_tells_why(
    connector: BigQueryConnector, query: str, phase: int, text: str
) -> None:
    """By the reason of its error."""
    told = await ended(connector, attempt(query))
    assert told.phase == phase
    assert text in (told.message or "")
    assert told.custom_info
    assert told.custom_info["error"]["reason"]


async def test_a_deleted_job_is_aborted_once_it_says_so(
    service: Running, connector: BigQueryConnector
) -> None:
    """While it is being cancelled it runs; a delete may be repeated, an end stays."""
    meta = await attempt(SLOW).create(connector)
    await connector.delete(meta)
    await connector.delete(meta)
    told = await connector.get(meta)
    assert told.phase == TaskExecution.ABORTED
    assert "stopped" in (told.message or "")
    slow = attempt("SELECT 1 /* sleep=600 cancel=600 */")
    meta = await slow.create(connector)
    await connector.delete(meta)
    assert (await connector.get(meta)).phase == TaskExecution.RUNNING
    service.end(slow.token, State.ABORTED)
    done = await attempt().create(connector)
    await connector.delete(done)
    assert (await connector.get(done)).phase == TaskExecution.SUCCEEDED


async def test_a_job_is_gone_only_where_it_was(
    service: Running, connector: BigQueryConnector
) -> None:
    """Another location, or an unknown id, is a 404; another endpoint says nothing."""
    meta = await attempt(SLOW).create(connector)
    elsewhere = BigQueryMeta(meta.job_id, PROJECT, "US", service.url)
    for call in (connector.get, connector.delete):
        with pytest.raises(ResourceGoneError):
            await call(elsewhere)
        with pytest.raises(TransientError, match="talks to"):
            await call(BigQueryMeta(meta.job_id, PROJECT, LOCATION))
    assert service.witness.live_jobs()


async def test_the_same_token_in_another_location_would_be_a_second_job(
    service: Running, connector: BigQueryConnector
) -> None:
    """Why the location is a field of the task that has to be named."""
    one = attempt()
    await one.create(connector)
    other = attempt(location="US")
    other.token = one.token
    await other.create(connector)
    assert service.count(one.token) == 2
    with pytest.raises(ValueError, match="Location must be named"):
        task(location=None)
