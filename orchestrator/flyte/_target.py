"""Where a connector service is, and how it is talked to: settings, no connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator.errors import ConfigurationError
from orchestrator.flyte._hosts import is_local
from orchestrator.flyte._options import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class RemoteService:
    """A Flyte connector service: one or several endpoints that do the same.

    Attributes:
        endpoints: gRPC targets such as ``host:8000`` or ``dns:///host:8000``. Reads
            take turns and go on to the next one if one is away; a create goes to one
            that is connected, once.
        name: Of the set of endpoints; stands in the meta of every job, so that a job
            is not looked for at another service. Keep it when the service moves. None
            (default): the endpoints themselves are the name, so that a service that
            moves while it has jobs needs one.
        secure: Whether to use TLS; None (default): yes, unless every endpoint is
            loopback.
        insecure: Allow plain text to other machines: for a network that is itself
            protected.
        ca_file: PEM file of the authorities to trust, None for gRPC's own.
        cert_file: PEM file of this client's certificate chain (mTLS).
        key_file: PEM file of its key; together with ``cert_file``.
        server_name: Name in the server's certificate, if it is not the host's.
        token: Environment variable that holds a token, sent with every call as
            ``authorization: Bearer TOKEN``. None: no token.
        metadata: Sent with every call; lower-case names. No place for secrets.
        connect_timeout: How long a create waits for a connection. Without one in
            time nothing was sent, and it is tried again later.
        create_timeout: Deadline of a create; later its outcome is unknown. Keep it
            below the policy's ``create_timeout``.
        timeout: Deadline of every other call.
        logs_timeout: Deadline of a stream of logs.
        keepalive: After so much silence during a call a ping finds out whether the
            other side is there; None for never. Services refuse more than a few.
        message_bytes_max: Largest message sent or taken.

    Raises:
        ConfigurationError: Names the setting that cannot be used.
    """

    endpoints: str | Sequence[str]
    name: str | None = None
    secure: bool | None = None
    insecure: bool = False
    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None
    token: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    connect_timeout: timedelta = timedelta(seconds=5)
    create_timeout: timedelta = timedelta(seconds=50)
    timeout: timedelta = timedelta(seconds=20)
    logs_timeout: timedelta = timedelta(minutes=5)
    keepalive: timedelta | None = timedelta(seconds=20)
    message_bytes_max: int = MESSAGE_BYTES_MAX

    def __post_init__(self) -> None:
        """Validate, naming the field."""
        given = self.endpoints
        targets = (given,) if isinstance(given, str) else tuple(given)
        if not targets or not all(isinstance(t, str) and t for t in targets):
            raise ConfigurationError(f"endpoints: {given!r} names none")
        object.__setattr__(self, "endpoints", targets)
        for name in ("connect_timeout", "create_timeout", "timeout", "logs_timeout"):
            if getattr(self, name) <= timedelta(0):
                raise ConfigurationError(f"{name} must be above zero")
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigurationError("cert_file and key_file belong together")
        certified = self.ca_file is not None or self.cert_file is not None
        if certified and not self.encrypted:
            raise ConfigurationError("ca_file and cert_file need secure=True")
        if not self.encrypted and not self.insecure and not self.local:
            message = (
                f"endpoints: {', '.join(targets)} would get secrets as plain text;"
                " leave secure=False out, or say insecure=True if the network"
                " protects them"
            )
            raise ConfigurationError(message)
        for name, value in self.metadata.items():
            if name != name.lower():
                raise ConfigurationError(f"metadata: {name!r} must be lower case")
            if not is_header_value(value):
                raise ConfigurationError(f"metadata: {name!r} must be printable ASCII")

    @property
    def targets(self) -> tuple[str, ...]:
        """The endpoints, as a tuple."""
        return tuple(self.endpoints)

    @property
    def identity(self) -> str:
        """What tells this service from every other: its name, else its endpoints."""
        return self.name or ",".join(sorted(set(self.targets)))

    @property
    def local(self) -> bool:
        """Whether no call can leave this machine."""
        return all(is_local(target) for target in self.targets)

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        if self.secure is not None:
            return self.secure
        certified = self.ca_file is not None or self.cert_file is not None
        return certified or not (self.local or self.insecure)


def is_header_value(text: str) -> bool:
    """Whether gRPC sends *text*: a call with any other one is not made at all."""
    return text.isascii() and text.isprintable()
