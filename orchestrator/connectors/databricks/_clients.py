"""Databricks' clients: made on first use, kept per workspace and credentials.

They are told all that they use: nothing comes from ``~/.databrickscfg`` or from the
environment of the process. They send a request once; the engine repeats.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from orchestrator._clock import SystemClock
from orchestrator._version import __version__
from orchestrator.connectors._extras import require
from orchestrator.connectors._kept import Kept
from orchestrator.connectors.databricks._errors import SentOnceError
from orchestrator.connectors.utils import remember_secret
from orchestrator.errors import AuthError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from databricks.sdk import WorkspaceClient
    from databricks.sdk.clock import Clock as SdkClock

    from orchestrator._clock import Clock

CLIENTS_MAX = 32
"""Clients kept by one connector; the one that was unused longest goes first."""

_API = "/api/2.2/jobs"
_OAUTH_TOKEN = "/oidc/v1/token"  # noqa: S105 - a path
_PROBE_S = 5.0
_LOGGED_MAX = 10_000_000
_FRESH_SHARE = 0.8
_THROTTLED, _SERVER = 429, 500


def require_library() -> None:
    """See that Databricks' SDK is installed, without loading it.

    Raises:
        ConfigurationError: It is not.
    """
    require(
        "databricks.sdk",
        service="Databricks",
        package="databricks-sdk",
        extra="databricks",
    )


@dataclass(frozen=True, repr=False)
class Credentials:
    """The secrets of one call: an access token, or a service principal's id and secret.

    The names are those of the secrets' keywords.
    """

    databricks_token: str = ""
    databricks_client_id: str = ""
    databricks_client_secret: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Credentials:
        """Return those among the keyword arguments of a call; a token goes first.

        Raises:
            AuthError: They are missing or unusable; the text quotes none.
        """
        found = {name: (given.get(name) or "").strip() for name in KEYWORDS}
        for name, value in found.items():
            if not (value.isascii() and value.isprintable()):
                raise AuthError(f"{name} holds characters that no header can")
        made = cls(**found)
        pair = made.databricks_client_id and made.databricks_client_secret
        if not made.databricks_token and not pair:
            raise AuthError(
                "no credentials: name databricks_token, or databricks_client_id and"
                " databricks_client_secret"
            )
        return made

    @property
    def digest(self) -> str:
        """Return what tells credentials apart without holding them."""
        parts = [getattr(self, name) for name in KEYWORDS]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


KEYWORDS = tuple(field.name for field in fields(Credentials))
"""The secrets that a task or a connector may name."""


class Workspace:
    """One workspace, with one set of credentials; safe to share between threads."""

    def __init__(self, client: WorkspaceClient, auth: _Auth) -> None:
        """Speak through *client*."""
        self._client = client
        self._auth = auth

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Make one request to the Jobs API and return its JSON.

        The SDK's typed methods would drop fields and states that its version does not
        know, so the JSON is sent and read as it is.
        """
        from databricks.sdk.errors import Unauthenticated  # noqa: PLC0415 - the extra

        try:
            answer = self._client.api_client.do(
                method, _API + path, query=query, body=body, headers=self._headers()
            )
        except Unauthenticated:
            self._auth.forget()
            raise
        return answer if isinstance(answer, dict) else {}

    def _headers(self) -> dict[str, str]:
        """Name the workspace where one host serves several."""
        workspace = getattr(self._client.config, "workspace_id", None)
        named = {"X-Databricks-Workspace-Id": workspace} if workspace else {}
        return {"Accept": "application/json", **named}


