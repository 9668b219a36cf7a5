"""HttpConnector: create, get, delete and find by a definition's requests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._clock import Clock, SystemClock
from orchestrator._config import Policy
from orchestrator._connector import Resource
from orchestrator._secrets import ConnectorSecretsMixin
from orchestrator.connectors._measures import Measured
from orchestrator.connectors._token import token_of
from orchestrator.connectors.http import _answers, _hosts, _load
from orchestrator.connectors.http._auth import Credentials, secret_references
from orchestrator.connectors.http._build import Builder, Submission
from orchestrator.connectors.http._client import (
    Answer,
    BrokenError,
    Call,
    Client,
    NonsenseError,
    NotSentError,
)
from orchestrator.connectors.http._hints import Hints
from orchestrator.connectors.http._meta import HttpMeta
from orchestrator.connectors.http._status import Status
from orchestrator.connectors.utils import is_terminal_phase
from orchestrator.errors import PermanentError, TransientError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator.connectors.http._definition import HttpDefinition
    from orchestrator.connectors.http._requests import (
        Find,
        JobRequest,
        PlacedRequest,
        Submit,
    )

_MARGIN = timedelta(seconds=5)


class HttpConnector(ConnectorSecretsMixin, Measured[HttpMeta]):
    """Runs jobs of the service that a definition declares.

    ``create`` can be repeated (class I) if the definition declares ``idempotency``;
    jobs can be found (class L) if it declares ``find``; else neither (class N).

    Construct it when the program starts: it imports its libraries and reads the
    authorities that TLS believes.

    Args:
        definition: An HttpDefinition, a dict of its fields, or a YAML or TOML file.
        clock: Source of the time; None for the system's.

    Raises:
        ConfigurationError: The definition cannot be used, its fields are named; or
            the extra ``http`` is not installed.
    """

    metadata_type = HttpMeta

    def __init__(
        self,
        definition: HttpDefinition | Mapping[str, Any] | str | os.PathLike[str],
        *,
        clock: Clock | None = None,
    ) -> None:
        self.definition = definition = _load.as_definition(definition)
        super().__init__(secrets=secret_references(definition))
        self.name = definition.name
        self.task_type_name = definition.task_type
        self.task_type_version = definition.task_type_version
        self.on_unknown_create = definition.on_unknown_create
        self.policy = _policy(definition)
        idempotency = definition.submit.idempotency
        if idempotency is not None:
            kept = idempotency.remembered
            self.create_is_idempotent = kept if isinstance(kept, timedelta) else True
        if definition.find is not None:
            # A member of this object alone: without a search there is no find.
            vars(self)["find"] = self._find
        self._clock: Clock = SystemClock() if clock is None else clock
        self._host = definition.hosts.base
        self._builder = Builder(definition)
        self._client = Client(definition)
        self._credentials = Credentials(definition, self._client, self._clock)
        self._status = Status(definition)
        self._hints = Hints(self._clock)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, clock: Clock | None = None) -> Self:
        """Return the connector that a YAML or TOML file declares.

        Raises:
            ConfigurationError: As the constructor.
        """
        return cls(_load.load(path), clock=clock)

    def phase(self, state: str) -> TaskExecution.Phase:
        """Return the phase of a service's state, UNDEFINED for an unknown one."""
        return self._status.states.phase(state)

    def job_key(self, resource_meta: HttpMeta) -> str:
        """Return the host that the job lives at, and its id.

        Equal keys are one job, so the host is part of it: regions may give the same
        id to different jobs. A service that names one job at changing hosts would
        give it several keys; the definition of such a one names a path for the
        status, which is asked at the base URL's host, and no ``status_url``.
        """
        url = resource_meta.status_url
        host = _hosts.of(url, allow_http=True) if url else resource_meta.host
        return f"{host}/{resource_meta.job_id}"

    async def create(
        self,
        task_template: TaskTemplate,
        output_prefix: str,
        inputs: dict[str, Any] | None = None,
        task_execution_metadata: TaskExecutionMetadata | None = None,
        idempotency_token: str = "",
        **kwargs: Any,
    ) -> HttpMeta:
        """Send the submit request; keyword arguments are secrets.

        Raises:
            PermanentError: The request cannot be made, or was refused for good.
            AuthError: Credentials were refused.
            TransientError: No connection was made, or the service says "later".
            Exception: Anything else: nobody knows whether there is a job.
        """
        submit = self.definition.submit
        metadata = task_execution_metadata
        try:
            token = token_of(idempotency_token, metadata)
            call = self._builder.submit(
                Submission(task_template, output_prefix, inputs or {}, metadata, token)
            )
        except ValueError as error:
            raise PermanentError(f"submit: {error}") from error
        try:
            answer = await self._send(
                call, kwargs, renew=_answers.UNAUTHORIZED in submit.not_created
            )
        except NotSentError as error:
            raise TransientError(f"submit: {error}") from error
        if _answers.is_ok(answer):
            return await self._made(answer, token)
        said = await self._said(answer)
        if answer.status == _answers.CONFLICT and submit.conflict == "adopt":
            return await self._adopted(answer, token, kwargs)
        proofs = set(submit.not_created)
        if submit.conflict == "refused":
            proofs.add(_answers.CONFLICT)
        raise _answers.refused_submit(answer, said, proofs, self._wait_s(answer))

    async def get(self, resource_meta: HttpMeta, **kwargs: Any) -> Resource:
        """Send the status request; keyword arguments are secrets.

        While the service's last Retry-After holds, its last answer is repeated.

        Raises:
            ResourceGoneError: The service has no such job.
            AuthError: Credentials were refused.
            TransientError: Anything else that went wrong; also if the job belongs to
                another host than the definition's.
        """
        if (told := self._hints.recall(resource_meta)) is not None:
            return told
        look = self.definition.status
        call = self._job_call("status", look, resource_meta)
        answer = await self._ask("status", call, kwargs)
        if answer.status in look.running:
            resource = Resource(TaskExecution.RUNNING)
        elif not _answers.is_ok(answer):
            raise await self._refused("status", answer, look.gone)
        else:
            resource = await self._resource(resource_meta, answer, kwargs)
        if not is_terminal_phase(resource.phase):
            self._hints.keep(resource_meta, resource, self._wait_s(answer))
        return resource

    async def delete(self, resource_meta: HttpMeta, **kwargs: Any) -> None:
        """Send the cancel request; ``get`` confirms the end. Idempotent.

        Without such a request nothing is done, and the job is waited for.

        Raises:
            ResourceGoneError: The service has no such job.
            AuthError: Credentials were refused.
            TransientError: Anything else that went wrong.
        """
        cancel = self.definition.cancel
        if cancel is None:
            return
        self._hints.forget(resource_meta)
        call = self._job_call("cancel", cancel, resource_meta)
        answer = await self._ask("cancel", call, kwargs)
        if not _answers.is_ok(answer) and answer.status not in cancel.ended:
            raise await self._refused("cancel", answer, cancel.gone)

    def close(self) -> None:
        """Let the connector's threads end; it cannot be used any more."""
        self._client.close()

    async def _find(self, token: str, **kwargs: Any) -> HttpMeta | None:
        """Send the find request; ``find`` of a definition that has one."""
        find = self.definition.find
        if find is None:
            raise AssertionError("find without a find request")
        try:
            call = self._builder.find(token)
        except ValueError as error:
            raise TransientError(f"find: {error}") from error
        answer = await self._ask("find", call, kwargs)
        if answer.status in find.absent:
            return None
        if not _answers.is_ok(answer):
            raise await self._refused("find", answer, ())
        try:
            item = _item(find, await answer.document(), token)
            told = _answers.Told("find", item, answer.headers)
            return None if item is None else self._meta(find, told, call.url, token)
        except NonsenseError as error:
            raise TransientError(f"find: {error}") from error

    async def _made(self, answer: Answer, token: str) -> HttpMeta:
        """Return the handle that a submit's answer holds.

        Raises:
            NonsenseError: It holds none: there is a job, and nobody knows which.
        """
        submit = self.definition.submit
        sources = [s for s in (submit.job_id, submit.status_url) if s is not None]
        needs_body = any(not s.startswith("header:") for s in sources)
        document = await answer.document() if needs_body else None
        told = _answers.Told("submit", document, answer.headers)
        base = f"{self.definition.base_url}{submit.path}"
        return self._meta(submit, told, base, token)

    def _meta(
        self, named: Submit | Find, told: _answers.Told, base: str, token: str
    ) -> HttpMeta:
        """Return the handle of a job; *named* says where it stands in what was told.

        Raises:
            NonsenseError: Something that the definition promises is missing, or a URL
                leads to a host that is not ours.
        """
        status_url = ""
        if named.status_url is not None:
            url = told.id_at("status_url", named.status_url)
            try:
                status_url = self.definition.hosts.check(self._client.joined(base, url))
            except ValueError as error:
                raise NonsenseError(f"status_url: {error}") from None
        if named.job_id is not None:
            job_id = told.id_at("job_id", named.job_id)
        else:
            parts = urlsplit(status_url)
            job_id = parts.path + (f"?{parts.query}" if parts.query else "") or token
            if _answers.as_id(job_id) is None:
                raise NonsenseError("status_url: is too long to be the job's id")
        return HttpMeta(job_id, self._host, status_url, token)

    async def _adopted(
        self, answer: Answer, token: str, secrets: dict[str, Any]
    ) -> HttpMeta:
        """Return the job that a conflict speaks of, from its answer or by find."""
        try:
            return await self._made(answer, token)
        except NonsenseError:
            if self.definition.find is None:
                raise
        found = await self._looked_up(token, secrets)
        if found is None:
            raise _answers.OutcomeUnknownError("submit: 409, and find finds no job")
        return found

    async def _looked_up(self, token: str, secrets: dict[str, Any]) -> HttpMeta | None:
        """Search within a create, where the search's errors prove nothing."""
        try:
            return await self._find(token, **secrets)
        except Exception as error:
            text = f"submit: 409, and find failed: {error}"
            raise _answers.OutcomeUnknownError(text) from error

    async def _resource(
        self, meta: HttpMeta, answer: Answer, secrets: dict[str, Any]
    ) -> Resource:
        """Return what a status answer says."""
        try:
            document = await answer.document()
            resource = self._status.resource(meta, document)
            if resource.phase == TaskExecution.SUCCEEDED and self.definition.outputs:
                results = await self._results(meta, document, secrets)
                self._status.add_outputs(resource, results)
        except NonsenseError as error:
            raise TransientError(f"status: {error}") from error
        return resource

    async def _results(
        self, meta: HttpMeta, document: Any, secrets: dict[str, Any]
    ) -> Any:
        """Return the document that holds the outputs: the status, or one of its own."""
        request = self.definition.results
        if request is None:
            return document
        call = self._job_call("results", request, meta)
        answer = await self._ask("results", call, secrets)
        if not _answers.is_ok(answer):
            raise await self._refused("results", answer, ())
        return await answer.document()

    def _job_call(
        self, what: str, request: JobRequest | PlacedRequest, meta: HttpMeta
    ) -> Call:
        """Make a request about a job of ours.

        Raises:
            TransientError: The job is another host's, or its id fits no path.
        """
        if meta.host != self._host:
            raise TransientError(
                f"job {meta.job_id} is at {meta.host}; the definition of"
                f" {self.task_type_name!r} names {self._host} by now"
            )
        try:
            return self._builder.about(request, meta)
        except ValueError as error:
            raise TransientError(f"{what}: {error}") from error

    async def _ask(self, what: str, call: Call, secrets: Mapping[str, Any]) -> Answer:
        """Send a request that may be repeated later."""
        try:
            return await self._send(call, secrets, renew=True)
        except (NotSentError, BrokenError, NonsenseError) as error:
            raise TransientError(f"{what}: {error}") from error

    async def _send(
        self, call: Call, secrets: Mapping[str, Any], *, renew: bool
    ) -> Answer:
        """Send a request with credentials; once more if a new token may help."""
        credentials = await self._credentials.headers(secrets)
        answer = await self._client.send(call, credentials)
        stale = answer.status == _answers.UNAUTHORIZED and self._credentials.renewable
        if not stale or not renew:
            return answer
        credentials = await self._credentials.headers(secrets, refused=credentials)
        return await self._client.send(call, credentials)

    async def _refused(
        self, what: str, answer: Answer, gone: tuple[int, ...]
    ) -> Exception:
        said = await self._said(answer)
        return _answers.refused(what, answer, said, gone, self._wait_s(answer))

    async def _said(self, answer: Answer) -> str:
        return await _answers.said_by(answer, self.definition.status.error)

    def _wait_s(self, answer: Answer) -> float | None:
        longest = self.definition.limits.retry_after.total_seconds()
        return _answers.retry_after(answer.headers, self._clock, longest)


