"""Where a vendor's service is, and where credentials may travel in the open."""

from __future__ import annotations

from urllib.parse import urlsplit

from orchestrator._loopback import is_loopback
from orchestrator.errors import AuthError, ConfigurationError


def checked_endpoint(endpoint: str, source: str = "endpoint") -> str:
    """Return the URL of an emulator; "" stands for the vendor's own service.

    *source* is what named it, for the message.

    Raises:
        ConfigurationError: It is no URL.
    """
    if not endpoint:
        return ""
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises if it is none
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{source}: {endpoint!r} must be an http(s) URL")
    return endpoint.rstrip("/")


def check_transport(endpoint: str) -> None:
    """Refuse to send credentials readable over a network.

    Raises:
        AuthError: *endpoint* is plain http on another machine.
    """
    parts = urlsplit(endpoint)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise AuthError(
            f"endpoint {endpoint} is plain http on another machine:"
            " credentials are not sent there"
        )
