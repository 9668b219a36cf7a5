"""Jobs behind an HTTP API: an Orchestrator in the lifespan of a FastAPI app.

    pip install fastapi uvicorn httpx
    uvicorn --app-dir examples 12_fastapi:app

``POST /jobs`` accepts a job, and with the same ``Idempotency-Key`` the same one;
``GET /jobs/ID`` tells how it does; ``DELETE /jobs/ID`` aborts it; ``GET /counts`` tells
how many there are. A job that was accepted survives the server: whoever opens the
database next goes on with it.

Run as a program, this serves itself for a moment and drives itself with httpx.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import _missing  # noqa: F401 - without its library it ends in one line
import httpx
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from orchestrator import Execution, Orchestrator
from orchestrator.connectors import ConnectorRegistry
from orchestrator.connectors.process import ProcessConnector, ProcessTask
from orchestrator.errors import (
    ExecutionNotFoundError,
    IdempotencyConflictError,
    InvalidInputError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")
SLEEP = "import sys, time; time.sleep(float(sys.argv[1])); print('slept', sys.argv[1])"
REPORT = ProcessTask(
    "report",
    command=[sys.executable, "-c", SLEEP, "{{.inputs.seconds}}"],
    inputs={"seconds": float},
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the engine as long as the app is served; jobs go on without either."""
    ConnectorRegistry.register(ProcessConnector(), override=True)
    async with Orchestrator(DATABASE) as orch:
        app.state.orchestrator = orch
        yield


app = FastAPI(lifespan=lifespan)


class Job(BaseModel):
    """What a client asks for."""

    seconds: float = Field(ge=0, le=3600)


def engine(request: Request) -> Orchestrator:
    """Return the app's Orchestrator."""
    found: Orchestrator = request.app.state.orchestrator
    return found


def shown(execution: Execution) -> dict[str, Any]:
    """Return what clients see of an execution: never all of the row."""
    return {
        "id": execution.id,
        "phase": execution.phase,
        "message": execution.message,
        "outputs": execution.outputs,
        "error": execution.error_message,
    }


@app.exception_handler(InvalidInputError)
async def refused(_: Request, error: InvalidInputError) -> JSONResponse:
    """Answer what the engine refuses as 422, as FastAPI does with what it refuses."""
    return JSONResponse({"field": error.field, "detail": str(error)}, 422)


@app.post("/jobs", status_code=202)
async def submit(
    job: Job,
    request: Request,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:
    """Accept a job. Answered 202, it is on disk."""
    inputs = {"seconds": job.seconds}
    try:
        handle = await engine(request).submit(
            REPORT, inputs, idempotency_key=idempotency_key
        )
    except IdempotencyConflictError as error:
        raise HTTPException(409, "this key belongs to another request") from error
    except StoreUnavailableError as error:  # nothing was accepted
        raise HTTPException(503, "try again", {"Retry-After": "1"}) from error
    return shown(await handle.get())


@app.get("/jobs/{job_id}")
async def status(job_id: str, request: Request) -> dict[str, Any]:
    """Tell how a job does."""
    return shown(await found(job_id, request))


@app.delete("/jobs/{job_id}", status_code=202)
async def abort(job_id: str, request: Request) -> dict[str, Any]:
    """Wish a job's end; it is durable at once, and carried out by the engine."""
    execution = await found(job_id, request)
    await engine(request).abort(execution.id, reason="asked by a client")
    return shown(await engine(request).get(execution.id))


@app.get("/counts")
async def counts(request: Request) -> list[dict[str, Any]]:
    """Tell how many executions there are; JSON has no pairs as keys."""
    return [
        {"task_type": task_type, "phase": phase, "executions": number}
        for (task_type, phase), number in (await engine(request).counts()).items()
    ]


async def found(job_id: str, request: Request) -> Execution:
    """Return an execution, or end as 404."""
    try:
        return await engine(request).get(job_id)
    except ExecutionNotFoundError as error:
        raise HTTPException(404, "no such job") from error


async def ended(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """Ask until a job has ended, as clients do."""
    while True:
        job: dict[str, Any] = (await client.get(f"/jobs/{job_id}")).json()
        if job["phase"] in ("SUCCEEDED", "FAILED", "ABORTED", "TIMED_OUT"):
            return job
        await asyncio.sleep(0.1)


async def drive(client: httpx.AsyncClient) -> None:
    """Do what a client would."""
    key = {"Idempotency-Key": "monthly-2026-11"}
    first = await client.post("/jobs", json={"seconds": 0.2}, headers=key)
    again = await client.post("/jobs", json={"seconds": 0.2}, headers=key)
    other = await client.post("/jobs", json={"seconds": 0.3}, headers=key)
    same = first.json()["id"] == again.json()["id"]
    print("accepted:", first.status_code, "the same:", same)
    print("another request with that key:", other.status_code)
    done = await ended(client, first.json()["id"])
    print(f"{done['phase']}: {shlex.quote(done['outputs']['stdout'].strip())}")
    long = (await client.post("/jobs", json={"seconds": 600})).json()["id"]
    print("deleted:", (await client.delete(f"/jobs/{long}")).status_code)
    print("the long one:", (await ended(client, long))["phase"])
    print("unknown:", (await client.get(f"/jobs/{'0' * 32}")).status_code)
    key = {"Idempotency-Key": ""}
    wrong = await client.post("/jobs", json={"seconds": 1}, headers=key)
    print("refused:", wrong.status_code, wrong.json()["field"])
    for count in (await client.get("/counts")).json():
        print(*count.values())


async def main() -> None:
    """Serve on a free port until the client has seen enough."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not (server.started or serving.done()):  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.05)
    if not serving.done():
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await drive(client)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
