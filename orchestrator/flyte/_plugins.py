"""What is known of Flyte's own plugins: their vendors' states, names and tokens.

All of it works on what a plugin takes and gives; nothing inside one is replaced.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.tasks_pb2 import TaskTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Phase = TaskExecution.Phase

_COMMON: Mapping[str, Phase] = {
    "queued": TaskExecution.QUEUED,
    "blocked": TaskExecution.QUEUED,
    "initializing": TaskExecution.INITIALIZING,
    "aborted": TaskExecution.ABORTED,
    "error": TaskExecution.FAILED,
}
"""Words that mean the same wherever they are used."""

_SNOWFLAKE: Mapping[str, Phase] = {
    **_COMMON,
    "blocked": TaskExecution.RUNNING,  # waits for a lock, after it began
    "resuming_warehouse": TaskExecution.WAITING_FOR_RESOURCES,
    "queued_reparing_warehouse": TaskExecution.WAITING_FOR_RESOURCES,
    "restarted": TaskExecution.RUNNING,
    "aborting": TaskExecution.RUNNING,
    "no_data": TaskExecution.UNDEFINED,  # Snowflake has not heard of it yet
    "failed_with_error": TaskExecution.FAILED,
    "failed_with_incident": TaskExecution.FAILED,
    "disconnected": TaskExecution.FAILED,
}

_DATABRICKS: Mapping[str, Phase] = {
    **_COMMON,
    "waiting_for_retry": TaskExecution.RUNNING,  # the service's own retry
    "success_with_failures": TaskExecution.SUCCEEDED,
    "maximum_concurrent_runs_reached": TaskExecution.FAILED,
    "upstream_failed": TaskExecution.FAILED,
    "upstream_canceled": TaskExecution.FAILED,
    "excluded": TaskExecution.FAILED,
    "disabled": TaskExecution.FAILED,
}

TOKENS_KEPT = timedelta(days=1)
"""How long Databricks is trusted to know a token of a run that ended."""

_connections = itertools.count(1)


@dataclass(frozen=True)
class Plugin:
    """One plugin, as far as it needs help.

    Attributes:
        states: Phases of the states that Flyte's mapping does not know.
        create_is_idempotent: As of a connector; with ``sign`` only.
        sign: Returns the template with the token where the plugin lets it through.
        job_key: Returns the service's own id of a job.
        apart: Returns a meta whose calls have the connection of that name.
        create_apart: The same for the template of a ``create``.
        contact_lost: A message of FAILED that says nothing of the job.
        not_sent: An error's text which proves that nothing was sent.
    """

    states: Mapping[str, Phase] = field(default_factory=lambda: dict(_COMMON))
    create_is_idempotent: bool | timedelta = False
    sign: Callable[[TaskTemplate, str], TaskTemplate] | None = None
    job_key: Callable[[Any], str | None] | None = None
    apart: Callable[[Any, str], Any] | None = None
    create_apart: Callable[[TaskTemplate, str], TaskTemplate] | None = None
    contact_lost: re.Pattern[str] | None = None
    not_sent: re.Pattern[str] | None = None


def _sign_databricks(template: TaskTemplate, token: str) -> TaskTemplate:
    """Put the token into the body of ``runs/submit``; a user's own stays."""
    signed = TaskTemplate()
    signed.CopyFrom(template)
    body = signed.custom.fields["databricksConf"].struct_value.fields
    if not body["idempotency_token"].string_value:
        body["idempotency_token"].string_value = token
    return signed


def connection_name() -> str:
    """Return a name that no connection of this process has."""
    return f"orchestrator_{next(_connections)}"


def _snowflake_apart(meta: Any, name: str) -> Any:
    """Return *meta* with an argument that gives its calls the connection *name*.

    The plugin keeps connections by their arguments, for ever, also one that was
    closed. The application's name is an argument that changes nothing else.
    """
    shared = meta.connection_kwargs or {}
    return dataclasses.replace(meta, connection_kwargs={**shared, "application": name})


def _snowflake_create_apart(template: TaskTemplate, name: str) -> TaskTemplate:
    """Return the template whose ``create`` has the connection *name*."""
    changed = TaskTemplate()
    changed.CopyFrom(template)
    arguments = changed.custom.fields["connection_kwargs"].struct_value.fields
    arguments["application"].string_value = name
    return changed


_PLUGINS: Mapping[str, Plugin] = {
    "flyteplugins.bigquery": Plugin(
        job_key=lambda meta: f"{meta.project}:{meta.location}.{meta.job_id}",
    ),
    "flyteplugins.databricks": Plugin(
        states=_DATABRICKS,
        create_is_idempotent=TOKENS_KEPT,
        sign=_sign_databricks,
        job_key=lambda meta: f"{meta.databricks_instance}/{meta.run_id}",
    ),
    "flyteplugins.snowflake": Plugin(
        states=_SNOWFLAKE,
        job_key=lambda meta: f"{meta.account}/{meta.query_id}",
        apart=_snowflake_apart,
        create_apart=_snowflake_create_apart,
        # SQLSTATE class 08, and what the client says of a connection it closed.
        contact_lost=re.compile(r"\(08\w{3}\)|Connection is closed", re.IGNORECASE),
        not_sent=re.compile(r"\(08003\)|Connection is closed", re.IGNORECASE),
    ),
}

_ANY = Plugin()


def plugin_of(connector: object) -> Plugin:
    """Return what is known of a connector's class, or of a class it derives from."""
    for base in type(connector).__mro__:
        for package, plugin in _PLUGINS.items():
            if base.__module__ == package or base.__module__.startswith(f"{package}."):
                return plugin
    return _ANY


_UNRECOGNIZED = re.compile(r"Unrecognized state: (.*)", re.DOTALL)


def unrecognized_state(error: ValueError) -> str | None:
    """Return the state that Flyte's mapping raised for, None for another error."""
    found = _UNRECOGNIZED.fullmatch(str(error))
    return found[1] if found else None
