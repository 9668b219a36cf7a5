"""Sessions with Snowflake: one per call at a time, kept for the next, never shared.

A session that is closed is left to the service, which ends it when it has been idle
(4 hours): to end it at once would end the queries that run in it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from orchestrator._clock import SystemClock
from orchestrator._version import __version__
from orchestrator.connectors._endpoint import check_transport
from orchestrator.connectors._extras import require
from orchestrator.connectors.snowflake._errors import (
    UNREADABLE,
    is_old,
    is_session_trouble,
    of_login,
)
from orchestrator.connectors.snowflake._login import login
from orchestrator.connectors.utils import redacted, remember_secret
from orchestrator.errors import AuthError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from snowflake.connector import SnowflakeConnection

    from orchestrator._clock import Clock
    from orchestrator.connectors.snowflake._place import Place

T = TypeVar("T")

KEPT = 16
"""Idle sessions kept by one connector; the one that was unused longest goes."""

AGE_MAX_S = 1800.0
"""An older session is not used again: its token lives for an hour, and version 4 of the
client waits for the end of the query if it has to renew the token on submission."""

_PARAMETERS = {"ABORT_DETACHED_QUERY": False, "CLIENT_TELEMETRY_ENABLED": False}


def require_library() -> None:
    """See that Snowflake's client is installed, without loading it.

    Raises:
        ConfigurationError: It is not.
    """
    require(
        "snowflake.connector",
        service="Snowflake",
        package="snowflake-connector-python",
        extra="snowflake",
    )


@dataclass(frozen=True, repr=False)
class Credentials:
    """Secrets of one call.

    Attributes:
        snowflake_private_key: PEM text.
        snowflake_private_key_passphrase: Of that key, if it is encrypted.
        snowflake_password: The user's.
        snowflake_token: OAuth, or a programmatic access token.
    """

    snowflake_private_key: str | None = None
    snowflake_private_key_passphrase: str | None = None
    snowflake_password: str | None = None
    snowflake_token: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Credentials:
        """Return those among the keyword arguments of a call."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: given[name] for name in names if name in given})

    def digest(self) -> str:
        """Return what tells credentials apart without telling them."""
        values = [getattr(self, field.name) for field in fields(self)]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def options(self) -> dict[str, Any]:
        """Return the arguments of the client.

        Raises:
            AuthError: There are none, several, or the key cannot be read.
        """
        kinds = {
            "snowflake_private_key": self.snowflake_private_key,
            "snowflake_password": self.snowflake_password,
            "snowflake_token": self.snowflake_token,
        }
        given = [name for name, value in kinds.items() if value is not None]
        if len(given) > 1:
            raise AuthError(f"name one of {', '.join(given)}, not several")
        if any(kinds[name] == "" for name in given):
            raise AuthError(f"{given[0]} is empty")
        if self.snowflake_private_key is not None:
            key = _der(
                self.snowflake_private_key, self.snowflake_private_key_passphrase
            )
            return {"private_key": key, "authenticator": "SNOWFLAKE_JWT"}
        if self.snowflake_token is not None:
            return {"token": self.snowflake_token, "authenticator": "OAUTH"}
        if self.snowflake_password is not None:
            return {"password": self.snowflake_password}
        return {}


