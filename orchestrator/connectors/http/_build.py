"""Requests from their templates, and what the templates may name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from orchestrator._tasks import TOKEN_LABEL
from orchestrator.connectors._placeholders import as_json
from orchestrator.connectors.http import _templates
from orchestrator.connectors.http._client import Call

if TYPE_CHECKING:
    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator.connectors.http._definition import HttpDefinition
    from orchestrator.connectors.http._meta import HttpMeta
    from orchestrator.connectors.http._requests import (
        JobRequest,
        PlacedRequest,
        Request,
    )


@dataclass(frozen=True)
class Submission:
    """What ``create`` was given."""

    template: TaskTemplate
    output_prefix: str
    inputs: dict[str, Any]
    metadata: TaskExecutionMetadata | None
    token: str

    def scope(self) -> _templates.Scope:
        """Return what the submit request may name.

        Raises:
            ValueError: An input has no JSON form; it is named.
        """
        inputs = {}
        for name, value in self.inputs.items():
            try:
                inputs[name] = as_json(value)
            except ValueError as error:
                raise ValueError(f"input {name!r} has no JSON form: {error}") from None
        labels, execution = {}, {"id": "", "attempt": 1}
        if self.metadata is not None:
            labels = {k: v for k, v in self.metadata.labels.items() if k != TOKEN_LABEL}
            task = self.metadata.task_execution_id
            execution = {
                "id": task.node_execution_id.execution_id.name,
                "attempt": task.retry_attempt + 1,
            }
        return {
            "inputs": inputs,
            "token": self.token,
            "execution": execution,
            "task": {"name": self.template.id.name},
            "labels": labels,
            "output_prefix": self.output_prefix,
        }


class Builder:
    """Makes the requests of one definition."""

    def __init__(self, definition: HttpDefinition) -> None:
        """Build for *definition*."""
        self._definition = definition

    def submit(self, submission: Submission) -> Call:
        """Return the request that makes a job.

        Raises:
            ValueError: A value does not fit where it is to stand.
        """
        submit = self._definition.submit
        more: dict[str, str] = {}
        if submit.idempotency is not None and submit.idempotency.header is not None:
            more[submit.idempotency.header] = submission.token
        scope = submission.scope()
        url = self._url(submit.path, scope)
        return self._call(url, submit, scope, more, submits=True)

    def find(self, token: str) -> Call:
        """Return the request that searches a token's job; ValueError as above."""
        find = self._definition.find
        if find is None:
            raise ValueError("the definition has no find")
        scope = {"token": token}
        return self._call(self._url(find.path, scope), find, scope)

    def about(self, request: JobRequest | PlacedRequest, meta: HttpMeta) -> Call:
        """Return a request about a job of ours; ValueError as above."""
        scope = job_scope(meta)
        if request.path is None:
            return self._call(meta.status_url, request, scope)
        return self._call(self._url(request.path, scope), request, scope)

    def _url(self, path: str, scope: _templates.Scope) -> str:
        return self._definition.base_url + _templates.fill_path(path, scope)

    def _call(
        self,
        url: str,
        request: Request,
        scope: _templates.Scope,
        more: dict[str, str] | None = None,
        *,
        submits: bool = False,
    ) -> Call:
        if request.query:
            pairs = _templates.fill_pairs(request.query, scope)
            url += ("&" if "?" in url else "?") + urlencode(pairs)
        headers, body = {}, None
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(_templates.fill_pairs(request.form, scope)).encode()
        elif request.json_body is not None:
            headers["Content-Type"] = "application/json"
            filled = _templates.fill_value(request.json_body, scope)
            body = _templates.json_bytes(filled)
        return Call(
            method=request.method,
            url=url,
            headers={
                **headers,
                **_templates.fill_headers(request.headers, scope),
                **(more or {}),
            },
            body=body,
            submits=submits,
        )


def job_scope(meta: HttpMeta) -> _templates.Scope:
    """Return what requests about a job may name."""
    return {"job_id": meta.job_id, "token": meta.token}
