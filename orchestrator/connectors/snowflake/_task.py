"""SnowflakeTask and SnowflakeConfig: a query as a task, with the fields of Flyte's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator._secrets import reference
from orchestrator._tasks import AsyncConnectorExecutorMixin, TaskTemplate
from orchestrator.connectors._frames import query_interface
from orchestrator.connectors.snowflake._place import Place
from orchestrator.connectors.snowflake._query import can_be_sent, check_text, is_date
from orchestrator.connectors.snowflake._sessions import require_library
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.io import DataFrame
    from orchestrator.models import SerializationContext

TASK_TYPE = "snowflake"


@dataclass
class SnowflakeConfig:
    """Where a query runs.

    Attributes:
        account: Account identifier, such as ``"myorg-myaccount"``.
        database: Database of the session.
        schema: Schema of the session.
        warehouse: Warehouse that runs and pays the query.
        user: Who runs it.
        connection_kwargs: Further arguments of ``snowflake.connector.connect``: of
            ``role``, ``session_parameters``, ``timezone``, ``authenticator`` and
            ``application``. All else, above all hosts, is the connector's
            ``connection=``; secrets have arguments of their own.
    """

    account: str
    database: str
    schema: str
    warehouse: str
    user: str
    connection_kwargs: dict[str, Any] | None = None


class SnowflakeTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A Snowflake query.

    Args:
        name: Name of the task.
        query_template: The SQL. ``%(name)s`` is the input of that name, quoted by
            Snowflake's client; beside such, ``%`` is written ``%%``.
        plugin_config: A `SnowflakeConfig`, or Flyte's, which has the same fields.
        inputs: Name to type, or to ``(type, default)``. Types are int, float, str,
            bool, bytes, Decimal, date, datetime, time, ``X | None``, and lists of
            them for ``IN %(name)s``.
        output_dataframe_type: ``orchestrator.io.DataFrame``: the task has one output,
            ``results``, a reference to the query's result. None for no output.
        secret_group: Stands before the keys of secrets: key ``my-key`` in group
            ``team`` is the environment variable ``TEAM_MY_KEY``.
        snowflake_private_key: Key of the secret with a PEM private key.
        snowflake_private_key_passphrase: The same for its passphrase, if it has one.
        snowflake_password: The same for a password.
        snowflake_token: The same for an OAuth token, or, with ``authenticator``
            ``PROGRAMMATIC_ACCESS_TOKEN``, for such.
        batch: The inputs are lists of one length, and the text has one
            ``VALUES (%(name)s, ...)``: it is sent with a row for each element.
        **kwargs: Other fields of TaskTemplate, such as ``retries`` and ``timeout``.

    Raises:
        ConfigurationError: The task cannot be run as declared, or Snowflake's client
            is not installed.
    """

    def __init__(  # noqa: PLR0917 - Flyte's order
        self,
        name: str,
        query_template: str,
        plugin_config: SnowflakeConfig,
        inputs: Mapping[str, Any] | None = None,
        output_dataframe_type: type[DataFrame] | None = None,
        secret_group: str | None = None,
        snowflake_private_key: str | None = None,
        snowflake_private_key_passphrase: str | None = None,
        batch: bool = False,  # noqa: FBT001, FBT002 - as above
        *,
        snowflake_password: str | None = None,
        snowflake_token: str | None = None,
        **kwargs: Any,
    ) -> None:
        require_library()
        interface = query_interface(name, inputs, output_dataframe_type)
        try:
            self.place = Place.of_config(plugin_config)
            check_text(query_template, list(interface.inputs), batch=batch)
            for key, (declared, _) in interface.inputs.items():
                if not can_be_sent(declared, batch=batch):
                    raise ValueError(f"input {key!r}: {declared!r} is no parameter")  # noqa: TRY301 - told as the others
        except ValueError as error:
            raise ConfigurationError(f"task {name}: {error}") from None
        super().__init__(
            name=name, interface=interface, task_type=TASK_TYPE, image=None, **kwargs
        )
        self.query_template = query_template
        self.plugin_config = plugin_config
        self.output_dataframe_type = output_dataframe_type
        self.batch = batch
        self.secret_group = secret_group
        self._secret_keys = {
            "snowflake_private_key": snowflake_private_key,
            "snowflake_private_key_passphrase": snowflake_private_key_passphrase,
            "snowflake_password": snowflake_password,
            "snowflake_token": snowflake_token,
        }

    def custom_config(self, sctx: SerializationContext) -> Mapping[str, Any]:
        """Return where the query runs; of secrets the names of variables."""
        del sctx
        custom = self.place.to_custom()
        if self.batch:
            custom["batch"] = True
        inputs = self.interface.inputs.items()
        if dates := [name for name, (declared, _) in inputs if is_date(declared)]:
            custom["dates"] = dates
        secrets = {
            name: reference(key, self.secret_group, None).variable
            for name, key in self._secret_keys.items()
            if key is not None
        }
        return custom | ({"secrets": secrets} if secrets else {})

    def sql(self, sctx: SerializationContext) -> str:
        """Return the query."""
        del sctx
        return self.query_template
