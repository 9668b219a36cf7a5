"""``connectors serve``: connectors as Flyte's services, until a signal comes."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from orchestrator._registry import Registry
    from orchestrator.flyte import ConnectorServer, ServerOptions


def add_serve_options(parser: ArgumentParser) -> None:
    """Add the options of the command; imports nothing heavy."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to bind, default loopback")
    add("--port", type=int, default=8000, help="default 8000; 0 takes a free one")
    add(
        "--durable",
        action="store_true",
        help="jobs are executions of --database, so that a crash loses none",
    )
    add("--cert", metavar="FILE", help="the server's certificate chain, PEM")
    add("--key", metavar="FILE", help="its key, PEM")
    add(
        "--client-ca",
        metavar="FILE",
        help="want certificates of clients, signed by one of these (mTLS)",
    )
    add(
        "--token-env",
        metavar="VARIABLE",
        help="environment variable with a token that every call must bring",
    )
    add(
        "--insecure",
        action="store_true",
        help="plain text beyond loopback: the network is itself protected",
    )
    add("--prometheus-port", type=int, metavar="PORT", help="serve metrics there")
    add("--prometheus-host", default="127.0.0.1", metavar="HOST")
    add(
        "--message-bytes-max",
        type=int,
        metavar="N",
        help="largest message taken or sent, default 64 MiB",
    )
    add(
        "--grace",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long a stopping server waits for calls in flight, default 30",
    )


def serve(options: Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    from orchestrator._registry import DEFAULT_REGISTRY  # noqa: PLC0415 - quick start
    from orchestrator.cli._load import load_connectors  # noqa: PLC0415
    from orchestrator.flyte import serve as serve_connectors  # noqa: PLC0415

    settings = _settings(options)
    load_connectors(options.connectors)

    def ready(server: ConnectorServer) -> None:
        _tell(options, server, DEFAULT_REGISTRY)

    asyncio.run(
        serve_connectors(
            settings,
            durable=options.durable,
            database=options.database if options.durable else None,
            ready=ready,
        )
    )
    return 0


def _settings(options: Namespace) -> ServerOptions:
    from orchestrator.flyte import ServerOptions  # noqa: PLC0415 - quick start

    given = {}
    if options.message_bytes_max is not None:
        given["message_bytes_max"] = options.message_bytes_max
    return ServerOptions(
        host=options.host,
        port=options.port,
        cert_file=options.cert,
        key_file=options.key,
        client_ca_file=options.client_ca,
        token=options.token_env,
        insecure=options.insecure,
        prometheus_port=options.prometheus_port,
        prometheus_host=options.prometheus_host,
        grace=timedelta(seconds=options.grace),
        **given,
    )


def _tell(options: Namespace, server: ConnectorServer, registry: Registry) -> None:
    """Say where the server listens, and what it has."""
    connectors = {
        found.name: [[c.name, c.version] for c in found.supported_task_categories]
        for found in registry.list_connectors()
    }
    mode = "durable" if options.durable else "pass-through"
    if options.json:
        told = {
            "host": options.host,
            "port": server.port,
            "prometheus_port": server.prometheus_port,
            "mode": mode,
            "connectors": connectors,
        }
        print(json.dumps(told), flush=True)
        return
    print(f"serving on {options.host}:{server.port} ({mode})")
    if server.prometheus_port is not None:
        print(f"metrics on {options.prometheus_host}:{server.prometheus_port}")
    for name, categories in connectors.items():
        kinds = ", ".join(f"{kind} ({version})" for kind, version in categories)
        print(f"  {name}: {kinds}")
    if not connectors:
        print("  no connectors: name their modules with --connectors")
    print(end="", flush=True)
