"""DatabricksConnector: create, get, delete and find of runs."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._clock import SystemClock
from orchestrator._config import Policy
from orchestrator._secrets import ConnectorSecretsMixin
from orchestrator.connectors._blocking import Blocking
from orchestrator.connectors._measures import Measured
from orchestrator.connectors.databricks._body import Plan, RunConfig
from orchestrator.connectors.databricks._clients import (
    Clients,
    Credentials,
    Workspace,
    require_library,
)
from orchestrator.connectors.databricks._errors import translated
from orchestrator.connectors.databricks._find import find_run
from orchestrator.connectors.databricks._hosts import hosts_of
from orchestrator.connectors.databricks._meta import DatabricksMeta
from orchestrator.connectors.databricks._outputs import (
    given_by,
    log_pages,
    outputs_of,
)
from orchestrator.connectors.databricks._report import report
from orchestrator.connectors.databricks._states import phase_of
from orchestrator.connectors.databricks._task import TASK_TYPE
from orchestrator.errors import (
    ConfigurationError,
    ConnectorError,
    PermanentError,
    ResourceGoneError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        TaskExecutionMetadata,
    )
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator._clock import Clock
    from orchestrator._connector import Resource

THREADS = 10
"""Calls at once: as many connections as the client keeps open to a host."""

TASK_PAGES_MAX = 50
_TIMEOUT = timedelta(seconds=20)
_POLICY = Policy(find_timeout=timedelta(minutes=5), find_settle=timedelta(minutes=1))


class DatabricksConnector(ConnectorSecretsMixin, Measured[DatabricksMeta]):
    """Runs tasks and jobs on Databricks, each once per attempt.

    How, and why, is told in ``orchestrator.connectors.databricks``.

    Args:
        host: The workspace, such as ``https://myorg.cloud.databricks.com``, or an
            emulator's URL. None for ``DATABRICKS_HOST``. Credentials go nowhere else.
        allowed_hosts: Other workspaces that a task may name. They are sent the same
            credentials; none by default, and a task that names one is refused.
        secrets: ``{"databricks_token": VARIABLE}``, or ``databricks_client_id`` and
            ``databricks_client_secret``, for tasks that name none.
        remembers: For how long an unknown create is simply repeated, since Databricks
            returns the run that has the token. None never: the run is searched first.
        timeout: How long the client waits for an answer, at each of its steps.
        threads: Calls at once.
        clock: Source of the time; None for the system's.

    Raises:
        ConfigurationError: Databricks' SDK is not installed, or an argument is
            unusable.
    """

    name = "Databricks Connector"
    task_type_name = TASK_TYPE
    task_type_version = 0
    not_measured = frozenset({"run_id", "job_id", "original_attempt_run_id"})
    metadata_type = DatabricksMeta
    policy = _POLICY

    def __init__(
        self,
        *,
        host: str | None = None,
        allowed_hosts: Sequence[str] = (),
        secrets: Mapping[str, str] | None = None,
        remembers: timedelta | None = None,
        timeout: timedelta = _TIMEOUT,
        threads: int = THREADS,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(secrets=dict(secrets or {}))
        require_library()
        for name, value in (("timeout", timeout), ("remembers", remembers)):
            if value is not None and value <= timedelta(0):
                raise ConfigurationError(f"{name}: {value!r} must be positive")
        self.hosts = hosts_of(host, tuple(allowed_hosts))
        self.create_is_idempotent = remembers or False
        self._clock = clock or SystemClock()
        self._clients = Clients(timeout.total_seconds(), threads, clock=self._clock)
        self._blocking = Blocking("databricks", threads)

    @property
    def host(self) -> str:
        """The connector's own workspace."""
        return self.hosts[0]

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        *,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        idempotency_token: str = "",
        **secrets: Any,
    ) -> DatabricksMeta:
        """Submit the run with the token as its ``idempotency_token``.

        Idempotency: while Databricks remembers the token (surely while the run is
        active), a second call with it makes nothing and returns the first run.

        Raises:
            PermanentError: The template or an input cannot be used, the template names
                a workspace that is not allowed, or Databricks refused the request.
            AuthError: The credentials, or their rights, do not suffice.
            ThrottledError: Nothing was submitted; too many requests.
            ConnectorError: Nobody knows whether there is a run.
        """
        del output_prefix  # results stay in Databricks
        try:
            plan = Plan.of(
                task_template, inputs or {}, task_execution_metadata, idempotency_token
            )
            host = self._allowed(plan.config.host)
        except ValueError as error:
            raise PermanentError(str(error)) from error
        known = Credentials.of(secrets)
        return await self._blocking.call(self._create, plan, host, known)

    async def get(
        self,
        resource_meta: DatabricksMeta,
        **secrets: Any,
    ) -> Resource:
        """Tell how the run does; a repaired run does as its last repair.

        Raises:
            ResourceGoneError: Databricks does not know the run (any more).
            TransientError: No answer, or the run is in another workspace.
            AuthError: The credentials, or their rights, do not suffice.
        """
        known = Credentials.of(secrets)
        return await self._blocking.call(self._get, resource_meta, known)

    async def delete(
        self,
        resource_meta: DatabricksMeta,
        **secrets: Any,
    ) -> None:
        """Ask Databricks to cancel the run; ``get`` confirms the end.

        Idempotent; a run that has ended stays as it ended.

        Raises:
            ResourceGoneError: Databricks does not know the run (any more).
            TransientError: No answer, or the run is in another workspace.
            AuthError: The credentials, or their rights, do not suffice.
        """
        known = Credentials.of(secrets)
        await self._blocking.call(self._delete, resource_meta, known)

    async def find(
        self,
        token: str,
        task_template: TaskTemplate | None = None,
        **secrets: Any,
    ) -> DatabricksMeta | None:
        """Return the newest run whose name, or token parameter, holds *token*.

        Lists the runs since the execution was submitted, page by page.

        Raises:
            PermanentError: Runs of a job cannot be told apart: the task names no
                ``token_parameter``, and somebody started the job in the meantime.
            TransientError: No answer.
            AuthError: The credentials, or their rights, do not suffice.
        """
        known = Credentials.of(secrets)
        try:
            config = (
                None
                if task_template is None
                else RunConfig.from_template(task_template)
            )
            hosts = (self._allowed(config.host),) if config else self.hosts
        except ValueError as error:
            raise PermanentError(str(error)) from error
        return await self._blocking.call(self._find, token, config, hosts, known)

    async def get_logs(
        self,
        resource_meta: DatabricksMeta,
        token: str = "",
        **secrets: Any,
    ) -> AsyncIterator[GetTaskLogsResponse]:
        """Yield what the ended tasks of the run printed, and their errors.

        Databricks gives it per task, after its end, and the first 5 MB at most.
        *token* is the number of lines to leave out, "" for none.

        Raises:
            PermanentError: *token* is no number.
            ResourceGoneError: Databricks does not know the run (any more).
        """
        known = Credentials.of(secrets)
        for page in await self._blocking.call(
            self._get_logs, resource_meta, token, known
        ):
            yield page

    def job_key(self, resource_meta: DatabricksMeta) -> str:
        """Return workspace and number of the run."""
        return f"{resource_meta.host}#{resource_meta.run_id}"

    def close(self) -> None:
        """Let the connector's threads end; it cannot be used any more."""
        self._blocking.close()

    def _allowed(self, host: str) -> str:
        """Return the workspace that a template means.

        Raises:
            ValueError: Credentials may not go there.
        """
        if host and host not in self.hosts:
            raise ValueError(
                f"the task is for {host}, which is neither the connector's host"
                f" {self.host} nor one of its allowed_hosts"
            )
        return host or self.host

    def _workspace(self, meta: DatabricksMeta, known: Credentials) -> Workspace:
        """Return the workspace of a run.

        Raises:
            TransientError: The connector does not talk to it: the run is not gone
                because another workspace does not know it.
        """
        if meta.host not in self.hosts:
            raise TransientError(
                f"run {meta.run_id} is in {meta.host}; this connector talks to"
                f" {', '.join(self.hosts)}"
            )
        return self._clients.get(meta.host, known)

    def _create(self, plan: Plan, host: str, known: Credentials) -> DatabricksMeta:
        """See ``create``."""
        with translated(creating=True):
            workspace = self._clients.get(host, known)
            answer = workspace.ask("POST", plan.path, body=plan.body)
        run_id = answer.get("run_id")
        if not isinstance(run_id, int) or isinstance(run_id, bool):
            raise ConnectorError(f"{plan.path} answered without a run_id")
        return _meta(run_id, host, plan.config)

    def _find(
        self,
        token: str,
        config: RunConfig | None,
        hosts: tuple[str, ...],
        known: Credentials,
    ) -> DatabricksMeta | None:
        """See ``find``."""
        for host in hosts:
            with translated(creating=False):
                workspace = self._clients.get(host, known)
                run = find_run(workspace, token, config, self._clock)
            if run is not None:
                return _meta(int(run["run_id"]), host, config)
        return None

    def _get(self, meta: DatabricksMeta, known: Credentials) -> Resource:
        """See ``get``."""
        with translated(creating=False):
            workspace = self._workspace(meta, known)
            run = _run(workspace, meta)
            given = given_by(run, meta, partial(_output, workspace))
        ended_well = phase_of(run) == TaskExecution.SUCCEEDED
        outputs = outputs_of(meta, given) if ended_well else None
        return report(run, meta, given, outputs)

    def _delete(self, meta: DatabricksMeta, known: Credentials) -> None:
        """See ``delete``."""
        with translated(creating=False):
            workspace = self._workspace(meta, known)
            workspace.ask("POST", "/runs/cancel", body={"run_id": meta.run_id})

    def _get_logs(
        self, meta: DatabricksMeta, token: str, known: Credentials
    ) -> list[GetTaskLogsResponse]:
        """See ``get_logs``."""
        with translated(creating=False):
            workspace = self._workspace(meta, known)
            run = _run(workspace, meta)
            return [*log_pages(run, token, partial(_output, workspace))]


