"""``ConnectorService`` as ``flyte.connectors`` has it: one call that serves."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from typing import TYPE_CHECKING

from orchestrator.flyte._library import require
from orchestrator.flyte._options import ServerOptions

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Run:
    """Flyte's two ways to call it: ``run(...)`` and ``await run.aio(...)``."""

    def __call__(
        self,
        port: int = 8000,
        prometheus_port: int | None = None,
        worker: int | None = None,
        timeout: float | None = None,
        modules: Sequence[str] | None = None,
        *,
        host: str = "127.0.0.1",
        insecure: bool = False,
    ) -> None:
        """Serve until stopped; see `aio`."""
        asyncio.run(
            self.aio(
                port,
                prometheus_port,
                worker,
                timeout,
                modules,
                host=host,
                insecure=insecure,
            )
        )

    async def aio(
        self,
        port: int = 8000,
        prometheus_port: int | None = None,
        worker: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - Flyte's name
        modules: Sequence[str] | None = None,
        *,
        host: str = "127.0.0.1",
        insecure: bool = False,
    ) -> None:
        """Serve the connectors of ``ConnectorRegistry``, pass-through.

        Args:
            port: As Flyte's.
            prometheus_port: Port of the metrics page, None for none.
            worker: Accepted and not used: calls run on the event loop.
            timeout: Seconds after which the server stops; None: a signal does.
            modules: Imported first; they register connectors.
            host: Address to bind. Flyte binds all; here that must be said, together
                with *insecure*.
            insecure: See ``ServerOptions``.
        """
        del worker
        require("grpc_health.v1.health")
        from orchestrator._clock import SystemClock  # noqa: PLC0415 - with the server
        from orchestrator.flyte._server import serve  # noqa: PLC0415 - needs gRPC

        options = ServerOptions(
            host=host, port=port, prometheus_port=prometheus_port, insecure=insecure
        )
        await asyncio.to_thread(_import, modules or ())
        if timeout is None:
            await serve(options)
            return
        try:
            async with SystemClock().limit(timeout):
                await serve(options)
        except TimeoutError:
            return


def _import(modules: Sequence[str]) -> None:
    here = os.getcwd()  # noqa: PTH109 - as it stands in sys.path
    if all(os.path.realpath(path) != here for path in sys.path):
        sys.path.append(here)
    for module in modules:
        importlib.import_module(module)


class ConnectorService:
    """Serves the connectors of ``ConnectorRegistry``, with Flyte's shape."""

    run = _Run()
