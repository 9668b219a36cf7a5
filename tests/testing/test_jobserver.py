"""The kit's job server: what a test scripts and asks, from outside its thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.testing import Fault, JobServer, JobSpec, ManualClock, Rule, State
from tests.testing.conftest import client_of

if TYPE_CHECKING:
    from tests.jobserver.client import Answer, JobClient

TOKEN = "o0123456789abcdef0123456789abcdef-1"  # noqa: S105 - the name of a job


async def create(client: JobClient, kind: str = "I", **body: Any) -> Answer:
    """Create a job with the one token."""
    return await client.request("POST", f"/{kind}/jobs", {"token": TOKEN, **body})


async def state(client: JobClient, job_id: str, kind: str = "I") -> str:
    """Return what the service says of a job."""
    answer = await client.request("GET", f"/{kind}/jobs/{job_id}")
    return str(answer.body["state"])


async def test_jobs_live_by_the_clock_that_was_given() -> None:
    """Queued, running, ended, and told to end: all by moving a manual clock."""
    clock = ManualClock()
    server = JobServer(JobSpec(queue_s=10, run_s=50), clock=clock)
    async with server, client_of(server) as client:
        first = (await create(client)).body["id"]
        assert await state(client, first) == "QUEUED"
        clock.advance(10)
        assert await state(client, first) == "RUNNING"
        clock.advance(50)
        assert await state(client, first) == "SUCCEEDED"
        second = (await create(client, "N", spec={"until_told": True})).body["id"]
        clock.advance(10_000)
        assert await state(client, second, "N") == "RUNNING"
        server.end(second, State.FAILED)
        assert await state(client, second, "N") == "FAILED"
        with pytest.raises(LookupError, match="job-99"):
            server.end("job-99")
    assert [job.state for job in server.jobs(TOKEN)] == ["SUCCEEDED", "FAILED"]
    assert len(server.jobs("another")) == 0


async def test_an_answer_is_lost_after_the_job_was_made() -> None:
    """The ledger has the call, its fault, and one job; without rules all goes well."""
    server = JobServer(rules=(Rule(do=Fault.LOSE, verb="create", times=1),))
    async with server, client_of(server) as client:
        with pytest.raises(ConnectionError):
            await create(client)
        assert server.count_jobs(TOKEN) == 1
        assert (await create(client)).status == 200
        server.script(Rule(do=Fault.REFUSE, status=429, retry_after=7.0))
        refused = await create(client)
        assert (refused.status, refused.headers["retry-after"]) == (429, "7")
        server.script()
        assert (await create(client)).status == 200
    calls = server.calls("create")
    assert [call.fault for call in calls] == ["lose", None, "refuse", None]
    assert [call.executed for call in calls] == [True, True, False, True]
    assert server.count_jobs(TOKEN) == 1
    assert server.calls("get") == []


async def test_a_job_is_listed_late_and_an_answer_is_held_back() -> None:
    """Find says 404 until the time has come; the answer until it is released."""
    clock = ManualClock()
    held = Rule(do=Fault.WITHHOLD, verb="delete")
    server = JobServer(JobSpec(hidden_s=5), (held,), clock=clock)
    async with server, client_of(server) as client:
        job_id = (await create(client, "L")).body["id"]
        find = ("GET", f"/L/jobs?token={TOKEN}")
        assert (await client.request(*find)).status == 404
        clock.advance(5)
        assert (await client.request(*find)).body == {"id": job_id}
        waiting = asyncio.create_task(client.request("DELETE", f"/L/jobs/{job_id}"))
        while not server.calls("delete"):  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0)
        assert not waiting.done()
        while not waiting.done():
            server.release(TOKEN)
            await asyncio.sleep(0)
        assert (await waiting).status == 200


def test_it_serves_from_a_thread_and_leaves_none_behind() -> None:
    """Sync programs use it too; the ledger stays readable."""
    with JobServer() as server:
        assert asyncio.run(_create_at(server)) == "job-1"
        names = [thread.name for thread in threading.enumerate()]
        assert "orchestrator-job-server" in names
    names = [thread.name for thread in threading.enumerate()]
    assert "orchestrator-job-server" not in names
    assert len(server.calls()) == 1


async def _create_at(server: JobServer) -> str:
    async with client_of(server) as client:
        return str((await create(client)).body["id"])


def test_a_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread's error comes out where it was started."""

    async def refuse(*_: Any) -> int:
        raise OSError("no address")

    server = JobServer()
    monkeypatch.setattr(server._listener, "start", refuse)
    with pytest.raises(OSError, match="no address"), server:
        pass
