"""Where values of secrets come from, in which order, and what a failure says."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import keyring
import pytest

from orchestrator._secrets import (
    EnvironmentSecrets,
    FileSecrets,
    KeyringSecrets,
    Secrets,
    reference,
    secret_providers,
)
from orchestrator.errors import ConfigurationError, SecretNotFoundError
from orchestrator.testing import ManualClock
from tests.support.keyring import Memory

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator._secrets import SecretProvider, SecretReference

KEY = reference("api-key", None, None)
GROUPED = reference("api-key", "team", None)


async def value_of(secret: SecretReference, *providers: SecretProvider) -> str:
    """Return what the providers say of one secret."""
    sources = Secrets(providers, ManualClock())
    return (await sources.resolve({"x": secret}))["x"]


async def test_values_are_resolved_by_keyword() -> None:
    environ = {"A": "one", "B": ""}
    sources = Secrets([EnvironmentSecrets(environ)], ManualClock())
    wanted = {"x": reference("x", None, "A"), "y": reference("y", None, "B")}
    assert await sources.resolve(wanted) == {"x": "one", "y": ""}


async def test_the_process_environment_is_read_at_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = EnvironmentSecrets()
    monkeypatch.setenv("API_KEY", "now")
    assert await value_of(KEY, provider) == "now"


async def test_a_missing_secret_names_its_variable_and_where_it_was_looked_for(
    tmp_path: Path,
) -> None:
    with pytest.raises(SecretNotFoundError) as missing:
        await value_of(KEY, EnvironmentSecrets({"A": "hush"}), FileSecrets(tmp_path))
    assert (missing.value.reference, missing.value.key) == ("API_KEY", "api-key")
    said = str(missing.value)
    assert f"the environment, the files of {tmp_path}" in said
    assert "set the environment variable API_KEY" in said
    assert said.endswith(", or let one of the others know 'api-key'")
    assert "hush" not in said


async def test_no_variable_is_asked_for_where_the_environment_is_not_looked_at(
    tmp_path: Path,
) -> None:
    with pytest.raises(SecretNotFoundError) as missing:
        await value_of(KEY, FileSecrets(tmp_path))
    assert "set the" not in str(missing.value)
    assert str(missing.value).endswith(": let one of the named know 'api-key'")


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        ("api-key", KEY),
        ("API_KEY", KEY),
        ("team/api-key", GROUPED),
        ("TEAM_API_KEY", GROUPED),
    ],
)
async def test_a_file_is_found_by_group_and_key_or_by_variable(
    tmp_path: Path, path: str, secret: SecretReference
) -> None:
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text("from a file\n\n")
    assert await value_of(secret, FileSecrets(tmp_path)) == "from a file\n"


async def test_a_link_inside_the_folder_is_followed_as_kubernetes_makes_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "api-key").write_text("rotated")
    (tmp_path / "api-key").symlink_to("..2026/api-key")
    assert await value_of(KEY, FileSecrets(tmp_path)) == "rotated"


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "link"])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (tmp_path / "outside").write_text("not yours")
    (folder / "link").symlink_to("../outside")
    with pytest.raises(SecretNotFoundError, match="which raised ValueError") as refused:
        await value_of(reference(key, None, "V"), FileSecrets(folder))
    assert "not yours" not in str(refused.value)


async def test_what_is_no_text_or_too_large_is_told_without_its_value(
    tmp_path: Path,
) -> None:
    (tmp_path / "api-key").write_bytes(b"\xe9-secret")
    with pytest.raises(SecretNotFoundError, match="raised ValueError") as refused:
        await value_of(KEY, FileSecrets(tmp_path))
    assert "secret'" not in str(refused.value.__cause__)
    (tmp_path / "api-key").write_bytes(b"x" * 65536)
    assert await value_of(KEY, FileSecrets(tmp_path)) == "x" * 65536
    (tmp_path / "api-key").write_bytes(b"x" * 65537)
    with pytest.raises(SecretNotFoundError, match="raised OSError") as refused:
        await value_of(KEY, FileSecrets(tmp_path))
    assert "larger than 65536 bytes, the most" in str(refused.value.__cause__)


async def test_the_first_provider_with_a_value_decides_also_after_one_that_failed() -> (
    None
):
    asked: list[str] = []

    def broken(secret: SecretReference) -> str | None:
        asked.append(f"broken {secret.key}")
        raise OSError("the vault is sealed, key s3cr3t")

    async def vault(secret: SecretReference) -> str | None:
        asked.append(f"vault {secret.key}")
        return "from the vault"

    found = await value_of(KEY, broken, vault, EnvironmentSecrets({"API_KEY": "no"}))
    assert found == "from the vault"
    assert asked == ["broken api-key", "vault api-key"]
    with pytest.raises(SecretNotFoundError) as missing:
        await value_of(KEY, broken)
    assert "raised OSError" in str(missing.value)
    assert "s3cr3t" not in str(missing.value)


async def test_a_callable_object_may_be_async_and_only_text_is_a_value() -> None:
    class Vault:
        async def __call__(self, secret: SecretReference) -> str | None:
            return f"{secret.group}/{secret.key}"

    def bytes_given(secret: SecretReference) -> str | None:
        return b"hush"  # type: ignore[return-value]

    assert await value_of(GROUPED, Vault()) == "team/api-key"
    with pytest.raises(SecretNotFoundError) as refused:
        await value_of(KEY, bytes_given)
    assert "bytes_given, which gave a bytes, not a str" in str(refused.value)
    assert "hush" not in f"{refused.value} {refused.value.__cause__}"


async def test_a_provider_that_hangs_is_left_after_ten_seconds() -> None:
    clock, asked = ManualClock(), asyncio.Event()

    async def hangs(secret: SecretReference) -> str | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    resolving = asyncio.ensure_future(Secrets([hangs], clock).resolve({"x": KEY}))
    await asked.wait()
    clock.advance(10.0)
    with pytest.raises(SecretNotFoundError, match="raised TimeoutError"):
        await resolving


def test_a_setting_names_providers_in_their_order() -> None:
    found = secret_providers("files:/run/secrets, environment")
    assert list(map(str, found)) == ["the files of /run/secrets", "the environment"]
    with pytest.raises(ConfigurationError, match="secrets: 'vault:x' is none of"):
        secret_providers("environment,vault:x")


async def test_the_keyring_is_asked_by_group_and_key() -> None:
    """The real package, with a keyring of its own that needs no desktop."""
    Memory.passwords[("orchestrator", "team/api-key")] = "from the ring"
    keyring.set_keyring(Memory())
    assert await value_of(GROUPED, KeyringSecrets()) == "from the ring"
    with pytest.raises(SecretNotFoundError, match="the keyring's other"):
        await value_of(GROUPED, KeyringSecrets("other"))


def test_a_keyring_that_is_not_installed_says_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigurationError, match="keyring is missing: pip install"):
        secret_providers("keyring")
