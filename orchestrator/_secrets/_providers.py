"""Where the values of secrets come from: environment, files, keyring, a function."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator._extras import how_to_install
from orchestrator._secrets._references import MOUNT, SecretReference
from orchestrator.errors import ConfigurationError, SecretNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator._clock import Clock

SecretProvider: TypeAlias = Callable[
    [SecretReference], str | Awaitable[str | None] | None
]
"""Returns a secret's value, None where it has none; an async function may as well.

Called right before each call that needs the secret, in a thread of its own unless it
is async, so it may ask a service; one that asks often should cache by itself.
"""

_FILE_BYTES_MAX = 64 * 1024
_TIMEOUT_S = 10.0
_THREADS_MAX = 8
"""So many calls of one provider are under way at once; those that hang count."""


def environment_value(variable: str) -> str:
    """Return an environment variable that holds a secret.

    Raises:
        SecretNotFoundError: It is not set.
    """
    value = os.environ.get(variable)
    if value is None:
        raise SecretNotFoundError(variable)
    return value


class EnvironmentSecrets:
    """Environment variables: the reference's own, else the one that Flyte derives.

    Args:
        environ: None for this process's environment, read at each call.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ

    def __call__(self, secret: SecretReference) -> str | None:
        """Return the variable's value; an empty one is a value."""
        environ = os.environ if self._environ is None else self._environ
        return environ.get(secret.variable)

    def __str__(self) -> str:
        """Say where this looks."""
        return "the environment"


class FileSecrets:
    """Files of a folder, as Kubernetes, Docker and systemd mount them.

    ``GROUP/KEY`` for a secret with a group, else ``KEY``, else a file named as the
    environment variable. One newline at the end is not part of the value.

    Args:
        folder: A folder that is not there has no secrets. Default Flyte's,
            ``/etc/flyte/secrets``.
    """

    def __init__(self, folder: str | os.PathLike[str] = MOUNT) -> None:
        self._folder = Path(folder)

    def __call__(self, secret: SecretReference) -> str | None:
        """Return the file's text, None without such a file.

        Raises:
            OSError: The file is there and cannot be read, or is larger than 64 KiB.
            ValueError: It is no UTF-8, or the name leads out of the folder.
        """
        names = [f"{secret.group}/{secret.key}"] if secret.group else [secret.key]
        for name in (*names, secret.variable):
            path = self._inside(name)
            if path is not None:
                return self._read(path)
        return None

    def _inside(self, name: str) -> Path | None:
        """Return the file of *name*: links are followed, but not out of the folder."""
        try:
            root = self._folder.resolve(strict=True)
            path = (root / name).resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not path.is_relative_to(root):
            message = f"secret {name!r} leads out of {self._folder}"
            raise ValueError(message)
        return path if path.is_file() else None

    @staticmethod
    def _read(path: Path) -> str:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if len(data) > _FILE_BYTES_MAX:
            message = (
                f"{path} is larger than {_FILE_BYTES_MAX} bytes, the most that a secret"
                " may have: let the connector read such a file by itself"
            )
            raise OSError(message)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            # Its own message would quote the value.
            message = f"{path} is not UTF-8"
            raise ValueError(message) from None
        return text.removesuffix("\n").removesuffix("\r")

    def __str__(self) -> str:
        """Say where this looks."""
        return f"the files of {self._folder}"


class KeyringSecrets:
    """The system's keyring, by the ``keyring`` package (extra ``keyring``).

    The keyring's user name is the secret's key, with ``GROUP/`` before it if it has a
    group: ``keyring set orchestrator api-key``.

    Args:
        service: The keyring's name for the application, default ``orchestrator``.

    Raises:
        ConfigurationError: The package is not installed.
    """

    def __init__(self, service: str = "orchestrator") -> None:
        try:
            import keyring  # noqa: PLC0415 - optional
        except ImportError as error:
            message = f"keyring is missing: {how_to_install('keyring')}"
            raise ConfigurationError(message) from error
        self._get = keyring.get_password
        self._service = service

    def __call__(self, secret: SecretReference) -> str | None:
        """Return the password, None without one; raises what the keyring raises."""
        name = f"{secret.group}/{secret.key}" if secret.group else secret.key
        return self._get(self._service, name)

    def __str__(self) -> str:
        """Say where this looks."""
        return f"the keyring's {self._service}"