def _der(pem: str, passphrase: str | None) -> bytes:
    """Return a private key as the client takes it."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - the extra

    try:
        key = serialization.load_pem_private_key(
            pem.strip().encode(), passphrase.encode() if passphrase else None
        )
        return key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    except Exception:  # noqa: BLE001, S110 - it may quote what it could not read
        pass
    raise AuthError(
        "snowflake_private_key is no PEM private key, or its passphrase is another one"
    )


@dataclass(frozen=True)
class _Idle:
    """A session that nobody uses."""

    key: str
    connection: SnowflakeConnection
    born: float


class Sessions:
    """The sessions of one connector; safe to use from several threads."""

    def __init__(
        self,
        endpoint: str,
        connection: Mapping[str, Any],
        timeout_s: float,
        *,
        kept: int = KEPT,
        clock: Clock | None = None,
    ) -> None:
        """Talk to *endpoint* ("" for Snowflake's) with the arguments *connection*."""
        self._endpoint = endpoint
        self._given = dict(connection)
        self._timeout_s = max(1, round(timeout_s))
        self._kept = kept
        self._clock = clock or SystemClock()
        self._idle: list[_Idle] = []
        self._lock = threading.Lock()
        self._closed = False

    def __len__(self) -> int:
        """Return how many sessions are idle."""
        return len(self._idle)

    def use(
        self,
        place: Place,
        credentials: Credentials,
        work: Callable[[SnowflakeConnection], T],
    ) -> T:
        """Return what *work* returns; it is done again if a kept session had ended.

        Raises:
            ConnectorError: There is no session to be had.
            Exception: What *work* raises.
        """
        try:
            with self.borrow(place, credentials) as connection:
                return work(connection)
        except Exception as error:
            if not is_session_trouble(error):
                raise
        with self.borrow(place, credentials, fresh=True) as connection:
            return work(connection)

    @contextmanager
    def borrow(
        self,
        place: Place,
        credentials: Credentials,
        *,
        fresh: bool = False,
        sure: bool = False,
    ) -> Iterator[SnowflakeConnection]:
        """Yield a session that is nobody else's; one that fails is not used again.

        Args:
            place: Whose session.
            credentials: Its user's.
            fresh: Open a new one.
            sure: Ask the service first whether a kept one is still there.
        """
        key = f"{credentials.digest()} {json.dumps(place.to_custom(), sort_keys=True)}"
        idle = None if fresh else self._take(key)
        if idle is not None and sure and not idle.connection.is_valid():
            _close(idle.connection)
            idle = None
        if idle is None:
            idle = _Idle(key, self._open(place, credentials), self._clock.monotonic())
        _remember_tokens(idle.connection)
        try:
            yield idle.connection
        except BaseException:
            _remember_tokens(idle.connection)  # the client may have renewed them
            _close(idle.connection)
            raise
        self._keep(idle)

    def close(self) -> None:
        """Close what is idle, and what comes back from now on."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for one in idle:
            _close(one.connection)

    def _take(self, key: str) -> _Idle | None:
        now = self._clock.monotonic()
        with self._lock:
            old = [one for one in self._idle if now - one.born > AGE_MAX_S]
            self._idle = [one for one in self._idle if now - one.born <= AGE_MAX_S]
            found = next((one for one in reversed(self._idle) if one.key == key), None)
            if found is not None:
                self._idle.remove(found)
        for one in old:
            _close(one.connection)
        return found

    def _keep(self, one: _Idle) -> None:
        with self._lock:
            self._idle.append(one)
            over = len(self._idle) if self._closed else len(self._idle) - self._kept
            gone, self._idle = self._idle[: max(0, over)], self._idle[max(0, over) :]
        for other in gone:
            _close(other.connection)

    def _open(self, place: Place, credentials: Credentials) -> SnowflakeConnection:
        from snowflake.connector import connect, errors  # noqa: PLC0415 - the extra

        options = self._options(place, credentials)
        with login():
            try:
                return connect(**options)
            except errors.Error as error:
                refused = of_login(error)
            except UNREADABLE as error:
                refused = TransientError(redacted(f"no session: {error!r}"))
        raise refused  # without its cause, whose text is not redacted

    def _options(self, place: Place, credentials: Credentials) -> dict[str, Any]:
        """Return the arguments of the client for a new session."""
        proof = credentials.options()
        said = dict(place.options)
        given = dict(self._given)
        parameters = {
            **given.pop("session_parameters", {}),
            **said.pop("session_parameters", {}),
            **_PARAMETERS,
        }
        options: dict[str, Any] = {
            "application": f"orchestrator_{__version__.replace('.', '_')}",
            "client_session_keep_alive": False,
            "client_store_temporary_credential": False,
            **self._waits(),
            **given,
            **proof,
            **said,
            "account": place.account,
            "user": place.user,
            "database": place.database,
            "schema": place.schema,
            "warehouse": place.warehouse,
            "session_parameters": parameters,
            # No logout: it would end the queries of the session.
            "server_session_keep_alive": True,
        }
        if self._endpoint:
            if proof:
                check_transport(self._endpoint)
            parts = urlsplit(self._endpoint)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            options |= {"host": parts.hostname, "port": port, "protocol": parts.scheme}
            if not proof:
                options.setdefault("password", "emulator")
        return options

    def _waits(self) -> dict[str, Any]:
        """Return timeouts and retries, which each generation of the client calls so."""
        limit = self._timeout_s
        if is_old():
            # The longest ends what the client repeats; by then one attempt is over.
            return {
                "login_timeout": limit,
                "platform_detection_timeout_seconds": 0.0,
                "socket_timeout": limit,
                "network_timeout": limit + 2,
            }
        return {
            "auto_cleanup": False,
            "enable_server_session_keep_alive_auto_detection": False,
            "login_timeout": limit,
            "request_timeout": limit,
            "retry_max_attempts": 1,
            "retry_timeout": limit,
        }


def _remember_tokens(connection: SnowflakeConnection) -> None:
    """Let the session's tokens be redacted like the secret that they were got for."""
    client: Any = connection  # the two versions are two clients
    if is_old():
        holder = client.rest
        names = ("token", "master_token")
    else:
        # Its ``rest`` warns whoever asks.
        holder = client._get_connection_info(include_master_token=True)  # noqa: SLF001
        names = ("session_token", "master_token")
    for name in names:
        token = getattr(holder, name, None)
        if isinstance(token, str):
            remember_secret(token)


def _close(connection: SnowflakeConnection) -> None:
    with suppress(Exception):
        connection.close(retry=False)
