"""Credentials: a secret's value in the call, a bounded cache, and nowhere else."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from orchestrator.connectors.bigquery import BigQueryConnector
from orchestrator.connectors.bigquery._clients import Clients, credentials_from
from orchestrator.errors import AuthError, ConfigurationError, ConnectorError
from tests.connectors.bigquery.accounts import service_account
from tests.connectors.bigquery.kit import attempt
from tests.emulators import Fault, Rule, Running

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_job_belongs_to_the_account_of_the_secret(
    service: Running, connector: BigQueryConnector
) -> None:
    """The real flow: a signed assertion for a token, the token for the job."""
    one = attempt()
    key = service_account(service.url, "owner")
    meta = await one.create(connector, google_application_credentials=key)
    client = connector._clients.get(meta.project, key)
    job = client.get_job(one.token, meta.project, meta.location)
    assert job.user_email == "owner@shop-project.example"
    nobody = attempt()
    meta = await nobody.create(connector)
    client = connector._clients.get(meta.project, None)
    job = client.get_job(nobody.token, meta.project, meta.location)
    assert job.user_email == "anonymous"


async def test_an_account_for_an_emulator_is_shown_to_nobody_else(
    service: Running, connector: BigQueryConnector
) -> None:
    """Google's library would ask Google, in a thread of its own."""
    before = set(threading.enumerate())
    key = service_account(service.url, "local")
    await attempt().create(connector, google_application_credentials=key)
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert all(name.startswith("orchestrator-bigquery") for name in names), names


async def test_a_token_that_is_not_given_makes_no_job(
    service: Running, connector: BigQueryConnector
) -> None:
    """A refusal holds the execution; it says nothing of the key."""
    one = attempt()
    key = service_account(service.url, "refused")
    service.script(Rule(do=Fault.REFUSE, verb="token", status=401))
    with pytest.raises(AuthError, match="no access token") as caught:
        await one.create(connector, google_application_credentials=key)
    assert "PRIVATE KEY" not in str(caught.value)
    assert service.count(one.token) == 0


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"type": "external_account"}',
        '{"type": "service_account"}',
    ],
)
async def test_what_is_no_key_is_refused_and_not_quoted(
    connector: BigQueryConnector, secret: str
) -> None:
    """Neither in the error nor in what caused it."""
    with pytest.raises(AuthError) as caught:
        await attempt().create(connector, google_application_credentials=secret)
    assert not secret or secret not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_authorized_user_is_taken() -> None:
    """As ``gcloud auth application-default login`` writes it."""
    info = {"type": "authorized_user", "client_id": "c", "client_secret": "s"}
    assert credentials_from(json.dumps({**info, "refresh_token": "r"})).refresh_token  # type: ignore[attr-defined]


async def test_an_access_token_is_not_sent_in_the_clear(service: Running) -> None:
    """Plain http is for emulators on this machine."""
    connector = BigQueryConnector(endpoint="http://emulator.example:9050")
    with pytest.raises(AuthError, match="plain http"):
        await attempt().create(
            connector, google_application_credentials=service_account(service.url)
        )
    connector.close()


async def test_without_any_credentials_the_execution_is_held(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Google's default credentials are looked for in the call, and miss."""
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    connector = BigQueryConnector()
    with pytest.raises(ConnectorError) as caught:
        await attempt().create(connector)
    assert type(caught.value) is AuthError
    connector.close()


def test_clients_are_kept_per_project_and_key_and_not_for_ever(
    service: Running,
) -> None:
    """The one that was unused longest goes."""
    clients = Clients(service.url, kept=2)
    first = clients.get("a", None)
    assert clients.get("a", None) is first
    assert clients.get("b", None) is not first
    assert clients.get("a", service_account(service.url)) is not first
    assert len(clients) == 2
    assert clients.get("a", None) is not first


def test_the_endpoint_is_an_argument_or_googles_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Read once, when the connector is made."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://localhost:9050/")
    assert BigQueryConnector().endpoint == "http://localhost:9050"
    assert BigQueryConnector(endpoint="https://bq.example").endpoint.endswith("example")
    assert BigQueryConnector(endpoint="").endpoint == ""


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:9050", "http://", "http:///path", "https://[::1", "http://a:many"],
)
def test_an_endpoint_that_is_no_url_of_a_host_is_refused(endpoint: str) -> None:
    """When the connector is made, not at the first call."""
    with pytest.raises(ConfigurationError, match="endpoint"):
        BigQueryConnector(endpoint=endpoint)


def test_a_wrong_variable_is_named_and_not_an_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody passed an endpoint."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "localhost:9050")
    with pytest.raises(ConfigurationError, match=r"^BIGQUERY_EMULATOR_HOST: 'loc"):
        BigQueryConnector()
