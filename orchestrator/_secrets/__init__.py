"""Secrets: references in rows and templates, values only in a connector's call.

Values are read right before a call, handed over as keyword arguments and forgotten.
What comes back (messages and error texts) goes through a Redactor, since services
like to quote what they refuse.

The modules::

    _references  Secret, what templates and connectors say of secrets
    _providers   where values come from: environment, files, keyring, a function
    _redaction   values replaced in texts
"""

from __future__ import annotations

from orchestrator._secrets._providers import (
    EnvironmentSecrets,
    FileSecrets,
    KeyringSecrets,
    SecretProvider,
    Secrets,
    environment_value,
    secret_providers,
)
from orchestrator._secrets._redaction import (
    RedactingFilter,
    Redactor,
    Use,
    current_redactor,
    get_logger,
    patterns,
    redacting,
    remember_secret,
    spellings,
)
from orchestrator._secrets._references import (
    RESERVED_KEYWORDS,
    RESERVED_PROBLEM,
    ConnectorSecretsMixin,
    Secret,
    SecretReference,
    SecretRequest,
    reference,
    secret_references,
    secrets_from_request,
)

__all__ = [
    "RESERVED_KEYWORDS",
    "RESERVED_PROBLEM",
    "ConnectorSecretsMixin",
    "EnvironmentSecrets",
    "FileSecrets",
    "KeyringSecrets",
    "RedactingFilter",
    "Redactor",
    "Secret",
    "SecretProvider",
    "SecretReference",
    "SecretRequest",
    "Secrets",
    "Use",
    "current_redactor",
    "environment_value",
    "get_logger",
    "patterns",
    "redacting",
    "reference",
    "remember_secret",
    "secret_providers",
    "secret_references",
    "secrets_from_request",
    "spellings",
]
