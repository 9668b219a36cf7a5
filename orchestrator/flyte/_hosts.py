"""Addresses as gRPC writes them, and which of them cannot leave this machine."""

from __future__ import annotations

from orchestrator._loopback import is_loopback


def host_of(endpoint: str) -> str:
    """Return the host of a gRPC target, "" for a local socket.

    ``host:port``, ``[::1]:port``, ``dns:///host:port``, ``ipv4:1.2.3.4:port`` and
    ``unix:path`` are understood.
    """
    scheme, colons, rest = endpoint.partition(":///")
    if not colons:
        scheme, _, rest = endpoint.partition(":")
        if scheme in ("unix", "unix-abstract"):
            return ""
        if scheme not in ("dns", "ipv4", "ipv6"):
            rest = endpoint
    elif scheme == "unix":
        return ""
    if rest.startswith("["):
        return rest.partition("]")[0].strip("[")
    return rest.rpartition(":")[0] or rest


def is_local(endpoint: str) -> bool:
    """Tell whether a gRPC target cannot leave this machine."""
    host = host_of(endpoint)
    return not host or is_loopback(host)


def address(host: str, port: int) -> str:
    """Return *host* and *port* as gRPC writes them."""
    return f"[{host}]:{port}" if ":" in host and "[" not in host else f"{host}:{port}"
