"""Credentials of each kind; OAuth2 tokens are kept, replaced and never shown."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator._secrets import Redactor, redacting
from orchestrator.connectors.http import HttpConnector
from orchestrator.connectors.http._answers import OutcomeUnknownError
from orchestrator.errors import (
    AuthError,
    ConfigurationError,
    ThrottledError,
    TransientError,
)
from orchestrator.testing import ManualClock
from tests.connectors.http.api import Api, batches, merged, submit
from tests.emulators.http_api import CLIENT_ID, CLIENT_SECRET

OAUTH = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


def oauth(
    api: Api, clock: ManualClock | None = None, *, more: Any = None, **auth: Any
) -> HttpConnector:
    """Return a connector with client credentials, of a service that wants them."""
    given = {
        "type": "oauth2",
        "token_url": f"{api.url}/oauth/token",
        "client_id": {"secret": "BATCH_ID"},
        "client_secret": {"secret": "BATCH_SECRET"},
        "scope": "jobs.write",
    }
    api.require("oauth")
    return HttpConnector(
        batches(api.url, auth={**given, **auth}, **(more or {})), clock=clock
    )


@pytest.mark.parametrize(
    ("auth", "secrets", "header", "value"),
    [
        (
            {"type": "bearer", "token": {"secret": "A"}},
            {"bearer_token": "abcdefgh"},
            "authorization",
            "Bearer abcdefgh",
        ),
        (
            {"type": "basic", "username": "me", "password": {"secret": "A"}},
            {"password": "p:w"},
            "authorization",
            "Basic bWU6cDp3",
        ),
        (
            {"type": "header", "header": "X-Api-Key", "key": {"secret": "A"}},
            {"api_key": "abcdefgh"},
            "x-api-key",
            "abcdefgh",
        ),
    ],
)
async def test_credentials_go_with_every_request(
    api: Api, auth: dict[str, Any], secrets: dict[str, str], header: str, value: str
) -> None:
    """Submit, status, results, search and cancel."""
    connector = HttpConnector(batches(api.url, auth=auth))
    assert [s.key for s in connector.secrets] == list(secrets)
    meta = await submit(connector, secrets=secrets)
    for _ in range(2):
        await connector.get(meta, **secrets)
    await connector.find(meta.token, **secrets)
    await connector.delete(meta, **secrets)
    asked = api.requests()
    assert len(asked) == 6
    assert {r["headers"].get(header) for r in asked} == {value}


async def test_a_secret_that_is_missing_or_unusable_is_a_hold(api: Api) -> None:
    """Nothing is sent, and the value is not shown."""
    auth = {"type": "bearer", "token": {"secret": "A"}}
    connector = HttpConnector(batches(api.url, auth=auth))
    for secrets in ({}, {"bearer_token": ""}, {"bearer_token": "abc\r\nX: hidden"}):
        with pytest.raises(AuthError) as caught:
            await submit(connector, secrets=secrets)
        assert "hidden" not in str(caught.value)
    assert api.requests() == []


def test_a_secret_never_stands_in_a_definition(api: Api) -> None:
    """The error says what to write, and does not repeat the value."""
    auth = {"type": "bearer", "token": "hunter2hunter2"}
    with pytest.raises(ConfigurationError, match=r"auth\.bearer\.token") as caught:
        HttpConnector(batches(api.url, auth=auth))
    assert "never the secret itself" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("client_auth", ["basic", "form"])
async def test_a_token_is_fetched_once_for_many_calls(
    api: Api, client_auth: str
) -> None:
    """Also for calls at the same time; the client's secret goes nowhere else."""
    connector = oauth(api, client_auth=client_auth)
    await asyncio.gather(
        *(submit(connector, f"o{'0' * 30}{n}1-1", secrets=OAUTH) for n in range(1, 6))
    )
    (fetched,) = api.requests("/oauth/token")
    assert "scope=jobs.write" in fetched["body"]
    sent = {r["headers"]["authorization"] for r in api.requests("/v2")}
    assert sent == {"Bearer access-token-1-of-this-service"}


async def test_a_token_is_replaced_before_it_expires(api: Api) -> None:
    """Some time before its end, as the definition says."""
    clock = ManualClock()
    connector = oauth(api, clock, refresh_before="5m")
    meta = await submit(connector, secrets=OAUTH)
    clock.advance(3600 - 301)
    await connector.get(meta, **OAUTH)
    assert len(api.requests("/oauth/token")) == 1
    clock.advance(2)
    await connector.get(meta, **OAUTH)
    assert len(api.requests("/oauth/token")) == 2


async def test_a_short_lived_token_is_not_fetched_for_every_call(api: Api) -> None:
    """One that lives shorter than the margin is used for half of its life."""
    api.expires_in(30)
    clock = ManualClock()
    connector = oauth(api, clock, refresh_before="5m")
    meta = await submit(connector, secrets=OAUTH)
    clock.advance(14)
    await connector.get(meta, **OAUTH)
    assert len(api.requests("/oauth/token")) == 1
    clock.advance(2)
    await connector.get(meta, **OAUTH)
    assert len(api.requests("/oauth/token")) == 2


async def test_a_revoked_token_is_replaced_once(api: Api) -> None:
    """A second refusal in a row is one of the credentials."""
    connector = oauth(api)
    meta = await submit(connector, secrets=OAUTH)
    api.revoke()
    await connector.get(meta, **OAUTH)
    assert len(api.requests("/oauth/token")) == 2
    api.require("nobody")
    api.revoke()
    with pytest.raises(AuthError):
        await connector.get(meta, **OAUTH)
    assert len(api.requests("/oauth/token")) == 3


