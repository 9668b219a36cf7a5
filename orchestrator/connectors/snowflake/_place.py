"""Where a query runs: account, user and session, as a task or a handle says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.connectors._custom import custom_of

if TYPE_CHECKING:
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator.connectors.snowflake._meta import SnowflakeMeta

# The host is made of it, and gets credentials: nothing that ends a host name.
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

TASK_OPTIONS = frozenset(
    {"application", "authenticator", "role", "session_parameters", "timezone"}
)
"""What a task may say of its session; the rest is for the connector's settings."""

AUTHENTICATORS = frozenset(
    {"OAUTH", "PROGRAMMATIC_ACCESS_TOKEN", "SNOWFLAKE", "SNOWFLAKE_JWT"}
)
_SECRET = re.compile(r"pass(word|code)|token|secret|private_key", re.IGNORECASE)
_OURS = frozenset({"ABORT_DETACHED_QUERY", "QUERY_TAG"})


@dataclass(frozen=True)
class Place:
    """Account, user and session of a query.

    Attributes:
        options: Arguments of the client for the session, none of them secret.
    """

    account: str
    user: str
    database: str
    schema: str
    warehouse: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_config(cls, config: Any) -> Place:
        """Return what a task's configuration says.

        Raises:
            ValueError: It cannot be used.
        """
        options = config.connection_kwargs
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"connection_kwargs is {type(options).__name__}")
        place = cls(
            account=config.account,
            user=config.user,
            database=config.database,
            schema=config.schema,
            warehouse=config.warehouse,
            options=dict(options or {}),
        )
        place.check()
        return place

    @classmethod
    def of_template(cls, template: TaskTemplate) -> Place:
        """Return what a stored template says, also if Flyte's own task wrote it.

        Raises:
            ValueError: It cannot be used.
        """
        custom = custom_of(template)
        place = cls(
            account=custom.get("account", ""),
            user=custom.get("user", ""),
            database=custom.get("database", ""),
            schema=custom.get("schema", "PUBLIC"),
            warehouse=custom.get("warehouse", ""),
            options=custom.get("connection_kwargs") or {},
        )
        place.check()
        return place

    @classmethod
    def of_meta(cls, meta: SnowflakeMeta) -> Place:
        """Return where the query of *meta* ran."""
        return cls(
            account=meta.account,
            user=meta.user,
            database=meta.database,
            schema=meta.schema,
            warehouse=meta.warehouse,
            options=meta.connection_kwargs,
        )

    def to_custom(self) -> dict[str, Any]:
        """Return what ``of_template`` reads; Flyte's form."""
        custom: dict[str, Any] = {
            "account": self.account,
            "user": self.user,
            "database": self.database,
            "schema": self.schema,
            "warehouse": self.warehouse,
        }
        return custom | ({"connection_kwargs": self.options} if self.options else {})

    def check(self) -> None:
        """Refuse what is missing, or not a task's to say.

        Raises:
            ValueError: Says what.
        """
        for name in ("account", "user", "database", "schema", "warehouse"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name} must be named, got {value!r}")
        if not _ACCOUNT.fullmatch(self.account):
            raise ValueError(f"account {self.account!r} is no account identifier")
        for name in self.options:
            if _SECRET.search(name):
                raise ValueError(
                    f"connection_kwargs[{name!r}] would be stored: name an environment"
                    " variable in snowflake_password, snowflake_token or"
                    " snowflake_private_key"
                )
            if name not in TASK_OPTIONS:
                raise ValueError(
                    f"connection_kwargs[{name!r}] is not a task's to say (those are"
                    f" {', '.join(sorted(TASK_OPTIONS))}): give it to the connector as"
                    " connection="
                )
        kind = self.options.get("authenticator", "SNOWFLAKE")
        if str(kind).upper() not in AUTHENTICATORS:
            known = ", ".join(sorted(AUTHENTICATORS))
            raise ValueError(f"authenticator {kind!r} is none of {known}")
        told = self.options.get("session_parameters") or {}
        if not isinstance(told, Mapping) or _OURS & {str(n).upper() for n in told}:
            raise ValueError(
                f"session_parameters must be a mapping without {sorted(_OURS)}, which"
                " are the connector's"
            )
