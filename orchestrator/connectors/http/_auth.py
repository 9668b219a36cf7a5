"""Credentials as header fields; OAuth2 tokens are kept in memory until they expire."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode
from weakref import WeakKeyDictionary

from orchestrator._secrets import remember_secret
from orchestrator.connectors.http import _templates
from orchestrator.connectors.http._answers import (
    ERROR_MIN,
    THROTTLED,
    UNAVAILABLE_MIN,
    retry_after,
)
from orchestrator.connectors.http._client import (
    BrokenError,
    Call,
    Client,
    NonsenseError,
    NotSentError,
)
from orchestrator.connectors.http._definition import (
    BasicAuth,
    BearerAuth,
    HeaderAuth,
    HttpDefinition,
    OAuth2Auth,
)
from orchestrator.connectors.http._fields import SecretRef
from orchestrator.errors import AuthError, ThrottledError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator._clock import Clock

_KEPT = 100
_LIFE_S = 300.0
"""Life of a token whose end the service does not tell."""

_FIELDS = ("token", "username", "password", "key", "client_id", "client_secret")
_KEYWORDS = {"token": "bearer_token", "key": "api_key"}


def secret_references(definition: HttpDefinition) -> dict[str, str]:
    """Return the environment variable of each secret, by keyword."""
    found = {}
    for field in _FIELDS:
        value = getattr(definition.auth, field, None)
        if isinstance(value, SecretRef):
            found[_KEYWORDS.get(field, field)] = value.secret
    return found


@dataclass
class _Token:
    """One access token; *until* is monotonic seconds."""

    value: str
    until: float


class Credentials:
    """Makes the headers that say who we are.

    Tokens are kept per client id and secret, so that a task with secrets of its own
    never gets another's. Each that is used is redacted like a secret.
    """

    def __init__(
        self, definition: HttpDefinition, client: Client, clock: Clock
    ) -> None:
        """Fetch tokens with *client*; *clock* tells when they end."""
        self._auth = definition.auth
        self._client = client
        self._clock = clock
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )

    @property
    def renewable(self) -> bool:
        """Whether a refusal may be mended by a new token."""
        return isinstance(self._auth, OAuth2Auth)

    async def headers(
        self, secrets: Mapping[str, Any], refused: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the credentials of a call.

        Args:
            secrets: The values, by keyword.
            refused: Credentials that the service refused just now; not these again.

        Raises:
            AuthError: A secret is missing or unusable, or the token endpoint refuses.
            TransientError: The token endpoint cannot be asked; nothing was sent to
                the service itself.
        """
        auth = self._auth
        if isinstance(auth, BearerAuth):
            value = f"Bearer {_value(auth.token, 'bearer_token', secrets)}"
            return _header("Authorization", value)
        if isinstance(auth, BasicAuth):
            user = _value(auth.username, "username", secrets)
            if ":" in user:
                raise AuthError("the user name of HTTP Basic cannot hold a colon")
            pair = f"{user}:{_value(auth.password, 'password', secrets)}"
            return _header("Authorization", _basic(pair))
        if isinstance(auth, HeaderAuth):
            return _header(auth.header, _value(auth.key, "api_key", secrets))
        if isinstance(auth, OAuth2Auth):
            token = await self._oauth2(auth, secrets, refused or {})
            return _header("Authorization", f"Bearer {token}")
        return {}

    async def _oauth2(
        self, auth: OAuth2Auth, secrets: Mapping[str, Any], refused: Mapping[str, str]
    ) -> str:
        """Return a token that is good for a while; one caller at a time fetches it."""
        pair = (
            _value(auth.client_id, "client_id", secrets),
            _value(auth.client_secret, "client_secret", secrets),
        )
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            token = self._tokens.get(pair)
            if token is not None and self._good(auth, token, refused):
                remember_secret(token.value)
                return token.value
            token = await self._fetch(auth, *pair)
            remember_secret(token.value)
            if len(self._tokens) >= _KEPT:
                self._tokens.clear()
            self._tokens[pair] = token
            return token.value

    def _good(
        self, auth: OAuth2Auth, token: _Token, refused: Mapping[str, str]
    ) -> bool:
        if refused.get("Authorization") == f"Bearer {token.value}":
            return False
        early = auth.refresh_before.total_seconds()
        return self._clock.monotonic() < token.until - early

    async def _fetch(
        self, auth: OAuth2Auth, client_id: str, client_secret: str
    ) -> _Token:
        form = {"grant_type": "client_credentials", **auth.parameters}
        if auth.scope is not None:
            form["scope"] = auth.scope
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if auth.client_auth == "form":
            form |= {"client_id": client_id, "client_secret": client_secret}
        else:
            # Encoded before they are joined: RFC 6749, section 2.3.1.
            pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
            headers["Authorization"] = _basic(pair)
        call = Call(
            method="POST",
            url=auth.token_url,
            headers=headers,
            body=urlencode(form).encode(),
        )
        asked = self._clock.monotonic()
        try:
            answer = await self._client.send_elsewhere(call)
            self._check(answer.status, answer.headers)
            document = await answer.document()
        except (NotSentError, BrokenError, NonsenseError) as error:
            raise TransientError(f"token endpoint: {error}") from error
        value = document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(value, str) or not value:
            raise TransientError("token endpoint: the answer has no access_token")
        return _Token(value, asked + _life_s(auth, document.get("expires_in")))

    def _check(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise what a refusal of the token endpoint means."""
        wait = retry_after(headers, self._clock)
        if status == THROTTLED:
            raise ThrottledError("token endpoint: 429", retry_after=wait)
        if status >= UNAVAILABLE_MIN:
            raise TransientError(f"token endpoint: {status}", retry_after=wait)
        if status >= ERROR_MIN:
            # Its text is not quoted: it may hold what was sent.
            raise AuthError(f"the token endpoint refused the client: {status}")


def _life_s(auth: OAuth2Auth, told: Any) -> float:
    """Return how long a token lives; long enough to be used once, whatever is told."""
    try:
        life = float(told)
    except (TypeError, ValueError, OverflowError):
        life = _LIFE_S
    # A service whose tokens live shorter than the margin gets a smaller margin.
    early = auth.refresh_before.total_seconds()
    return life if life > early * 2 else life / 2 + early


def _value(given: str | SecretRef, keyword: str, secrets: Mapping[str, Any]) -> str:
    """Return a credential: the task's or connector's secret, else the plain text."""
    value = secrets.get(keyword, given if isinstance(given, str) else None)
    if not isinstance(value, str) or not value:
        raise AuthError(f"the secret {keyword!r} was not handed over, or is empty")
    return value


def _header(name: str, value: str) -> dict[str, str]:
    try:
        return {name: _templates.check_header(name, value)}
    except ValueError as error:
        raise AuthError(f"unusable secret: {error}") from None


def _basic(pair: str) -> str:
    encoded = base64.b64encode(pair.encode()).decode()
    remember_secret(encoded)  # of a URL-encoded or short secret no spelling is in it
    return f"Basic {encoded}"