async def test_a_refused_submit_is_sent_again_only_if_it_made_no_job(
    api: Api,
) -> None:
    """A definition that does not take 401 for a proof gets no second submit."""
    connector = oauth(api)
    api.script("POST /v2", 401)
    await submit(connector, secrets=OAUTH)
    assert len(api.requests("/v2/batches")) == 2
    raw = connector.definition.model_dump(by_alias=True, exclude_unset=True)
    doubtful = HttpConnector(merged(raw, {"submit": {"not_created": [400]}}))
    api.script("POST /v2", 401)
    with pytest.raises(OutcomeUnknownError, match="nobody knows"):
        await submit(doubtful, secrets=OAUTH)
    assert len(api.requests("/v2/batches")) == 3


async def test_a_task_with_other_credentials_gets_another_token(api: Api) -> None:
    """Tokens belong to the pair that they were given for."""
    connector = oauth(api)
    await submit(connector, secrets=OAUTH)
    with pytest.raises(AuthError, match="refused the client: 401") as caught:
        await submit(connector, secrets={**OAUTH, "client_secret": "other-secret"})
    assert "other-secret" not in str(caught.value)
    assert len(api.requests("/v2")) == 1


async def test_a_token_endpoint_that_is_away_means_not_created(api: Api) -> None:
    """The submit was never sent, so this is no unknown outcome."""
    connector = oauth(api)
    api.script("POST /oauth/token", 503, headers={"Retry-After": "7"})
    with pytest.raises(TransientError, match="token endpoint: 503") as caught:
        await submit(connector, secrets=OAUTH)
    assert caught.value.retry_after == 7
    api.script("POST /oauth/token", 429)
    with pytest.raises(ThrottledError):
        await submit(connector, secrets=OAUTH)
    api.script("POST /oauth/token", 0)
    with pytest.raises(TransientError, match="token endpoint: "):
        await submit(connector, secrets=OAUTH)
    api.script("POST /oauth/token", body={"token": "elsewhere"})
    with pytest.raises(TransientError, match="no access_token"):
        await submit(connector, secrets=OAUTH)
    assert api.requests("/v2") == []


async def test_an_access_token_is_known_to_whoever_redacts(api: Api) -> None:
    """Whoever calls the connector redacts what it says, the token like a secret."""
    connector, redactor = oauth(api), Redactor()
    with redacting(redactor):
        await submit(connector, secrets=OAUTH)
        api.require("nobody")
        api.revoke()
        with pytest.raises(AuthError, match=r"who is 'Bearer \*\*\*'"):
            await submit(connector, secrets=OAUTH)
    assert redactor.redact("access-token-1-of-this-service") == "***"


async def test_credentials_that_a_token_endpoint_quotes_as_sent_are_known(
    api: Api,
) -> None:
    """Client and secret, URL-encoded and then in base64: no spelling of the secret."""
    connector, redactor = oauth(api), Redactor()
    with redacting(redactor):
        await submit(connector, secrets=OAUTH)
    redactor.register(OAUTH)
    [fetched] = api.requests("/oauth/token")
    kind, encoded = fetched["headers"]["authorization"].split()
    assert kind == "Basic"
    assert redactor.redact(f"you are {encoded}") == "you are ***"


async def test_a_short_password_is_known_as_http_basic_sends_it(api: Api) -> None:
    """Too short to be found inside of what is sent; the header is known as a whole."""
    auth = {"type": "basic", "username": "you", "password": {"secret": "A"}}
    connector, redactor = HttpConnector(batches(api.url, auth=auth)), Redactor()
    redactor.register({"password": "p:wd"})
    with redacting(redactor):
        await submit(connector, secrets={"password": "p:wd"})
    assert redactor.redact("you are Basic eW91OnA6d2Q=") == "you are Basic ***"


async def test_a_kept_access_token_is_known_to_the_next_engine_as_well(
    api: Api,
) -> None:
    """It was fetched in a call of another one, perhaps."""
    connector, redactor = oauth(api), Redactor()
    await submit(connector, secrets=OAUTH)
    with redacting(redactor):
        await submit(connector, secrets=OAUTH)
    assert redactor.redact("access-token-1-of-this-service") == "***"


async def test_the_clients_secret_goes_to_the_token_endpoint_alone(
    api: Api, other: Api
) -> None:
    """On a host of its own, which sees no job and no access token."""
    connector = oauth(api, token_url=f"{other.url}/oauth/token")
    api.require("Bearer access-token-1-of-this-service")
    await submit(connector, secrets=OAUTH)
    assert [r["path"] for r in other.requests()] == ["/oauth/token"]
    seen = str(api.requests())
    assert CLIENT_SECRET not in seen
    assert "Basic" not in seen


def test_plain_http_to_a_token_endpoint_is_refused(api: Api) -> None:
    """The secret would be readable on the way."""
    with pytest.raises(ConfigurationError, match=r"auth\.token_url: is plain HTTP"):
        oauth(api, token_url="http://login.example/token")  # noqa: S106 - a URL


def test_margins_are_durations(api: Api) -> None:
    """In words or in seconds."""
    auth = oauth(api, refresh_before="2m").definition.auth
    assert getattr(auth, "refresh_before", None) == timedelta(minutes=2)
