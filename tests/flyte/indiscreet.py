"""A foreign connector service that quotes the credentials of its callers.

``python -m tests.flyte.indiscreet --token TOKEN`` prints its port. Its task type is
``quoted``; the template's name says how a job does: ``ok`` succeeds, ``fail`` fails,
``refused`` is refused by ``CreateTask`` for good. The first two looks at every job
are refused as UNAUTHENTICATED. Whatever is said quotes the token of the call and the
secrets in its ``Connection``, and is longer than anybody shows.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from itertools import count
from typing import Any

import grpc
from flyteidl2.connector import connector_pb2, service_pb2_grpc
from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog
from flyteidl2.logs.dataplane.payload_pb2 import LogLine
from google.protobuf.struct_pb2 import Struct

from tests.crash.canaries import SPELLINGS

TASK_TYPE = "quoted"
_LONG = 3_000  # a status travels in a header, which has a limit
_REFUSALS = 2
_turns = count()


def quoted(request: Any, context: Any) -> str:
    """Return what the call brought along, in one of many spellings."""
    said = [str(value) for _, value in context.invocation_metadata()]
    if hasattr(request, "connection"):
        said += request.connection.secrets.values()
    way = SPELLINGS[next(_turns) % len(SPELLINGS)]
    once = f" (called with {way(' '.join(said))})"
    return once * (_LONG // len(once) + 1)


class Quoting(service_pb2_grpc.AsyncConnectorServiceServicer):
    """Jobs whose id is what becomes of them."""

    def __init__(self, token: str) -> None:
        self._wanted = ("authorization", f"Bearer {token}")
        self._looks: dict[bytes, int] = {}

    async def CreateTask(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Make a job, or refuse it."""
        fate = request.template.id.name
        if self._wanted not in context.invocation_metadata():
            text = f"who are you?{quoted(request, context)}"
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
        if fate == "refused":
            text = f"no{quoted(request, context)}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        meta = f"{fate}/{next(_turns)}".encode()
        return connector_pb2.CreateTaskResponse(resource_meta=meta)

    async def GetTask(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell how a job does, in every field that has text."""
        meta = request.resource_meta
        self._looks[meta] = self._looks.get(meta, 0) + 1
        text = quoted(request, context)
        if self._looks[meta] <= _REFUSALS:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"again: who?{text}")
        failed = meta.startswith(b"fail/")
        info = Struct()
        info.update({"said": text, "nested": [{"said": quoted(request, context)}]})
        resource = connector_pb2.Resource(
            phase=TaskExecution.FAILED if failed else TaskExecution.SUCCEEDED,
            message=f"it is so{text}",
            log_links=[TaskLog(name=f"log{text}", uri=f"https://example.com/?{text}")],
            custom_info=info,
        )
        return connector_pb2.GetTaskResponse(resource=resource)

    async def GetTaskLogs(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Yield one line."""
        line = LogLine(message=f"a line{quoted(request, context)}")
        body = connector_pb2.GetTaskLogsResponseBody(lines=[line])
        yield connector_pb2.GetTaskLogsResponse(body=body)


async def main(token: str) -> None:
    """Serve until standard input closes."""
    server = grpc.aio.server()
    service_pb2_grpc.add_AsyncConnectorServiceServicer_to_server(Quoting(token), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", required=True)
    parser.add_argument("--until-stdin-closes", action="store_true")
    asyncio.run(main(parser.parse_args().token))
