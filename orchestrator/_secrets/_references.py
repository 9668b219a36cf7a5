"""References to secrets: what rows, templates and connectors hold instead of values."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - dataclass fields are resolved at run time
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InvalidInputError

if TYPE_CHECKING:
    from flyteidl2.core.tasks_pb2 import TaskTemplate

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
MOUNT = "/etc/flyte/secrets"
"""Where Flyte mounts secrets as files."""

RESERVED_KEYWORDS = frozenset(
    {
        "idempotency_token",
        "task_template",
        "output_prefix",
        "inputs",
        "task_execution_metadata",
        "resource_meta",
        "token",
    }
)
"""Parameters of the connector's methods, which no secret may be named after."""

RESERVED_PROBLEM = (
    "is a parameter of the connector's methods; give the secret another keyword"
)


@dataclass(frozen=True)
class Secret:
    """A reference to a secret, never its value (same fields as Flyte's).

    Attributes:
        key: Name of the secret, and of the keyword argument that carries its value.
        group: Group of the secret in stores that have groups, or None.
        mount: ``/etc/flyte/secrets`` or None. Accepted as Flyte accepts it; where
            values are looked up is said to the engine, not here.
        as_env_var: Environment variable that holds the value; by default the key
            (with the group before it) in upper case with ``-`` turned into ``_``.

    Raises:
        ValueError: The mount is another path, or the variable's name is illegal.
    """

    key: str
    group: str | None = None
    mount: Path | None = None
    as_env_var: str | None = None

    def __post_init__(self) -> None:
        """Fill in the variable's name and validate."""
        if self.mount and str(self.mount) != MOUNT:
            message = f"Secret.mount must be {MOUNT} or None, got {self.mount}"
            raise ValueError(message)
        if not self.mount and not self.as_env_var:
            object.__setattr__(self, "as_env_var", _variable(self.key, self.group))
        if self.as_env_var is not None and not _VARIABLE.fullmatch(self.as_env_var):
            message = (
                f"Secret.as_env_var {self.as_env_var!r} of key {self.key!r} must match"
                f" {_VARIABLE.pattern}"
            )
            raise ValueError(message)

    def stable_hash(self) -> str:
        """Return a hex digest of the reference, equal in every process."""
        parts = (self.key, self.group or "", str(self.mount or ""), self.as_env_var)
        return hashlib.sha256("|".join(p or "" for p in parts).encode()).hexdigest()


SecretRequest = str | Secret | list[str | Secret]
"""What a task's ``secrets=`` takes: a key, a Secret, or a list of both."""


def secrets_from_request(request: SecretRequest) -> list[Secret]:
    """Return the request as a list of Secret."""
    requested = request if isinstance(request, (list, tuple)) else [request]
    return [s if isinstance(s, Secret) else Secret(key=s) for s in requested]


@dataclass(frozen=True, slots=True)
class SecretReference:
    """What a provider of secrets is asked for.

    Attributes:
        key: Name of the secret.
        group: Group of the secret in stores that have groups, "" for none.
        variable: Environment variable that holds the value, if one does.
    """

    key: str
    group: str
    variable: str


def reference(key: str, group: str | None, variable: str | None) -> SecretReference:
    """Return a reference; without a *variable*, with the one that Flyte derives."""
    return SecretReference(key, group or "", variable or _variable(key, group))


def _variable(key: str, group: str | None) -> str:
    """Return the environment variable that Flyte derives from key and group."""
    return (f"{group}_{key}" if group else key).replace("-", "_").upper()


class ConnectorSecretsMixin:
    """Gives a connector secrets: ``super().__init__(secrets={keyword: VARIABLE})``.

    Works before and after AsyncConnector in the list of bases. The values reach
    ``create``, ``get`` and ``delete`` as the keyword arguments named here.
    """

    def __init__(self, secrets: dict[str, str], **kwargs: Any) -> None:
        """Store references only.

        Args:
            secrets: Keyword argument to environment variable.
            **kwargs: For the next class in line.
        """
        super().__init__(**kwargs)
        self._secrets = dict(secrets)

    @property
    def secrets(self) -> list[Secret]:
        """The references, in the order in which they were given."""
        return [Secret(key=k, as_env_var=v) for k, v in self._secrets.items()]


def secret_references(
    template: TaskTemplate, connector: object
) -> dict[str, SecretReference]:
    """Return the reference of each secret that a call is to receive, by keyword.

    Order: the template's ``custom["secrets"]`` (keyword to variable, as in Flyte's
    local run), then its ``security_context.secrets`` (keyword is the key), then the
    connector's mixin. The first one that names a keyword decides it.

    Raises:
        InvalidInputError: ``custom["secrets"]`` is no mapping of str to str, or a
            keyword is a parameter of the connector's methods.
    """
    references: dict[str, SecretReference] = {}
    if template.HasField("custom") and "secrets" in template.custom.fields:
        references.update(_custom_references(template))
    if template.HasField("security_context"):
        for secret in template.security_context.secrets:
            found = reference(secret.key, secret.group, secret.env_var)
            references.setdefault(secret.key, found)
    if isinstance(connector, ConnectorSecretsMixin):
        for own in connector.secrets:
            found = reference(own.key, own.group, own.as_env_var)
            references.setdefault(own.key, found)
    for keyword in references:
        if keyword in RESERVED_KEYWORDS:
            raise InvalidInputError(f"secrets.{keyword}", RESERVED_PROBLEM)
    return references


def _custom_references(template: TaskTemplate) -> dict[str, SecretReference]:
    """Return ``custom["secrets"]`` of the template."""
    found = template.custom.fields["secrets"]
    references: dict[str, SecretReference] = {}
    for keyword, variable in found.struct_value.fields.items():
        if not variable.HasField("string_value"):
            problem = "must be the name of an environment variable"
            raise InvalidInputError(f"custom.secrets.{keyword}", problem)
        references[keyword] = reference(keyword, None, variable.string_value)
    if not found.HasField("struct_value") and not found.HasField("null_value"):
        problem = "must map keyword arguments to names of environment variables"
        raise InvalidInputError("custom.secrets", problem)
    return references
