"""A keyring in memory, for the real keyring package."""

from __future__ import annotations

from typing import ClassVar

from keyring.backend import KeyringBackend


class Memory(KeyringBackend):
    """Keeps passwords by service and user name."""

    priority = 1
    passwords: ClassVar[dict[tuple[str, str], str]] = {}

    def __init__(self) -> None:
        """Be the keyring without a configuration."""
        super().__init__()  # type: ignore[no-untyped-call]

    def get_password(self, service: str, username: str) -> str | None:
        """Return what was kept."""
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep a password."""
        self.passwords[service, username] = password
