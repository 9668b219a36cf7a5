"""Secrets: references in rows and templates, values only in a connector's call.

A reference is the name of an environment variable. Values are read right before a
call, handed over as keyword arguments and forgotten. What comes back (messages and
error texts) goes through a Redactor, since services like to quote what they refuse.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - dataclass fields are resolved at run time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from orchestrator.errors import InvalidInputError, SecretNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flyteidl2.core.tasks_pb2 import TaskTemplate

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_MOUNT = "/etc/flyte/secrets"

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

REDACTED = "***"
"""What stands in a text where a secret stood."""

_SHORTEST = 4
"""Shorter values are not redacted: they would blank out half of every message."""

_SHORTEST_CORE = 6
"""The same for the inner part of a base64 text, which is less telling."""


@dataclass(frozen=True)
class Secret:
    """A reference to a secret, never its value (same fields as Flyte's).

    Attributes:
        key: Name of the secret, and of the keyword argument that carries its value.
        group: Group of the secret in stores that have groups, or None.
        mount: ``/etc/flyte/secrets`` or None. Accepted as Flyte accepts it; this
            library reads secrets from the environment, also those.
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
        if self.mount and str(self.mount) != _MOUNT:
            message = f"Secret.mount must be {_MOUNT} or None, got {self.mount}"
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


def secret_references(template: TaskTemplate, connector: object) -> dict[str, str]:
    """Return the environment variable of each secret that a call is to receive.

    Order: the template's ``custom["secrets"]`` (keyword to variable, as in Flyte's
    local run), then its ``security_context.secrets`` (keyword is the key), then the
    connector's mixin. The first one that names a keyword decides it.

    Raises:
        InvalidInputError: ``custom["secrets"]`` is no mapping of str to str, or a
            keyword is a parameter of the connector's methods.
    """
    references: dict[str, str] = {}
    if template.HasField("custom") and "secrets" in template.custom.fields:
        references.update(_custom_references(template))
    if template.HasField("security_context"):
        for secret in template.security_context.secrets:
            variable = secret.env_var or _variable(secret.key, secret.group)
            references.setdefault(secret.key, variable)
    if isinstance(connector, ConnectorSecretsMixin):
        for own in connector.secrets:
            variable = own.as_env_var or _variable(own.key, own.group)
            references.setdefault(own.key, variable)
    for keyword in references:
        if keyword in RESERVED_KEYWORDS:
            raise InvalidInputError(f"secrets.{keyword}", RESERVED_PROBLEM)
    return references


def _custom_references(template: TaskTemplate) -> dict[str, str]:
    """Return ``custom["secrets"]`` of the template."""
    found = template.custom.fields["secrets"]
    references: dict[str, str] = {}
    for keyword, variable in found.struct_value.fields.items():
        if not variable.HasField("string_value"):
            problem = "must be the name of an environment variable"
            raise InvalidInputError(f"custom.secrets.{keyword}", problem)
        references[keyword] = variable.string_value
    if not found.HasField("struct_value") and not found.HasField("null_value"):
        problem = "must map keyword arguments to names of environment variables"
        raise InvalidInputError("custom.secrets", problem)
    return references


def resolve(
    references: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the values of *references*, by keyword.

    Args:
        references: Keyword to environment variable.
        environ: Where to look, None for this process's environment, read now.

    Raises:
        SecretNotFoundError: Names the first variable that is not set.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, str] = {}
    for keyword, variable in references.items():
        value = environ.get(variable)
        if value is None:
            raise SecretNotFoundError(variable)
        values[keyword] = value
    return values


def spellings(value: str) -> set[str]:
    """Return the spellings in which services and clients quote *value*."""
    raw = value.encode("utf-8", "surrogatepass")
    forms = {
        value,
        quote(value, safe="", errors="replace"),
        quote_plus(value, errors="replace"),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    }
    # Inside a longer base64 text ("user:password") the value starts at one of three
    # offsets; only the characters that depend on nothing else are searched for.
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        start, stop = (0, 2, 3)[offset], (offset + len(raw)) * 8 // 6
        core = encoded[start:stop]
        if len(core) >= _SHORTEST_CORE:
            forms |= {core, core.replace("+", "-").replace("/", "_")}
    whole = base64.b64encode(raw).decode()
    forms |= {whole, whole.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= _SHORTEST}


_ESCAPE = r"(?:\\|%(?:25)*+5[cC])"
"""A backslash as it is or URL-encoded."""
_LETTERS = {"\n": "n", "\r": "r", "\t": "t"}
_ENTITIES = {"<": "lt|#60", ">": "gt|#62", '"': "quot|#34", "'": "apos|#39|#x27"}


def _spelled(value: str) -> str:
    """Return a pattern of *value* as any client escapes it, also more than once.

    In URLs, JSON, ``repr`` and HTML: a service quotes the body of a request inside a
    text inside an answer. Clients agree neither on which characters need an escape
    nor on the case of the digits. What repeats is possessive, so that no text of a
    service costs more than its length.
    """
    parts: list[str] = []
    for match in re.finditer(r"[A-Za-z0-9]+|\\+|.", value, re.DOTALL):
        word = match[0]
        if word.isascii() and word.isalnum():
            parts.append(word)
        elif word[0] == "\\":
            parts.append(f"{_ESCAPE}++")
        else:
            before = f"{_ESCAPE}*+" if parts else ""
            parts.append(f"{before}(?:{'|'.join(_ways(word, first=not parts))})")
    return "".join(parts)


def _ways(char: str, *, first: bool) -> list[str]:
    """Return patterns of one character that is no letter or digit of ASCII."""
    octets = char.encode("utf-8", "surrogatepass")
    units = char.encode("utf-16-be", "surrogatepass").hex()
    escaped = [f"u{units[at : at + 4]}" for at in range(0, len(units), 4)]
    start = _ESCAPE if first else ""
    ways = [
        re.escape(char),
        f"(?i:{''.join(f'%(?:25)*+{octet:02x}' for octet in octets)})",
        f"(?i:{start}{f'{_ESCAPE}++'.join(escaped)})",
    ]
    if char == " ":
        ways.append(r"\+")
    if char == "&":
        ways[0] = "&(?:amp;)*+"
    if char in _ENTITIES:
        ways.append(f"&(?:amp;)*+(?:{_ENTITIES[char]});")
    if char in _LETTERS:
        # Without the backslash it is a letter like any other.
        ways.append((start or r"(?<=[\\cC])") + _LETTERS[char])
    return ways


def patterns(value: str) -> set[tuple[int, str]]:
    """Return what finds *value* in a text: patterns, with how long their text is.

    Nothing for a value that is so short that it stands everywhere.
    """
    if len(value) < _SHORTEST:
        return set()
    plain = {(len(form), re.escape(form)) for form in spellings(value)}
    # Backslashes at the start tell nothing; a search for them costs their square.
    core = value.lstrip("\\")
    escaped = {(len(core), _spelled(core))} if len(core) >= _SHORTEST else set()
    return plain | escaped


class Redactor:
    """Replaces secret values in texts; knows every value that was ever resolved.

    Raw, URL-encoded, JSON- and repr-escaped and base64 forms are replaced, longest
    first. Values shorter than 4 characters are left alone. Not thread-safe for
    registering; redacting is.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._values: set[str] = set()
        self._forms: set[tuple[int, str]] = set()
        self._pattern: re.Pattern[str] | None = None
        self._longest = 0

    def register(self, values: Mapping[str, str]) -> None:
        """Remember the *values* of resolved secrets; cheap if all are known."""
        fresh = [
            v for v in values.values() if v not in self._values and len(v) >= _SHORTEST
        ]
        if not fresh:
            return
        for value in fresh:
            self._values.add(value)
            self._forms |= patterns(value)
            # Escaped three times, which is more than services do.
            encoded = sum(1 if c.isalnum() else 24 for c in value)
            self._longest = max(self._longest, encoded, *map(len, spellings(value)))
        ordered = sorted(self._forms, key=lambda form: (-form[0], form[1]))
        self._pattern = re.compile("|".join(pattern for _, pattern in ordered))

    def redact(self, text: str) -> str:
        """Return *text* with every known secret replaced by ``***``."""
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def redact_start(self, text: str, limit: int) -> str:
        """Return about *limit* characters of the start of *text*, redacted.

        A text of any length costs no more than its start; a secret that the cut
        would halve is cut off whole.
        """
        if len(text) <= limit:
            return self.redact(text)
        start = self.redact(text[: limit + self._longest])
        return start[: max(len(start) - self._longest, 0)]
