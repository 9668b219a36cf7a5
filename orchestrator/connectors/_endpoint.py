"""Where credentials may travel in the open: to emulators on this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from orchestrator.errors import AuthError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_transport(endpoint: str) -> None:
    """Refuse to send credentials readable over a network.

    Raises:
        AuthError: *endpoint* is plain http on another machine.
    """
    parts = urlsplit(endpoint)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise AuthError(
            f"endpoint {endpoint} is plain http on another machine:"
            " credentials are not sent there"
        )