class _Threads:
    """Daemon threads for one provider: one that hangs keeps nobody else's."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_THREADS_MAX)

    async def ask(self, provider: SecretProvider, secret: SecretReference) -> Any:
        """Call *provider* in a thread of its own; who is cancelled leaves it behind."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Callable[[], Any]] = loop.create_future()

        def ended(outcome: Callable[[], Any]) -> None:
            self._free.release()
            if not answer.done():
                answer.set_result(outcome)

        def work() -> None:
            outcome: Callable[[], Any]
            try:
                value = context.run(provider, secret)
                outcome = partial(_returned, value)
            except BaseException as error:  # noqa: BLE001 - whatever it raises
                outcome = partial(_raised, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended, outcome)

        context = contextvars.copy_context()
        try:
            threading.Thread(
                target=work, name="orchestrator-secret", daemon=True
            ).start()
        except BaseException:
            self._free.release()
            raise
        return (await answer)()


def _returned(value: Any) -> Any:
    return value


def _raised(error: BaseException) -> Any:
    raise error


class Secrets:
    """Resolves references with the first provider that has a value."""

    def __init__(self, providers: Sequence[SecretProvider], clock: Clock) -> None:
        """Ask *providers* in their order."""
        self._providers = tuple(providers)
        self._threads = [_Threads() for _ in self._providers]
        self._clock = clock

    async def resolve(
        self, references: Mapping[str, SecretReference]
    ) -> dict[str, str]:
        """Return the values of *references*, by keyword.

        Raises:
            SecretNotFoundError: Names the first one that has no value, and where it
                was looked for; a provider that failed or took longer than 10 s is
                its cause.
        """
        return {
            keyword: await self._value(secret) for keyword, secret in references.items()
        }

    async def _value(self, secret: SecretReference) -> str:
        places = []
        failed: Exception | None = None
        for provider, threads in zip(self._providers, self._threads, strict=True):
            place = _name(provider)
            try:
                value = await self._ask(provider, threads, secret)
            except Exception as error:  # noqa: BLE001 - a user's function, a keyring
                # Another may know it. Its text is not trusted to be without values.
                failed = failed or error
                place += f", which raised {type(error).__name__}"
                value = None
            if isinstance(value, str):
                return value
            if value is not None:  # its repr would be the value
                place += f", which gave a {type(value).__name__}, not a str"
            places.append(place)
        raise SecretNotFoundError(secret.variable, secret.key, places) from failed

    async def _ask(
        self, provider: SecretProvider, threads: _Threads, secret: SecretReference
    ) -> Any:
        if isinstance(provider, EnvironmentSecrets):
            return provider(secret)  # nothing to wait for
        waits = inspect.iscoroutinefunction(provider) or inspect.iscoroutinefunction(
            type(provider).__call__
        )
        async with self._clock.limit(_TIMEOUT_S):
            given = provider(secret) if waits else await threads.ask(provider, secret)
            return await given if isinstance(given, Awaitable) else given


def _name(provider: SecretProvider) -> str:
    if isinstance(provider, (EnvironmentSecrets, FileSecrets, KeyringSecrets)):
        return str(provider)
    return str(getattr(provider, "__qualname__", type(provider).__qualname__))


def secret_providers(text: str) -> list[SecretProvider]:
    """Return the providers that a setting names, such as ``environment,files:/x``.

    Raises:
        ConfigurationError: A provider is unknown, or needs a missing package.
    """
    providers: list[SecretProvider] = []
    for word in filter(None, map(str.strip, text.split(","))):
        name, _, rest = word.partition(":")
        if name == "environment" and not rest:
            providers.append(EnvironmentSecrets())
        elif name == "files":
            providers.append(FileSecrets(rest or MOUNT))
        elif name == "keyring":
            providers.append(KeyringSecrets(rest or "orchestrator"))
        else:
            known = "environment, files:FOLDER, keyring:SERVICE"
            raise ConfigurationError(f"secrets: {word!r} is none of {known}")
    return providers
