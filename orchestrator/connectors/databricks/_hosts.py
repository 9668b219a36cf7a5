"""Which workspaces credentials may go to, in one spelling."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from orchestrator._loopback import is_loopback
from orchestrator.errors import ConfigurationError

_PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"[!-~]+")


def host_of(text: str) -> str:
    """Return a workspace's URL, ``https://name`` or ``https://name:port``.

    *text* may lack ``https://``, as Flyte writes it, and have a path, as browsers show
    it. Plain http is for emulators on this machine: tokens travel readable there.

    Raises:
        ValueError: It names no host that credentials could go to.
    """
    url = text if "://" in text else f"https://{text}"
    if not _PLAIN.fullmatch(url) or "\\" in url:
        raise ValueError(f"{text!r} is no host")
    parts = urlsplit(url)
    name = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _PORTS or not name or "@" in parts.netloc:
        raise ValueError(f"{text!r} is no host, as in https://x.cloud.databricks.com")
    if parts.scheme == "http" and not is_loopback(name):
        raise ValueError(
            f"{text!r} is plain http on another machine: credentials are not sent there"
        )
    if ":" in name:
        name = f"[{name}]"
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"


def hosts_of(host: str | None, others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the connector's own host and those that templates may name besides.

    None means Databricks' own variable for it, ``DATABRICKS_HOST``.

    Raises:
        ConfigurationError: There is none, or one is no host.
    """
    if host is None:
        host = os.environ.get("DATABRICKS_HOST")  # noqa: TID251 - Databricks' own
    if not host:
        raise ConfigurationError(
            "host must be named (or DATABRICKS_HOST set): the workspace that runs the"
            " jobs and gets the credentials"
        )
    try:
        return tuple(dict.fromkeys(map(host_of, (host, *others))))
    except ValueError as error:
        raise ConfigurationError(f"host: {error}") from None