def _item(find: Find, document: Any, token: str) -> Any:
    """Return the item of a search that is the token's job, None for none.

    Raises:
        NonsenseError: The answer has no list, or does not prove that there is none.
    """
    items = _answers.search(find.items, document)
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list):
        raise NonsenseError(f"items: {find.items}: there is no list of jobs")
    if find.match is None:
        return items[0] if items else None
    for item in items:
        if _answers.search(find.match, item) == token:
            return item
    if items and not find.lists_all:
        raise NonsenseError(
            f"the search gave {len(items)} jobs of others: the service does not search"
            " by token, or match is wrong (or say lists_all: true)"
        )
    return None


def _policy(definition: HttpDefinition) -> Policy:
    """Return a policy whose timeouts leave the client's time to strike first."""
    limits = definition.limits
    plain = Policy()
    whole = limits.connect + limits.answer + _MARGIN
    asked = max(plain.get_timeout, whole)
    create = max(plain.create_timeout, limits.connect + limits.submit_answer + _MARGIN)
    told = definition.policy.model_dump(exclude_none=True)
    first, longest = told.get("poll_delay_min"), told.get("poll_delay_max")
    if first is not None and longest is None:
        told["poll_delay_max"] = max(first, plain.poll_delay_max)
    if longest is not None and first is None:
        told["poll_delay_min"] = min(longest, plain.poll_delay_min)
    return Policy(
        create_timeout=create,
        create_hard_timeout=max(create, plain.create_hard_timeout),
        get_timeout=asked,
        delete_timeout=asked,
        find_timeout=asked,
        **told,
    )
