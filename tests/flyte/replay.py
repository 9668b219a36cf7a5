"""A service that knows nothing but the stored messages, and takes no others.

``python -m tests.flyte.replay`` prints where it listens, and runs until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import grpc

from tests.flyte.cases import Case, stored

if TYPE_CHECKING:
    from google.protobuf.message import Message


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


class Replay(grpc.GenericRpcHandler):  # type: ignore[misc, type-arg, unused-ignore]
    """Answers a request that is stored with the answer that is stored."""

    def __init__(self) -> None:
        self._cases = {(case.path, _bytes(case.request)): case for case in stored()}
        self._kinds = {case.path: type(case.request) for case in stored()}

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method."""
        path = handler_call_details.method
        kind = self._kinds.get(path)
        if kind is None:
            return None

        async def one(request: Message, context: Any) -> Message:
            return (await self._case(path, request, context)).responses[0]

        async def many(request: Message, context: Any) -> Any:
            for response in (await self._case(path, request, context)).responses:
                yield response

        streams = path.endswith("GetTaskLogs")
        make = (
            grpc.unary_stream_rpc_method_handler
            if streams
            else grpc.unary_unary_rpc_method_handler
        )
        return make(  # type: ignore[operator, unused-ignore]
            many if streams else one,
            request_deserializer=kind.FromString,
            response_serializer=_bytes,
        )

    async def _case(self, path: str, request: Message, context: Any) -> Case:
        case = self._cases.get((path, _bytes(request)))
        if case is None or not case.responses:
            details = f"{path}: no stored request is like this one: {request}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, details[:1000])
            raise AssertionError(details)
        return case


async def main() -> None:
    """Serve until a signal comes."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Replay(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"port": port}), flush=True)  # noqa: T201 - its one line
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
