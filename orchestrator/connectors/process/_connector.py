"""ProcessConnector: create, get, delete, find, logs and pruning of job folders."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator._clock import Clock, SystemClock, duration_to_us
from orchestrator._config import Policy
from orchestrator._faults import NO_FAULTS, Faults
from orchestrator._ids import TOKEN
from orchestrator.connectors._blocking import Blocking
from orchestrator.connectors._measures import Measured
from orchestrator.connectors._token import token_of
from orchestrator.connectors.process import _command, _logs, _supervisor
from orchestrator.connectors.process._folder import META, OUTPUTS, JobFolder
from orchestrator.connectors.process._launch import launch
from orchestrator.connectors.process._meta import ProcessMeta
from orchestrator.connectors.process._report import report
from orchestrator.connectors.process._view import look, press_orphan, write_wish
from orchestrator.errors import (
    ConfigurationError,
    PermanentError,
    ResourceGoneError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from flyteidl2.connector.connector_pb2 import (
        GetTaskLogsResponse,
        TaskExecutionMetadata,
    )
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator._connector import Resource

DEFAULT_ROOT = Path(".orchestrator/jobs")
RETENTION = timedelta(days=30)
_LOCK_TRIES = 500
_LOCK_PAUSE_S = 0.02
_TRASH = ".pruned-"


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that a creation needs, made before anything is touched."""

    meta: ProcessMeta
    spec: _supervisor.Spec


