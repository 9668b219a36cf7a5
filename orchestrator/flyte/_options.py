"""Settings of a connector service, checked before anything listens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator._loopback import is_loopback
from orchestrator.errors import ConfigurationError
from orchestrator.flyte._library import require

if TYPE_CHECKING:
    import os

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_PORT_MAX = 65535


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a connector service listens.

    Attributes:
        host: Address to bind; default loopback. Any other one needs a certificate,
            or ``insecure``.
        port: 0 takes a free one. Default 8000, as Flyte's service.
        cert_file: PEM file of the server's certificate chain; None: no TLS.
        key_file: PEM file of its key; together with ``cert_file``.
        client_ca_file: PEM file of the authorities whose client certificates are
            required and accepted (mTLS); None asks clients for none.
        token: Environment variable that holds the token which every call but health
            checks must bring as ``authorization: Bearer TOKEN``; None: no token.
        insecure: Accept calls in plain text from other machines: for a network that
            is itself protected.
        prometheus_port: Port of the metrics page, 0 takes a free one; None: no page.
        prometheus_host: Address of the metrics page; default loopback.
        message_bytes_max: Largest message taken or sent. Larger ones end as
            RESOURCE_EXHAUSTED.
        grace: How long a stopping server waits for calls in flight.
        calls_max: Calls at once; more are refused as RESOURCE_EXHAUSTED. None: any.

    Raises:
        ConfigurationError: Names the setting that cannot be used, or the package
            that is missing.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    client_ca_file: str | os.PathLike[str] | None = None
    token: str | None = None
    insecure: bool = False
    prometheus_port: int | None = None
    prometheus_host: str = "127.0.0.1"
    message_bytes_max: int = MESSAGE_BYTES_MAX
    grace: timedelta = timedelta(seconds=30)
    calls_max: int | None = None

    def __post_init__(self) -> None:
        """Validate, naming the field."""
        require("grpc_health.v1.health")
        if self.prometheus_port is not None:
            require("prometheus_client")
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigurationError("cert_file and key_file belong together")
        if self.client_ca_file is not None and self.cert_file is None:
            message = "client_ca_file needs cert_file and key_file: mTLS is TLS"
            raise ConfigurationError(message)
        for name in ("port", "prometheus_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= _PORT_MAX:
                raise ConfigurationError(f"{name}: {port} is no port")
        if self.message_bytes_max < 1:
            message = f"message_bytes_max: {self.message_bytes_max} must be at least 1"
            raise ConfigurationError(message)
        if not self.insecure and self.cert_file is None and not is_loopback(self.host):
            message = (
                f"host: {self.host} can be reached from other machines, and without"
                " cert_file and key_file secrets travel as plain text; say"
                " insecure=True (--insecure) if the network protects them"
            )
            raise ConfigurationError(message)
