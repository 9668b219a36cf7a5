"""Google's clients: made on first use, kept per project, credentials and endpoint."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from orchestrator._secrets import remember_secret
from orchestrator._version import __version__
from orchestrator.connectors._endpoint import check_transport, checked_endpoint
from orchestrator.connectors._extras import require
from orchestrator.connectors._kept import Kept
from orchestrator.errors import AuthError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.bigquery import Client

CLIENTS_MAX = 32
"""Clients kept by one connector; the one that was unused longest goes first."""

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


def require_library() -> None:
    """See that Google's client is installed, without loading it.

    Raises:
        ConfigurationError: It is not.
    """
    require(
        "google.cloud.bigquery",
        service="BigQuery",
        package="google-cloud-bigquery",
        extra="bigquery",
    )


def endpoint_of(endpoint: str | None) -> str:
    """Return the emulator's URL, "" for Google's own service.

    None means Google's own variable for it, ``BIGQUERY_EMULATOR_HOST``, if it is set.

    Raises:
        ConfigurationError: It is no URL.
    """
    if endpoint is not None:
        return checked_endpoint(endpoint)
    variable = "BIGQUERY_EMULATOR_HOST"
    given = os.environ.get(variable, "")  # noqa: TID251 - Google's
    return checked_endpoint(given, variable)


class Clients:
    """Clients for one endpoint; safe to share between threads."""

    def __init__(self, endpoint: str, kept: int = CLIENTS_MAX) -> None:
        """Keep *kept* clients for *endpoint* ("" for Google's) at most."""
        self._endpoint = endpoint
        self._clients: Kept[Client] = Kept(kept)

    def __len__(self) -> int:
        """Return how many clients are kept."""
        return len(self._clients)

    def get(self, project: str, secret: str | None) -> Client:
        """Return the client for *project* with the credentials in *secret*.

        May look for credentials on disk or in the network: call it in a thread.

        Raises:
            AuthError: There are no usable credentials.
        """
        digest = None if secret is None else hashlib.sha256(secret.encode()).hexdigest()
        client = self._clients.get(
            (project, digest), lambda: self._made(project, secret)
        )
        _remember_token(_credentials_of(client))
        return client

    def _made(self, project: str, secret: str | None) -> Client:
        client = self._make(project, secret)
        _remember_tokens(_credentials_of(client))
        return client

    def _make(self, project: str, secret: str | None) -> Client:
        from google.api_core.client_info import ClientInfo  # noqa: PLC0415 - the extra
        from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415
        from google.auth.exceptions import DefaultCredentialsError  # noqa: PLC0415
        from google.cloud.bigquery import Client  # noqa: PLC0415

        credentials: Credentials | None = None
        options: dict[str, Any] | None = None
        if secret is not None:  # an empty one is no leave to take other credentials
            check_transport(self._endpoint)
            credentials = credentials_from(secret)
            if self._endpoint:
                _ask_nobody_else(credentials)
        elif self._endpoint:
            credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        info = ClientInfo(  # type: ignore[no-untyped-call]
            user_agent=f"orchestrator/{__version__}"
        )
        if self._endpoint:
            options = {"api_endpoint": self._endpoint}
        try:
            return Client(
                project=project,
                credentials=credentials,
                client_info=info,
                client_options=options,
            )
        except DefaultCredentialsError as error:
            raise AuthError(f"no credentials: {error}") from error


def _credentials_of(client: Client) -> Any:
    return client._credentials  # noqa: SLF001 - the library has no other name for it


def _remember_token(credentials: Any) -> None:
    """Let an access token be redacted like the key that it was got for."""
    token = getattr(credentials, "token", None)
    if isinstance(token, str):
        remember_secret(token)


def _remember_tokens(credentials: Any) -> None:
    """See that the tokens that *credentials* will get are remembered, too."""
    refresh = credentials.refresh

    def refreshed(request: Any) -> None:
        refresh(request)
        _remember_token(credentials)

    credentials.refresh = refreshed


def _ask_nobody_else(credentials: Credentials) -> None:
    """Keep *credentials* for an emulator from asking Google where they may be used.

    Newer versions of Google's library do, with the access token, in a thread.
    """
    lookup = "_maybe_start_regional_access_boundary_refresh"
    if hasattr(credentials, lookup):
        setattr(credentials, lookup, lambda *_: None)


def credentials_from(secret: str) -> Credentials:
    """Return the credentials that the JSON text *secret* describes.

    Taken are service accounts and authorized users. Kinds that make Google's library
    call other programs or hosts are not.

    Raises:
        AuthError: It describes none; the text is not quoted.
    """
    from google.oauth2 import credentials, service_account  # noqa: PLC0415 - the extra

    kind = None
    try:
        info = json.loads(secret)
        kind = info.get("type", "service_account")
        if kind == "authorized_user":
            user: Credentials = credentials.Credentials.from_authorized_user_info(  # type: ignore[no-untyped-call]
                info, scopes=_SCOPES
            )
            return user
        if kind == "service_account":
            account: Credentials = (
                service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                    info, scopes=_SCOPES
                )
            )
            return account
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # such an error may quote what it could not read
    raise AuthError(
        "google_application_credentials is not the JSON of a service account's or an"
        " authorized user's key"
    )
