"""SnowflakeConnector: create, get, find and delete of queries."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator._config import Policy
from orchestrator._secrets import ConnectorSecretsMixin
from orchestrator.connectors._blocking import Blocking
from orchestrator.connectors._custom import custom_of
from orchestrator.connectors._endpoint import checked_endpoint
from orchestrator.connectors._measures import Measured
from orchestrator.connectors._token import token_of
from orchestrator.connectors.snowflake import _history
from orchestrator.connectors.snowflake._errors import (
    UNREADABLE,
    code_of,
    is_session_code,
    of_call,
    of_create,
)
from orchestrator.connectors.snowflake._meta import SnowflakeMeta
from orchestrator.connectors.snowflake._place import Place
from orchestrator.connectors.snowflake._query import as_dates, check_text, parameters
from orchestrator.connectors.snowflake._report import Status, report
from orchestrator.connectors.snowflake._sessions import (
    Credentials,
    Sessions,
    require_library,
)
from orchestrator.connectors.snowflake._states import (
    BAD_ENDS,
    DOUBTFUL,
    FAILED_WITH_ERROR,
    NO_DATA,
    SUCCESS,
)
from orchestrator.connectors.snowflake._task import TASK_TYPE
from orchestrator.errors import (
    ConfigurationError,
    ConnectorError,
    PermanentError,
    ResourceGoneError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate
    from snowflake.connector import SnowflakeConnection

    from orchestrator._clock import Clock
    from orchestrator._connector import Resource

THREADS = 8
"""Calls at once, each with a session of its own."""

_TIMEOUT = timedelta(seconds=20)
_SETTLE = timedelta(minutes=2)
_NOT_TASKS = frozenset({"account", "user", "database", "schema", "warehouse"})


class SnowflakeConnector(ConnectorSecretsMixin, Measured[SnowflakeMeta]):
    """Runs queries on Snowflake, each once per attempt.

    How jobs are found again is told in ``orchestrator.connectors.snowflake``.

    Args:
        endpoint: URL of an emulator, which gets a made-up password unless the task or
            *secrets* name credentials. None for Snowflake's own service.
        secrets: Such as ``{"snowflake_private_key": VARIABLE}``, for tasks that name
            none.
        connection: Further arguments of ``snowflake.connector.connect`` for all
            sessions, such as ``host`` or ``proxy_host``.
        accounts: Accounts that tasks may name; None for any. Credentials go to the
            account that the task names.
        statistics: Whether the query history is asked about a query that has ended,
            on the task's warehouse.
        timeout: How long the client waits for an answer, in whole seconds.
        threads: Calls at once.
        clock: Source of the time; None for the system's.

    Raises:
        ConfigurationError: Snowflake's client is not installed, or a setting cannot be
            used.
    """

    name = "Snowflake Connector"
    task_type_name = TASK_TYPE
    task_type_version = 0
    not_measured = frozenset({"error_code"})
    metadata_type = SnowflakeMeta

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        secrets: Mapping[str, str] | None = None,
        connection: Mapping[str, Any] | None = None,
        accounts: Collection[str] | None = None,
        statistics: bool = True,
        timeout: timedelta = _TIMEOUT,
        threads: int = THREADS,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(secrets=dict(secrets or {}))
        require_library()
        if timeout < timedelta(seconds=1):
            raise ConfigurationError(f"timeout: {timeout!r} must be 1 s at least")
        taken = sorted(_NOT_TASKS & set(connection or {}))
        if taken:
            raise ConfigurationError(f"connection: {taken} are each task's to say")
        # Its default is for a service that lists a job at once.
        self.policy = Policy(find_settle=_SETTLE)
        self.endpoint = checked_endpoint(endpoint or "")
        self.accounts = None if accounts is None else frozenset(accounts)
        self.statistics = statistics
        self._sessions = Sessions(
            self.endpoint, connection or {}, timeout.total_seconds(), clock=clock
        )
        self._blocking = Blocking("snowflake", threads)

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        *,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        idempotency_token: str = "",
        **secrets: Any,
    ) -> SnowflakeMeta:
        """Submit the query with the token as its tag.

        Raises:
            PermanentError: The template or an input cannot be used, or Snowflake
                refused the query.
            AuthError: The credentials do not suffice; nothing was submitted.
            TransientError: There is no session to be had; nothing was submitted.
            ConnectorError: Nobody knows whether the query runs.
        """
        del output_prefix  # results stay in Snowflake
        try:
            place = Place.of_template(task_template)
            token = token_of(idempotency_token, task_execution_metadata)
            text, values = _parameters(task_template, inputs or {})
        except ValueError as error:
            raise PermanentError(str(error)) from error
        self._check_account(place)
        query_id = await self._blocking.call(
            self._create, place, text, values, token, Credentials.of(secrets)
        )
        return self._meta(place, query_id, task_template)

    async def get(self, resource_meta: SnowflakeMeta, **secrets: Any) -> Resource:
        """Tell how the query does.

        Raises:
            ResourceGoneError: Snowflake does not know the query.
            TransientError: No answer, or the query is at another endpoint.
            AuthError: The credentials, or their rights, do not suffice.
        """
        self._check_endpoint(resource_meta)
        return await self._blocking.call(
            self._get, resource_meta, Credentials.of(secrets)
        )

    async def delete(self, resource_meta: SnowflakeMeta, **secrets: Any) -> None:
        """Ask Snowflake to cancel the query; ``get`` confirms the end.

        Idempotent; a query that has ended stays as it ended.

        Raises:
            ResourceGoneError: Snowflake does not know the query.
            TransientError: No answer, or the query is at another endpoint.
            AuthError: The credentials, or their rights, do not suffice.
        """
        self._check_endpoint(resource_meta)

        def cancel(connection: SnowflakeConnection) -> None:
            text = "SELECT SYSTEM$CANCEL_QUERY(%(id)s)"
            _history.fetch_row(connection, text, {"id": resource_meta.query_id})

        place = Place.of_meta(resource_meta)
        await self._blocking.call(self._ask, place, Credentials.of(secrets), cancel)

    async def find(  # type: ignore[override]  # the engine passes what create gets
        self, token: str, *, task_template: TaskTemplate, **secrets: Any
    ) -> SnowflakeMeta | None:
        """Return the query that carries *token* as its tag, None if there is none.

        Raises:
            PermanentError: The template cannot be used.
            TransientError: No answer, or the history is too long to be sure.
            AuthError: The credentials, or their rights, do not suffice.
        """
        try:
            place = Place.of_template(task_template)
        except ValueError as error:
            raise PermanentError(str(error)) from error
        self._check_account(place)

        def look(connection: SnowflakeConnection) -> _history.Looked:
            return _history.by_tag(connection, token, _history.LIMIT)

        looked = await self._blocking.call(
            self._ask, place, Credentials.of(secrets), look
        )
        if looked.query_id is not None:
            return self._meta(place, looked.query_id, task_template)
        if not looked.complete:
            raise TransientError(
                f"no query with the tag {token} among the last {_history.LIMIT} of"
                f" {place.user}; there may be one before them"
            )
        return None

    def job_key(self, resource_meta: SnowflakeMeta) -> str:
        """Return the query's id, which is unique among all accounts."""
        return resource_meta.query_id

    def close(self) -> None:
        """Let threads and idle sessions go; queries that run are left alone."""
        self._blocking.close()
        self._sessions.close()

    def _create(
        self,
        place: Place,
        text: str,
        values: dict[str, Any] | None,
        token: str,
        credentials: Credentials,
    ) -> str:
        """See ``create``."""
        from snowflake.connector import errors  # noqa: PLC0415 - the extra

        try:
            with self._sessions.borrow(place, credentials, sure=True) as connection:
                cursor = connection.cursor()
                answer = cursor.execute_async(
                    text,
                    values,
                    _statement_params={"QUERY_TAG": token},
                    _no_retry=True,  # version 4; in 5 the session says so
                )
                query_id = answer["queryId"]
                cursor.close()
        except errors.Error as error:
            raise of_create(error) from error
        except UNREADABLE as error:
            raise ConnectorError(
                f"nobody knows whether the query runs: {error!r}"
            ) from error
        if not query_id:
            raise ConnectorError("Snowflake told no query id")
        return str(query_id)

    def _get(self, meta: SnowflakeMeta, credentials: Credentials) -> Resource:
        """See ``get``."""
        place = Place.of_meta(meta)

        def look(connection: SnowflakeConnection) -> Status:
            return _status(connection, meta.query_id)

        def tell(connection: SnowflakeConnection) -> _history.Looked:
            return _history.by_id(connection, meta.query_id)

        status = self._ask(place, credentials, look)
        told: dict[str, Any] = {}
        if status.name in DOUBTFUL:
            looked = self._ask(place, credentials, tell)
            if looked.query_id is not None:
                told, status = looked.told, Status.of_history(looked.told)
            elif looked.complete and status.name == NO_DATA:
                raise ResourceGoneError(f"query {meta.query_id} is not known")
        elif self.statistics and (status.name == SUCCESS or status.name in BAD_ENDS):
            # The end is known; what it has cost is a favour.
            with suppress(ConnectorError):
                told = self._ask(place, credentials, tell).told
        return report(status, meta, told)

    def _ask(
        self,
        place: Place,
        credentials: Credentials,
        work: Callable[[SnowflakeConnection], Any],
    ) -> Any:
        """Return what *work* returns, or raise what its error means."""
        from snowflake.connector import errors  # noqa: PLC0415 - the extra

        try:
            return self._sessions.use(place, credentials, work)
        except errors.Error as error:
            raise of_call(error) from error
        except UNREADABLE as error:
            raise TransientError(f"no answer: {error!r}") from error

    def _meta(
        self, place: Place, query_id: str, template: TaskTemplate
    ) -> SnowflakeMeta:
        return SnowflakeMeta(
            query_id=query_id,
            account=place.account,
            user=place.user,
            database=place.database,
            schema=place.schema,
            warehouse=place.warehouse,
            connection_kwargs=place.options,
            endpoint=self.endpoint,
            outputs=[entry.key for entry in template.interface.outputs.variables],
        )

    def _check_account(self, place: Place) -> None:
        """Refuse an account that is not to get this connector's credentials."""
        if self.accounts is not None and place.account not in self.accounts:
            raise PermanentError(
                f"account {place.account!r} is none of the connector's accounts"
            )

    def _check_endpoint(self, meta: SnowflakeMeta) -> None:
        """Do not take a query for gone because another service does not know it."""
        if meta.endpoint != self.endpoint:
            raise TransientError(
                f"query {meta.query_id} is at {meta.endpoint or 'Snowflake'}; this"
                f" connector talks to {self.endpoint or 'Snowflake'}"
            )


