"""One connector per service class of the job server.

The transport is honest: only what the server's answer asserts becomes one of the
errors that steer; a cut connection stays the ConnectionError that it is, which
means "nobody knows".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator._connector import AsyncConnector, Resource, ResourceMeta
from orchestrator.errors import (
    AuthError,
    PermanentError,
    ResourceGoneError,
    ThrottledError,
    TransientError,
)
from orchestrator.testing import ServiceClass, State
from tests.jobserver.client import Answer, JobClient, NotSentError

if TYPE_CHECKING:
    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator._config import Policy

TOKEN_LABEL = "orchestrator-token"  # noqa: S105 - the name of a label
REMEMBERED_S = 3.0
"""What class T promises; a server for it is to remember for longer."""
_PHASES = {
    State.QUEUED: TaskExecution.QUEUED,
    State.RUNNING: TaskExecution.RUNNING,
    State.CANCELLING: TaskExecution.RUNNING,
    State.SUCCEEDED: TaskExecution.SUCCEEDED,
    State.FAILED: TaskExecution.FAILED,
    State.RETRYABLE: TaskExecution.RETRYABLE_FAILED,
    State.ABORTED: TaskExecution.ABORTED,
}

Around = Callable[[str, str], AbstractContextManager[None]]
"""Called with verb and token; its context is open during the call."""


def _quiet(_verb: str, _token: str) -> AbstractContextManager[None]:
    return nullcontext()


Quote = Callable[[str, Mapping[str, Any]], str]
"""Called with a text of the service and what the call was given, its secrets among
it; what it returns is said instead."""


def _discreet(text: str, _given: Mapping[str, Any]) -> str:
    return text


@dataclass
class JobMeta(ResourceMeta):
    """The handle of a job: its id is all that the server needs.

    Attributes:
        token: Whose job it is, for ``around`` alone.
    """

    job_id: str
    token: str = ""


class JobServerConnector(AsyncConnector[JobMeta]):
    """What the service classes have in common; register one of the subclasses.

    The task's inputs are ``spec``, a JobSpec as JSON text, and ``note``, which comes
    back in the output of that name.
    """

    name = "Job Server"
    metadata_type = JobMeta
    service: ClassVar[ServiceClass]

    def __init__(
        self,
        client: JobClient,
        *,
        policy: Policy | None = None,
        around: Around = _quiet,
        quote: Quote = _discreet,
    ) -> None:
        """Talk through *client*; *around* sees every call, *quote* every text."""
        self._client = client
        self._around = around
        self._quote = quote
        self.policy = policy

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        **kwargs: Any,
    ) -> JobMeta:
        """Submit the job with the attempt's token."""
        assert task_execution_metadata is not None
        token = task_execution_metadata.labels[TOKEN_LABEL]
        spec = json.loads((inputs or {}).get("spec") or "{}")
        with self._around("create", token):
            body = {"token": token, "spec": spec}
            answer = await self._call("POST", "jobs", kwargs, body)
            return JobMeta(answer.body["id"], token)

    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        """Look at the job."""
        with self._around("get", resource_meta.token):
            answer = await self._call("GET", f"jobs/{resource_meta.job_id}", kwargs)
        state = State(answer.body["state"])
        done = state is State.SUCCEEDED
        outputs = {"job_id": resource_meta.job_id, "token": answer.body["token"]}
        said = self._quote("", kwargs)
        message = f"{state.lower()} after {answer.body['polls']} polls"
        return Resource(
            phase=_PHASES[state],
            message=self._quote(message, kwargs),
            outputs=outputs if done else None,
            log_links=[TaskLog(name="page", uri=said)] if said else None,
            custom_info={"request": said} if said else None,
        )

    async def delete(self, resource_meta: JobMeta, **kwargs: Any) -> None:
        """Cancel the job; what is gone already is no error."""
        with self._around("delete", resource_meta.token):
            await self._call("DELETE", f"jobs/{resource_meta.job_id}", kwargs)

    def job_key(self, resource_meta: JobMeta) -> str:
        """Return the server's own id."""
        return resource_meta.job_id

    async def _call(
        self, method: str, path: str, given: Mapping[str, Any], body: object = None
    ) -> Answer:
        try:
            answer = await self._client.request(method, f"/{self.service}/{path}", body)
        except NotSentError as error:
            raise TransientError(self._quote(str(error), given)) from error
        except ConnectionError as error:
            raise type(error)(self._quote(str(error), given)) from error
        if answer.status < 300:
            return answer
        detail = f"{method} {path}: {answer.status} {answer.body.get('error', '')}"
        detail = self._quote(detail, given)
        match answer.status:
            case 429:
                seconds = float(answer.headers.get("retry-after", "0"))
                raise ThrottledError(detail, retry_after=seconds)
            case 401 | 403:
                raise AuthError(detail)
            case 404:
                raise ResourceGoneError(detail)
            case 503:  # documented by the server: refused before execution
                raise TransientError(detail)
            case status if 400 <= status < 500:
                raise PermanentError(detail)
            case _:  # a 500 may have happened after the job was made
                raise RuntimeError(detail)


class JobServerI(JobServerConnector):
    """A service that remembers every token for ever."""

    service = ServiceClass.IDEMPOTENT
    task_type_name = "jobserver_i"
    create_is_idempotent = True


class JobServerT(JobServerConnector):
    """A service that remembers tokens for a time: a little less than it does."""

    service = ServiceClass.TIMED
    task_type_name = "jobserver_t"
    create_is_idempotent = timedelta(seconds=REMEMBERED_S)


class JobServerL(JobServerConnector):
    """A service whose jobs can be found by token."""

    service = ServiceClass.LISTED
    task_type_name = "jobserver_l"

    async def find(self, token: str, **kwargs: Any) -> JobMeta | None:
        """Search the job of a token."""
        with self._around("find", token):
            try:
                answer = await self._call("GET", f"jobs?token={token}", kwargs)
            except ResourceGoneError:
                return None
            return JobMeta(answer.body["id"], token)


class JobServerN(JobServerConnector):
    """A service that knows nothing of tokens."""

    service = ServiceClass.NEITHER
    task_type_name = "jobserver_n"


CONNECTORS: dict[ServiceClass, type[JobServerConnector]] = {
    connector.service: connector
    for connector in (JobServerI, JobServerT, JobServerL, JobServerN)
}
