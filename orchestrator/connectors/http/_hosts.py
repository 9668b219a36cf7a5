"""Which hosts a definition's requests, and with them its credentials, may go to."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from orchestrator._loopback import is_loopback

_PORTS = {"http": 80, "https": 443}
_CONTROLS = frozenset(map(chr, [*range(0x21), 0x7F]))


@dataclass(frozen=True)
class Hosts:
    """The hosts of one definition.

    Attributes:
        base: Host and port of the base URL, as ``of`` writes them.
        others: Those that the service may send us on to.
        allow_http: Whether plain HTTP may leave this machine.
    """

    base: str
    others: frozenset[str]
    allow_http: bool

    def check(self, url: str) -> str:
        """Return *url* if a request with credentials may go there.

        Raises:
            ValueError: It may not; the host is named, nothing else of the URL.
        """
        host = of(url, allow_http=self.allow_http)
        if host != self.base and host not in self.others:
            raise ValueError(
                f"host {host!r} is neither the definition's own nor in allowed_hosts"
            )
        return url


def of(url: str, *, allow_http: bool) -> str:
    """Return the host of an absolute *url*, with a port that is not the usual one.

    Raises:
        ValueError: It is no plain http(s) URL, carries credentials, or is plain HTTP
            off this machine and *allow_http* is not set.
    """
    if _CONTROLS & set(url) or "\\" in url:
        raise ValueError("holds a space, backslash or control character")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("must be an absolute URL that begins with https://")
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials (user@host)")
    if parts.scheme == "http" and not (allow_http or is_loopback(parts.hostname)):
        raise ValueError(
            f"is plain HTTP to {parts.hostname!r}, which shows credentials to everyone"
            " on the way: use https, or say allow_http: true"
        )
    return _named(parts)


def _named(parts: SplitResult) -> str:
    """Return host and port in the one spelling that is compared."""
    host = (parts.hostname or "").lower().rstrip(".")
    host = f"[{host}]" if ":" in host else host
    port = parts.port
    return host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"


def check_path(path: str) -> str:
    """Return *path*, ready to stand behind a base URL.

    Raises:
        ValueError: It could lead elsewhere than it says.
    """
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError("must begin with one /")
    if "?" in path or "#" in path:
        raise ValueError("holds ? or #: parameters belong into query")
    if _CONTROLS & set(path) or "\\" in path:
        raise ValueError("holds a space, backslash or control character")
    for segment in path.split("/"):
        if unquote(segment) in (".", ".."):
            raise ValueError(f"holds the segment {segment!r}, which leads elsewhere")
    return path