class ProcessConnector(Measured[ProcessMeta]):
    """Runs commands on this machine as detached jobs that survive the orchestrator.

    A job has a folder under *root*, named by its token. How it is started, at most
    once per token, is told in ``orchestrator.connectors.process``.

    Args:
        root: Folder of the job folders, made with mode 0700 when first needed.
            It must belong to this user. Default ``./.orchestrator/jobs``, as an
            absolute path from the moment of construction.
        retention: How long an ended job's folder surely stays; ``prune`` removes
            none that is younger, so this is also how long a token is remembered.
        clock: Source of the time; None for the system's.
        faults: Named points for crash tests.

    Raises:
        ConfigurationError: *retention* is not positive.
    """

    name = "Process Connector"
    task_type_name = "process"
    task_type_version = 0
    not_measured = frozenset({"pid", "code", "signal"})
    metadata_type = ProcessMeta
    # A look costs about a millisecond, and a folder that is gone does not come back.
    policy = Policy(
        poll_delay_min=timedelta(milliseconds=100),
        poll_delay_max=timedelta(seconds=5),
        gone_grace=timedelta(0),
        find_settle=timedelta(seconds=10),
    )

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        retention: timedelta = RETENTION,
        clock: Clock | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        if retention <= timedelta(0):
            raise ConfigurationError(f"retention: {retention!r} must be positive")
        self.root = Path(DEFAULT_ROOT if root is None else root).absolute()
        self.create_is_idempotent = retention
        self._retention = retention
        self._clock: Clock = SystemClock() if clock is None else clock
        self._faults = faults
        self._host = platform.node()
        self._program = _supervisor.__file__
        self._blocking = Blocking("process")

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        idempotency_token: str = "",
        **kwargs: Any,
    ) -> ProcessMeta:
        """Start the command in a job folder of its own, once per token.

        Idempotency: a second call with the token of a job, alive or ended, starts
        nothing and returns the first call's handle.
        Crash: whenever the orchestrator dies in here, the same call again either
        finds the command started or starts it; never is it started twice.

        Keyword arguments are secrets: environment variables of the command.

        Raises:
            PermanentError: The template, an input or a secret cannot be used.
            TransientError: Nothing was started, for sure.
            TimeoutError: Another creator of this token has been busy for 10 s.
        """
        del output_prefix  # outputs come back through the job folder
        plan = await self._blocking.call(
            self._plan,
            task_template,
            inputs or {},
            idempotency_token,
            task_execution_metadata,
            kwargs,
        )
        for _ in range(_LOCK_TRIES):
            meta = await self._blocking.call(self._create, plan)
            if meta is not None:
                return meta
            await self._clock.sleep(_LOCK_PAUSE_S)
        raise TimeoutError(f"job {plan.meta.token}: its folder stays locked")

    async def get(self, resource_meta: ProcessMeta, **_unused: Any) -> Resource:
        """Tell how the command does.

        SUCCEEDED is exit status 0 (and the declared outputs are there), ABORTED an
        end that ``delete`` brought about, FAILED any other end. A job whose outcome
        nobody could write down is gone: the machine was restarted, or the
        supervisor was killed.

        Raises:
            ResourceGoneError: The folder is gone, or the outcome is lost.
            TransientError: The job belongs to another machine or root.
        """
        return await self._blocking.call(self._get, resource_meta)

    async def delete(self, resource_meta: ProcessMeta, **_unused: Any) -> None:
        """Ask the command to end: TERM to its group now, KILL after the grace period.

        Returns at once; ``get`` confirms the end. A command that has not started
        never will. Idempotent: repeating it neither restarts nor shortens the
        grace period; a job that ended or is gone is no error.

        Raises:
            TransientError: The job belongs to another machine or root.
        """
        await self._blocking.call(self._delete, resource_meta)

    async def find(self, token: str, **_unused: Any) -> ProcessMeta | None:
        """Return the job that was started with *token*, None if none was.

        None also while a creation is under way; such a one either gets to its end
        within moments or never started anything.
        """
        return await self._blocking.call(self._find, token)

    def job_key(self, resource_meta: ProcessMeta) -> str:
        """Return the token: it is the job's own id."""
        return resource_meta.token

    async def get_logs(
        self, resource_meta: ProcessMeta, token: str = "", **_unused: Any
    ) -> AsyncIterator[GetTaskLogsResponse]:
        """Yield what the command printed after *token*, in pages.

        Each page is a body with clean lines (stdout as USER, stderr as USER with
        the pod name ``stderr``), then a header with the token of the next page.
        The last page of a call is a header alone if nothing more is there yet; ask
        again with its token. A line that has no end yet is kept back while the
        command runs. A call yields at most 16 pages of 64 KiB.

        *token* is the pair of byte offsets ``STDOUT:STDERR``, empty for the
        beginning.

        Raises:
            PermanentError: *token* is no such pair.
            ResourceGoneError: The folder is gone.
        """
        position = _logs.parse_position(token)
        for _ in range(_logs.PAGES_MAX):
            page = await self._blocking.call(self._read_page, resource_meta, position)
            if page.body is not None:
                yield page.body
            yield page.header
            if page.body is None:
                return
            position = page.position

    async def prune(self, older_than: timedelta | None = None) -> list[str]:
        """Remove the folders of jobs that ended long ago; return their tokens.

        Whatever runs, or may start, stays.

        Args:
            older_than: Least time since the end; None for the retention, which is
                also the least value allowed: younger tokens are still promised to
                be remembered.

        Raises:
            ConfigurationError: *older_than* is below the retention.
        """
        age = self._retention if older_than is None else older_than
        if age < self._retention:
            raise ConfigurationError(
                f"older_than: {age} is below the retention of {self._retention},"
                " for which tokens are promised to be remembered"
            )
        before_us = self._clock.now_us() - duration_to_us(age)
        return await self._blocking.call(self._prune, before_us)

    def close(self) -> None:
        """Let the connector's threads end; commands that run are left alone."""
        self._blocking.close()

    def _plan(
        self,
        template: TaskTemplate,
        inputs: Mapping[str, Any],
        token: str,
        metadata: TaskExecutionMetadata | None,
        secrets: Mapping[str, Any],
    ) -> _Plan:
        """Validate everything and make the command; touches nothing."""
        try:
            token = token_of(token, metadata)
        except ValueError as error:
            raise PermanentError(str(error)) from None
        config = _command.CommandConfig.from_template(template)
        spec = _command.build_spec(
            config,
            inputs=inputs,
            secrets=secrets,
            environ=os.environb,
            extra={
                _command.OUTPUTS_VARIABLE: str(self.root / token / OUTPUTS),
                _command.TOKEN_VARIABLE: token,
            },
        )
        meta = ProcessMeta(
            token=token,
            host=self._host,
            root=str(self.root),
            outputs=[entry.key for entry in template.interface.outputs.variables],
            stdout_bytes=config.stdout_bytes,
            grace_s=config.grace_s,
        )
        return _Plan(meta, spec)

    def _create(self, plan: _Plan) -> ProcessMeta | None:
        """Make the folder and start the job; None if another creator is at it."""
        self._faults.reach("process.before_folder")
        with JobFolder.make(self.root, plan.meta.token) as folder:
            self._faults.reach("process.folder_made")
            with folder.locked() as lock:
                if folder.exists(_supervisor.STARTED):
                    return _stored_meta(folder, plan.meta)
                if lock is None:
                    return None
                folder.write_once(META, plan.meta.encode())
                self._faults.reach("process.meta_written")
                started = launch(
                    folder,
                    lock,
                    plan.spec,
                    program=self._program,
                    environ=os.environ,  # noqa: TID251 - to find Python's libraries
                    faults=self._faults,
                )
                # Not started, yet "started": a delete came first and forbade it.
                if not started and not folder.exists(_supervisor.STARTED):
                    raise TransientError(
                        "the supervisor died before it started the command, see"
                        f" {self.root / folder.token / 'log'}"
                    )
                self._faults.reach("process.started")
                return _stored_meta(folder, plan.meta)

    def _find(self, token: str) -> ProcessMeta | None:
        """See ``find``."""
        folder = JobFolder.find(self.root, token)
        if folder is None:
            return None
        with folder:
            if not folder.exists(_supervisor.STARTED):
                return None
            return _stored_meta(folder, ProcessMeta(token=token))

    def _open(self, meta: ProcessMeta) -> JobFolder:
        """Open the folder of *meta*, or say why it cannot be there."""
        folder = JobFolder.find(self.root, meta.token)
        if folder is not None:
            return folder
        here, there = (self._host, str(self.root)), (meta.host, meta.root)
        if all(there) and here != there:
            raise TransientError(
                f"job {meta.token} lies in {meta.root} on {meta.host}; this process"
                f" looks in {self.root} on {self._host}"
            )
        raise ResourceGoneError(f"job folder {self.root / meta.token} is gone")

    def _get(self, meta: ProcessMeta) -> Resource:
        """See ``get``."""
        with self._open(meta) as folder:
            view = look(folder)
            press_orphan(view, self._clock.now_us(), meta.grace_s)
            return report(folder, meta, view)

    def _delete(self, meta: ProcessMeta) -> None:
        """See ``delete``."""
        try:
            folder = self._open(meta)
        except ResourceGoneError:
            return
        with folder:
            if look(folder).ended:
                return
            now_us = self._clock.now_us()
            write_wish(folder, now_us)
            if not folder.forbid_start() and not folder.send_wish():
                press_orphan(look(folder), now_us, meta.grace_s)

    def _read_page(self, meta: ProcessMeta, position: _logs.Position) -> _logs.Page:
        """Read one page of the logs."""
        with self._open(meta) as folder:
            # Asked before the files are read: an ended job prints no more.
            ended = look(folder).ended
            return _logs.read_page(folder, position, complete=ended)

    def _prune(self, before_us: int) -> list[str]:
        """See ``prune``."""
        if not self.root.is_dir():
            return []
        removed = []
        for path in sorted(self.root.iterdir()):
            token = path.name
            if token.startswith(_TRASH):
                shutil.rmtree(path)  # a prune that died began this
            elif TOKEN.fullmatch(token) and self._is_old(token, before_us):
                # From this rename on the token is free, all at once.
                shutil.rmtree(path.rename(self.root / f"{_TRASH}{token}"))
                removed.append(token)
        return removed

    def _is_old(self, token: str, before_us: int) -> bool:
        """Tell whether a job ended, or was left unstarted, before that time."""
        try:
            folder = JobFolder.find(self.root, token)
        except OSError:
            return False  # a file or a link: nothing of ours
        if folder is None:
            return False
        with folder:
            if folder.changed_us() >= before_us:
                return False
            # A creator that was asleep since then finds its token spent.
            return folder.forbid_start() or look(folder).ended


def _stored_meta(folder: JobFolder, own: ProcessMeta) -> ProcessMeta:
    """Return the handle that the first creator wrote; *own* if it wrote none."""
    data = folder.read(META, 64 * 1024)
    return own if data is None else ProcessMeta.decode(data)
