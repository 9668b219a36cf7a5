"""Flyte's generated client, run where the real package is: calls every RPC.

``python -m tests.flyte.real_client HOST:PORT [durable]`` prints one line per RPC. It
imports nothing of this library, as the other Python does not have it.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
from flyteidl2.connector import connector_pb2, service_pb2_grpc
from flyteidl2.core.execution_pb2 import TaskExecution
from google.protobuf import text_format

GOLDEN = Path(__file__).with_name("golden")
LIMIT_S = 30.0
SUCCEEDED = "SUCCEEDED: text, whole, real, yes; key of 21 characters"
UNKNOWN = "NOT_FOUND Cannot find connector for task type: none."


def _create_request(phase: str, run: str, mode: str) -> Any:
    """Return the stored create, for another phase and run."""
    request = connector_pb2.CreateTaskRequest()
    text = (GOLDEN / "create.request.txtpb").read_text()
    text_format.Parse(text.partition("\n")[2], request)
    for item in request.inputs.literals:
        if item.name == "phase":
            item.value.scalar.primitive.string_value = phase
    identifier = request.task_execution_metadata.task_execution_id
    identifier.node_execution_id.execution_id.name = run
    if mode == "durable":  # it takes secrets by reference only
        request.ClearField("connection")
        request.template.custom.update({"secrets": {"api_key": "API_KEY"}})
    return request


async def _until_terminal(jobs: Any, request: Any) -> Any:
    terminal = (TaskExecution.SUCCEEDED, TaskExecution.FAILED, TaskExecution.ABORTED)
    async with asyncio.timeout(LIMIT_S):
        while True:
            answer = await jobs.GetTask(request, timeout=LIMIT_S)
            if answer.resource.phase in terminal:
                return answer.resource


def _tell(rpc: str, told: str, expected: str) -> None:
    """Print a row; one that is not as expected says so."""
    verdict = told if told == expected else f"DIFFERS: {told}, expected {expected}"
    print(rpc, verdict, sep="\t")


async def main(endpoint: str, mode: str = "") -> None:
    """Call every RPC."""
    async with grpc.aio.insecure_channel(endpoint) as channel:
        jobs = service_pb2_grpc.AsyncConnectorServiceStub(channel)
        about = service_pb2_grpc.ConnectorMetadataServiceStub(channel)
        listed = await about.ListConnectors(connector_pb2.ListConnectorsRequest())
        _tell("ListConnectors", listed.connectors[0].name, "Phase Connector")
        name = listed.connectors[0].name
        one = await about.GetConnector(connector_pb2.GetConnectorRequest(name=name))
        category = one.connector.supported_task_categories[0]
        _tell("GetConnector", f"{category.name} {category.version}", "phase 1")
        request = _create_request("SUCCEEDED", "run-a", mode)
        made = await jobs.CreateTask(request, timeout=LIMIT_S)
        again = await jobs.CreateTask(request, timeout=LIMIT_S)
        same = "the same job" if made == again else "another job"
        _tell("CreateTask twice", same, "the same job")
        job = {"resource_meta": made.resource_meta, "task_category": category}
        get = connector_pb2.GetTaskRequest(**job, connection=request.connection)
        resource = await _until_terminal(jobs, get)
        phase = TaskExecution.Phase.Name(resource.phase)
        values = ", ".join(item.name for item in resource.outputs.literals)
        told = f"{phase}: {values}; {resource.message}"
        _tell("GetTask", told, SUCCEEDED)
        logs = connector_pb2.GetTaskLogsRequest(**job)
        pages = [page async for page in jobs.GetTaskLogs(logs, timeout=LIMIT_S)]
        _tell("GetTaskLogs", pages[0].body.lines[0].message, "SUCCEEDED page 0")
        metrics = await jobs.GetTaskMetrics(connector_pb2.GetTaskMetricsRequest(**job))
        _tell("GetTaskMetrics", metrics.results[0].metric, "cpu of SUCCEEDED")
        deletion = connector_pb2.DeleteTaskRequest(**job, connection=request.connection)
        deleted = await jobs.DeleteTask(deletion, timeout=LIMIT_S)
        _tell("DeleteTask", type(deleted).__name__, "DeleteTaskResponse")
        request.template.type = "none"
        try:
            await jobs.CreateTask(request, timeout=LIMIT_S)
            told = "a job"
        except grpc.aio.AioRpcError as error:
            told = f"{error.code().name} {error.details()}"
        _tell("CreateTask of no type", told, UNKNOWN)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
