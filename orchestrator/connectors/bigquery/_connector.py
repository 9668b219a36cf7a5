"""BigQueryConnector: create, get and delete of query jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from orchestrator._secrets import ConnectorSecretsMixin
from orchestrator._tasks import TOKEN_LABEL
from orchestrator.connectors._blocking import Blocking
from orchestrator.connectors._measures import Measured
from orchestrator.connectors.bigquery._clients import (
    Clients,
    endpoint_of,
    require_library,
)
from orchestrator.connectors.bigquery._errors import translated
from orchestrator.connectors.bigquery._job import Plan
from orchestrator.connectors.bigquery._meta import BigQueryMeta
from orchestrator.connectors.bigquery._report import report
from orchestrator.connectors.bigquery._task import TASK_TYPE
from orchestrator.errors import (
    ConfigurationError,
    ConnectorError,
    PermanentError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate
    from google.cloud.bigquery import Client
    from google.cloud.bigquery.job import QueryJob

    from orchestrator._connector import Resource

REMEMBERED = timedelta(days=180)
"""BigQuery keeps jobs for six months, of which the shortest have 181 days."""

THREADS = 10
"""Calls at once: as many connections as the client keeps open to a host."""

_TIMEOUT = timedelta(seconds=20)


class BigQueryConnector(ConnectorSecretsMixin, Measured[BigQueryMeta]):
    """Runs queries on BigQuery, each once per attempt.

    How, and why create is idempotent, is told in ``orchestrator.connectors.bigquery``.

    Args:
        endpoint: URL of an emulator, which gets no credentials unless the task or
            *secrets* name some. None for ``BIGQUERY_EMULATOR_HOST`` if that is set when
            the connector is made, else Google's own service.
        secrets: ``{"google_application_credentials": VARIABLE}`` for tasks that name
            none. None for Google's default credentials.
        timeout: How long the client waits for an answer, at each of its steps.
        threads: Calls at once.

    Raises:
        ConfigurationError: Google's client is not installed, or *endpoint* is no URL.
    """

    name = "BigQuery Connector"
    task_type_name = TASK_TYPE
    task_type_version = 0
    metadata_type = BigQueryMeta
    create_is_idempotent = REMEMBERED

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        secrets: Mapping[str, str] | None = None,
        timeout: timedelta = _TIMEOUT,
        threads: int = THREADS,
    ) -> None:
        super().__init__(secrets=dict(secrets or {}))
        require_library()
        if timeout <= timedelta(0):
            raise ConfigurationError(f"timeout: {timeout!r} must be positive")
        self.endpoint = endpoint_of(endpoint)
        # What failed is for the engine to repeat.
        self._once: dict[str, Any] = {
            "retry": None,
            "timeout": timeout.total_seconds(),
        }
        self._clients = Clients(self.endpoint)
        self._blocking = Blocking("bigquery", threads)

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        *,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        idempotency_token: str = "",
        google_application_credentials: str | None = None,
        **_unused: Any,
    ) -> BigQueryMeta:
        """Submit the query under the token as job id, once per token.

        Idempotency: while BigQuery remembers the id, a second call with it submits
        nothing and returns the handle of the first job.

        Raises:
            PermanentError: The template, an input or the request cannot be used, or a
                job of somebody else has this id.
            AuthError: The credentials, or their rights, do not suffice.
            ThrottledError: Nothing was submitted; too many requests.
            ConnectorError: Nobody knows whether the job was made.
        """
        del output_prefix  # results stay in BigQuery
        try:
            plan = Plan.of(
                task_template,
                inputs or {},
                task_execution_metadata,
                idempotency_token,
            )
        except ValueError as error:
            raise PermanentError(str(error)) from error
        return await self._blocking.call(
            self._create, plan, google_application_credentials
        )

    async def get(
        self,
        resource_meta: BigQueryMeta,
        google_application_credentials: str | None = None,
        **_unused: Any,
    ) -> Resource:
        """Tell how the job does.

        Raises:
            ResourceGoneError: BigQuery does not know the job (any more).
            TransientError: No answer, or the job is at another endpoint.
            AuthError: The credentials, or their rights, do not suffice.
        """
        return await self._blocking.call(
            self._get, resource_meta, google_application_credentials
        )

    async def delete(
        self,
        resource_meta: BigQueryMeta,
        google_application_credentials: str | None = None,
        **_unused: Any,
    ) -> None:
        """Ask BigQuery to cancel the job; ``get`` confirms the end.

        Idempotent; a job that has ended stays as it ended.

        Raises:
            ResourceGoneError: BigQuery does not know the job (any more).
            TransientError: No answer, or the job is at another endpoint.
            AuthError: The credentials, or their rights, do not suffice.
        """
        await self._blocking.call(
            self._delete, resource_meta, google_application_credentials
        )

    def job_key(self, resource_meta: BigQueryMeta) -> str:
        """Return the job's id as BigQuery writes it: project, location and job id."""
        meta = resource_meta
        return f"{meta.project}:{meta.location}.{meta.job_id}"

    def close(self) -> None:
        """Let the connector's threads end; it cannot be used any more."""
        self._blocking.close()

    def _create(self, plan: Plan, secret: str | None) -> BigQueryMeta:
        """See ``create``."""
        from google.api_core.exceptions import Conflict  # noqa: PLC0415 - the extra
        from google.cloud.bigquery import QueryJobConfig  # noqa: PLC0415

        with translated(creating=True):
            client = self._clients.get(plan.project, secret)
            config = QueryJobConfig.from_api_repr(plan.configuration)
            try:
                client.query(
                    plan.query,
                    job_config=cast("QueryJobConfig", config),
                    job_id=plan.token,
                    project=plan.project,
                    location=plan.location,
                    job_retry=None,
                    **self._once,
                )
            except Conflict:
                self._check_ours(client, plan)
        return BigQueryMeta(
            job_id=plan.token,
            project=plan.project,
            location=plan.location,
            endpoint=self.endpoint,
            outputs=plan.outputs,
        )

    def _check_ours(self, client: Client, plan: Plan) -> None:
        """See that the job that has our id is ours.

        Raises:
            PermanentError: It is somebody else's.
            ConnectorError: That could not be found out.
        """
        try:
            with translated(creating=False):
                job = client.get_job(
                    plan.token,
                    project=plan.project,
                    location=plan.location,
                    **self._once,
                )
        except ConnectorError as error:
            # It exists: no error of this second call may say "not created".
            raise ConnectorError(
                f"there is a job {plan.token}, which could not be looked at: {error}"
            ) from error
        label = (job.labels or {}).get(TOKEN_LABEL)
        if label is None and getattr(job, "query", None) == plan.query:
            return
        if label != plan.token:
            raise PermanentError(
                f"job {plan.project}:{plan.location}.{plan.token} exists and is not"
                " ours: its label and query are others"
            )

    def _get(self, meta: BigQueryMeta, secret: str | None) -> Resource:
        """See ``get``."""
        self._check_endpoint(meta)
        with translated(creating=False):
            job = self._clients.get(meta.project, secret).get_job(
                meta.job_id,
                project=meta.project,
                location=meta.location,
                **self._once,
            )
        return report(cast("QueryJob", job), meta)

    def _delete(self, meta: BigQueryMeta, secret: str | None) -> None:
        """See ``delete``."""
        self._check_endpoint(meta)
        with translated(creating=False):
            self._clients.get(meta.project, secret).cancel_job(
                meta.job_id,
                project=meta.project,
                location=meta.location,
                **self._once,
            )

    def _check_endpoint(self, meta: BigQueryMeta) -> None:
        """Do not take a job for gone because another service does not know it."""
        if meta.endpoint != self.endpoint:
            raise TransientError(
                f"job {meta.job_id} is at {meta.endpoint or 'BigQuery'}; this connector"
                f" talks to {self.endpoint or 'BigQuery'}"
            )