class _Auth:
    """What the SDK asks for a request's credentials: a bearer, fetched if need be."""

    def __init__(
        self, host: str, credentials: Credentials, timeout_s: float, clock: Clock
    ) -> None:
        self._host = host
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._bearer = ""
        self._until = 0.0

    def auth_type(self) -> str:
        """Name the kind, as the SDK does."""
        return "pat" if self._credentials.databricks_token else "oauth-m2m"

    def __call__(self, _config: Any) -> Callable[[], dict[str, str]]:
        return self._header

    def forget(self) -> None:
        """Fetch a new access token next time: this one was refused."""
        self._until = 0.0

    def _header(self) -> dict[str, str]:
        bearer = self._credentials.databricks_token
        if not bearer:
            with self._lock:
                if self._clock.monotonic() >= self._until:
                    self._fetch()
                bearer = self._bearer
            remember_secret(bearer)
        return {"Authorization": f"Bearer {bearer}"}

    def _fetch(self) -> None:
        """Get an access token from the workspace itself, and from nobody else.

        The SDK's own way would go wherever the host's discovery document says, and
        wait for ever.

        Raises:
            AuthError: The workspace gives none.
            TransientError: It did not answer. No other request was sent.
        """
        import requests  # noqa: PLC0415 - comes with the extra

        known = self._credentials
        began = self._clock.monotonic()
        try:
            answer = requests.post(
                self._host + _OAUTH_TOKEN,
                data={"grant_type": "client_credentials", "scope": "all-apis"},
                auth=(known.databricks_client_id, known.databricks_client_secret),
                timeout=self._timeout_s,
                allow_redirects=False,
            )
            status = answer.status_code
            if status == _THROTTLED or status >= _SERVER:
                raise TransientError(f"no access token: status {status}")
            if not answer.ok or answer.is_redirect:
                raise AuthError(f"no access token: status {status}")
            given = answer.json()
        except requests.RequestException as error:
            # An answer that is no JSON is one of these, too.
            raise TransientError(f"no access token: {type(error).__name__}") from None
        try:
            bearer, lasts_s = str(given["access_token"]), float(given["expires_in"])
        except (KeyError, TypeError, ValueError):
            raise TransientError("no access token: the answer has none") from None
        self._bearer = bearer
        self._until = began + lasts_s * _FRESH_SHARE


class Clients:
    """Workspaces, by host and credentials; safe to share between threads."""

    def __init__(
        self,
        timeout_s: float,
        threads: int,
        kept: int = CLIENTS_MAX,
        clock: Clock | None = None,
    ) -> None:
        """Keep *kept* workspaces at most, *threads* connections to each.

        Args:
            timeout_s: How long to wait for an answer, at each step.
            threads: How many callers there are.
            kept: The one that was unused longest goes first.
            clock: Tells when access tokens end; None for the system's.
        """
        self._timeout_s = timeout_s
        self._threads = threads
        self._clock = clock or SystemClock()
        self._workspaces: Kept[Workspace] = Kept(kept)

    def __len__(self) -> int:
        """Return how many workspaces are kept."""
        return len(self._workspaces)

    def get(self, host: str, credentials: Credentials) -> Workspace:
        """Return the workspace at *host*. May ask the host: call it in a thread."""
        return self._workspaces.get(
            (host, credentials.digest), lambda: self._make(host, credentials)
        )

    def _make(self, host: str, credentials: Credentials) -> Workspace:
        from databricks.sdk import WorkspaceClient  # noqa: PLC0415 - the extra
        from databricks.sdk.core import Config  # noqa: PLC0415

        auth = _Auth(host, credentials, self._timeout_s, self._clock)
        told: dict[str, Any] = {
            "host": host,
            "auth_type": auth.auth_type(),
            # Newer versions ask the host about itself first, which may take this long.
            "http_timeout_seconds": min(self._timeout_s, _PROBE_S),
            "retry_timeout_seconds": 1,
            # What it logs is redacted, but for half a secret, where it cuts.
            "debug_truncate_bytes": _LOGGED_MAX,
            "max_connection_pools": self._threads,
            "max_connections_per_pool": self._threads,
        }
        config = Config(
            credentials_strategy=auth,  # type: ignore[arg-type] # of this shape
            product="orchestrator",
            product_version=__version__,
            clock=_once(),
            **_nothing_else(told),
        )
        config.http_timeout_seconds = self._timeout_s
        return Workspace(WorkspaceClient(config=config), auth)


def _nothing_else(told: dict[str, Any]) -> dict[str, Any]:
    """Return *told*, and "nothing" for all that the SDK would take from elsewhere.

    It looks for what it was not told in environment variables; one of them names a
    profile, with which it reads ``~/.databrickscfg``.
    """
    from databricks.sdk.core import Config  # noqa: PLC0415 - the extra

    names = {a.name: a.transform for a in Config.attributes() if a.env}
    blank: dict[str, Any] = {
        name: {int: 0, float: 0.0, bool: False}.get(transform, "")
        for name, transform in names.items()
    }
    return blank | told


def _once() -> SdkClock:
    """Return the clock with which the SDK does not wait, and so sends once."""
    from databricks.sdk.clock import RealClock  # noqa: PLC0415 - the extra

    class Once(RealClock):
        def sleep(self, seconds: float) -> None:  # noqa: ARG002 - the base's
            raise SentOnceError

    return Once()
