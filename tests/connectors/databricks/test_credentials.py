"""Credentials: a secret's value in the call, for the connector's hosts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.connectors.databricks import DatabricksConnector
from orchestrator.connectors.databricks._clients import Clients, Credentials
from orchestrator.connectors.databricks._hosts import host_of
from orchestrator.errors import (
    AuthError,
    ConfigurationError,
    ConnectorError,
    PermanentError,
    TransientError,
)
from tests.connectors.databricks.kit import PAT, SECRETS, attempt, made
from tests.emulators import Fault, Rule, Running

if TYPE_CHECKING:
    from pathlib import Path

PRINCIPAL = {
    "databricks_client_id": "robot",
    "databricks_client_secret": "dose-0123456789",
}


async def test_a_service_principal_gets_its_token_from_the_workspace(
    service: Running, connector: DatabricksConnector
) -> None:
    """Once, until it is refused; then another one."""
    one = attempt()
    meta = await one.create(connector, **PRINCIPAL)
    await connector.get(meta, **PRINCIPAL)
    service.tell("/-/revoke", {})
    with pytest.raises(AuthError):
        await connector.get(meta, **PRINCIPAL)
    await connector.get(meta, **PRINCIPAL)
    assert service.calls("token")[""] >= 2
    assert service.count(one.token) == 1


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (Rule(do=Fault.REFUSE, status=401, verb="token"), AuthError),
        (Rule(do=Fault.REFUSE, status=503, verb="token"), TransientError),
        (Rule(do=Fault.CUT, verb="token"), TransientError),
    ],
    ids=lambda value: f"{value.do}-{value.status}" if isinstance(value, Rule) else "",
)
async def test_a_token_that_is_not_given_makes_no_run(
    service: Running, connector: DatabricksConnector, rule: Rule, kind: type
) -> None:
    """Nothing else was sent, so the create is known not to have happened."""
    one = attempt()
    service.script(rule)
    with pytest.raises(ConnectorError, match="no access token") as caught:
        await one.create(connector, **PRINCIPAL)
    assert type(caught.value) is kind
    assert "dose" not in str(caught.value)
    assert service.count(one.token) == 0


@pytest.mark.parametrize(
    "secrets",
    [
        {},
        {"databricks_token": ""},
        {"databricks_client_id": "robot"},
        {"databricks_token": "two\nlines-of-it"},
        {"databricks_token": "schlüssel-ä"},
    ],
)
async def test_what_are_no_credentials_is_refused_and_not_quoted(
    connector: DatabricksConnector, secrets: dict[str, str]
) -> None:
    """The execution is held; the machine's own credentials are not used instead."""
    with pytest.raises(AuthError) as caught:
        await attempt().create(connector, **secrets)
    for value in filter(None, secrets.values()):
        assert value not in str(caught.value)


async def test_nothing_is_taken_from_the_environment_or_the_users_files(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the SDK would read by itself names another host and another token."""
    (tmp_path / ".databrickscfg").write_text(
        "[DEFAULT]\nhost = https://other.example\ntoken = other\n"
        "[named]\nhost = https://named.example\ntoken = other\n"
    )
    environ = {
        "HOME": str(tmp_path),
        "DATABRICKS_CONFIG_PROFILE": "named",
        "DATABRICKS_HOST": "https://environ.example",
        "DATABRICKS_TOKEN": "other",
        "DATABRICKS_AUTH_TYPE": "external-browser",
        "DATABRICKS_CLIENT_ID": "other",
        "DATABRICKS_CLIENT_SECRET": "other",
        "DATABRICKS_DEBUG_TRUNCATE_BYTES": "10000",
        "ARM_CLIENT_ID": "other",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    connector = DatabricksConnector(host=service.url)
    one = attempt()
    await made(connector, one)
    assert service.count(one.token) == 1
    known = Credentials.of({"databricks_token": PAT})
    config = connector._clients.get(connector.host, known)._client.config
    kept = {name: value for name, value in config.as_dict().items() if value}
    assert "other" not in str(kept)
    assert PAT not in str(kept)
    assert "named" not in str(kept)
    connector.close()


async def test_a_task_for_another_workspace_is_refused_unless_it_is_allowed(
    service: Running,
) -> None:
    """Else whoever writes tasks could have the credentials sent to himself."""
    other = "https://other.cloud.databricks.com"
    one = attempt(databricks_instance=service.url)
    connector = DatabricksConnector(host=other)
    with pytest.raises(PermanentError, match="allowed_hosts"):
        await made(connector, one)
    with pytest.raises(PermanentError, match="allowed_hosts"):
        await connector.find(one.token, one.template, **SECRETS)
    connector.close()
    assert service.count(one.token) == 0
    connector = DatabricksConnector(host=other, allowed_hosts=[service.url])
    meta = await made(connector, one)
    assert meta.host == service.url
    connector.close()


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("myorg.cloud.databricks.com", "https://myorg.cloud.databricks.com"),
        ("HTTPS://MyOrg.example/?o=123#job", "https://myorg.example"),
        ("https://myorg.example:443/", "https://myorg.example"),
        ("https://myorg.example:8443", "https://myorg.example:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_a_workspace_has_one_spelling(text: str, host: str) -> None:
    """Flyte's domain, and what a browser shows, included."""
    assert host_of(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "http://myorg.example",
        "ftp://myorg.example",
        "https://user@evil.example",
        "https://my org",
        "https://good.example\\@evil.example",
        "https://",
        "https://\u0430.example",
    ],
)
def test_what_is_no_workspace_is_refused(text: str) -> None:
    """Neither are tokens sent in the clear."""
    with pytest.raises(ConfigurationError, match="host"):
        DatabricksConnector(host=text)


def test_the_host_is_an_argument_or_databricks_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Read once, when the connector is made."""
    monkeypatch.setenv("DATABRICKS_HOST", "https://environ.example/")
    assert DatabricksConnector().host == "https://environ.example"
    assert DatabricksConnector(host="a.example").host == "https://a.example"
    monkeypatch.delenv("DATABRICKS_HOST")
    with pytest.raises(ConfigurationError, match="host must be named"):
        DatabricksConnector()


def test_workspaces_are_kept_per_host_and_credentials_and_not_for_ever(
    service: Running,
) -> None:
    """The one that was unused longest goes."""
    clients = Clients(5.0, 4, kept=2)
    first = clients.get(service.url, Credentials.of({"databricks_token": "a"}))
    assert clients.get(service.url, Credentials.of({"databricks_token": "a"})) is first
    assert (
        clients.get(service.url, Credentials.of({"databricks_token": "b"})) is not first
    )
    clients.get(
        service.url,
        Credentials.of({"databricks_client_id": "c", "databricks_client_secret": "d"}),
    )
    assert len(clients) == 2
    assert (
        clients.get(service.url, Credentials.of({"databricks_token": "a"})) is not first
    )
    assert "PAT" not in repr(Credentials.of({"databricks_token": "PAT"}))
