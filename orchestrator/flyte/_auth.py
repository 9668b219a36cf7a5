"""A token that calls must bring: compared in constant time, and never shown."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HEADER = "authorization"
_OPEN = "/grpc.health.v1.Health/"


def bearer(token: str) -> str:
    """Return the header's value for a *token*."""
    return f"Bearer {token}"


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg, unused-ignore]
    """Ends calls without the token as UNAUTHENTICATED, before any connector.

    Health checks go through: whoever probes a service has no secrets.
    """

    def __init__(self, token: str) -> None:
        """Want *token*."""
        self._wanted = bearer(token).encode()

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Hand the call on, or answer it with the refusal."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_OPEN):
            return handler
        for name, value in handler_call_details.invocation_metadata or ():
            if name == HEADER and hmac.compare_digest(_bytes(value), self._wanted):
                return handler
        return _refusing(handler)


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else value


def _refusing(handler: Any) -> Any:
    """Return a handler of the same kind that refuses."""
    what = "this service wants a token: authorization: Bearer TOKEN"

    async def refuse(_request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, what)

    async def refuse_stream(_request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, what)
        yield  # pragma: no cover - makes it a generator

    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, refuse),
        (False, True): (grpc.unary_stream_rpc_method_handler, refuse_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, refuse),
        (True, True): (grpc.stream_stream_rpc_method_handler, refuse_stream),
    }
    make, behaviour = kinds[handler.request_streaming, handler.response_streaming]
    return make(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