def _meta(run_id: int, host: str, config: RunConfig | None) -> DatabricksMeta:
    """Return the handle of a run; less of it if the task is not known."""
    if config is None:
        return DatabricksMeta(run_id=run_id, host=host)
    return DatabricksMeta(
        run_id=run_id,
        host=host,
        job_id=config.job_id,
        outputs=[*config.outputs],
        text=config.text,
        output_task=config.output_task,
    )


def _run(workspace: Workspace, meta: DatabricksMeta) -> dict[str, Any]:
    """Return a run with all its tasks, of which an answer has a hundred at most."""
    query = {"run_id": meta.run_id, "include_history": True}
    run = workspace.ask("GET", "/runs/get", query=query)
    following = run.get("next_page_token")
    for _ in range(TASK_PAGES_MAX):
        if not following:
            break
        page = workspace.ask(
            "GET", "/runs/get", query={**query, "page_token": following}
        )
        run["tasks"] = [*(run.get("tasks") or ()), *(page.get("tasks") or ())]
        following = page.get("next_page_token")
    return run


def _output(workspace: Workspace, run_id: int) -> dict[str, Any]:
    """Return what the run of one task gave, empty if nobody knows."""
    try:
        with translated(creating=False):
            return workspace.ask("GET", "/runs/get-output", query={"run_id": run_id})
    except ResourceGoneError:
        return {}  # the output is; that says nothing of the run