def _parameters(
    template: TaskTemplate, inputs: dict[str, Any]
) -> tuple[str, dict[str, Any] | None]:
    """Return the text and the values of one attempt.

    Raises:
        ValueError: They cannot be sent.
    """
    custom, text = custom_of(template), template.sql.statement
    batch = bool(custom.get("batch"))
    check_text(text, list(inputs), batch=batch)
    dates = {name: as_dates(inputs[name]) for name in custom.get("dates", ())}
    return parameters(text, inputs | dates, batch=batch)


def _status(connection: SnowflakeConnection, query_id: str) -> Status:
    """Return how a query does; NO_DATA wherever the client only guesses.

    Version 4 says FAILED_WITH_ERROR where its session is gone; only an error code of
    the service makes that true.
    """
    from snowflake.connector.errors import ProgrammingError  # noqa: PLC0415 - the extra

    try:
        name = connection.get_query_status(query_id).name
    except KeyError as error:  # version 4, of a status that it does not know
        return Status(str(error.args[0]))
    if name not in BAD_ENDS:
        return Status(name)
    try:
        connection.get_query_status_throw_if_error(query_id)
    except ProgrammingError as error:
        code = code_of(error)
        if is_session_code(code) or (name == FAILED_WITH_ERROR and code <= 0):
            return Status(NO_DATA)
        text = getattr(error, "raw_msg", None) or str(error)
        return Status(name, code if code > 0 else None, str(text))
    return Status(NO_DATA)
