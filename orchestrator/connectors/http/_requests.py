"""The requests of a definition: submit, status, results, cancel and find."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from orchestrator.connectors.http import _hosts, _templates
from orchestrator.connectors.http._fields import (
    HeaderName,
    JsonPath,
    Model,
    PositiveDuration,
    RefusalStatus,
    Source,
    refuse,
)

PhaseName = Literal[
    "QUEUED",
    "WAITING_FOR_RESOURCES",
    "INITIALIZING",
    "RUNNING",
    "SUCCEEDED",
    "FAILED",
    "RETRYABLE_FAILED",
    "ABORTED",
]
NOT_CREATED = (400, 401, 403, 404, 405, 422, 429)
_JOB = frozenset({"job_id", "token"})


class Request(Model):
    """One request; ``path`` and the fields below ``method`` are templates."""

    names: ClassVar[frozenset[str]] = _JOB
    """What templates of this request may name, up to the first dot."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    query: dict[str, str] = Field(default_factory=dict)
    """Parameters of the URL."""
    headers: dict[HeaderName, str] = Field(default_factory=dict)
    """Header fields; Authorization belongs into ``auth``."""
    json_body: Any = Field(default=None, alias="json")
    """Body as JSON; None for none."""
    form: dict[str, str] | None = None
    """Body as application/x-www-form-urlencoded."""

    @field_validator(
        "path", "query", "headers", "json_body", "form", check_fields=False
    )
    @classmethod
    def _check_places(cls, value: Any) -> Any:
        known = ", ".join(sorted(cls.names))
        refuse(
            f"{{{{.{name}}}}} is unknown here: there is {known}"
            for name in _templates.places(value)
            if name.partition(".")[0] not in cls.names
        )
        return value

    @field_validator("path", check_fields=False)
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None:
            # Only what stands between the placeholders is the definition's.
            _hosts.check_path(_templates.fill_path(value, _Anything()))
        return value

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.json_body is not None and self.form is not None:
            raise ValueError("json and form exclude each other")
        return self

    def mentioned(self) -> set[str]:
        """Return the names of all placeholders, such as ``inputs.x``."""
        path = getattr(self, "path", None)
        parts = [path, self.query, self.headers, self.json_body, self.form]
        return {name for part in parts for name in _templates.places(part)}


class PlacedRequest(Request):
    """A request whose URL the definition says."""

    path: str
    """Behind the base URL; begins with /. Values are percent-encoded."""


class JobRequest(Request):
    """A request about a job whose URL the service may have told."""

    path: str | None = None
    """Behind the base URL; begins with /. None for what submit's status_url gave."""


class _Anything(dict[str, Any]):
    """A scope that knows every name."""

    def __missing__(self, key: str) -> Any:
        return _AnyText("x")


class _AnyText(str):
    """A value, and what stands below it."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> str:
        return "x"


class Idempotency(Model):
    """How the service recognizes a request that it has seen."""

    header: HeaderName | None = None
    """Header that carries the token, such as Idempotency-Key; None if the token
    stands elsewhere in the request, as {{.token}}."""
    remembered: PositiveDuration | Literal["forever"]
    """How long the service surely remembers it, ended jobs included."""


class Submit(PlacedRequest):
    """Makes a job."""

    names: ClassVar[frozenset[str]] = frozenset(
        {"inputs", "token", "execution", "task", "labels", "output_prefix"}
    )

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    job_id: Source | None = None
    """Where the answer has the job's id: a JMESPath, header:NAME, or header:NAME/last
    for the last segment of a URL. None for the path of status_url, or, without that,
    for the token itself: the request must then make it the job's id."""
    status_url: Source | None = None
    """Where the answer has the URL to look at, such as header:Location; its host must
    be the definition's own or allowed."""
    idempotency: Idempotency | None = None
    """Declare it only as the service documents it: what it does not remember is
    submitted twice."""
    not_created: tuple[RefusalStatus, ...] = NOT_CREATED
    """Statuses that prove that no job was made. Every other failure is "unknown"."""
    conflict: Literal["unknown", "refused", "adopt"] = "unknown"
    """What 409 means: nobody knows; no job was made; or there is one already, whose
    id the answer has (or find gives)."""


class Look(JobRequest):
    """Looks at a job."""

    state: JsonPath
    """The service's word for the job's state. What is no text is taken as JSON."""
    phases: dict[str, PhaseName] = Field(min_length=1)
    """State to phase. One that is missing is tolerated, and reported once."""
    message: JsonPath | None = None
    """One line for humans."""
    error: JsonPath | None = None
    """What went wrong, of a job that failed and of a request that was refused."""
    progress: JsonPath | None = None
    """Shown in custom_info."""
    custom_info: dict[str, JsonPath] = Field(default_factory=dict)
    """More for custom_info, such as what the job cost."""
    running: tuple[int, ...] = ()
    """Statuses that mean "at work" whatever the body says, such as 202."""
    gone: tuple[RefusalStatus, ...] = (404, 410)
    """Statuses that mean that there is no such job (any more)."""


class Results(PlacedRequest):
    """Asked once the job has succeeded, if its outputs have a place of their own."""


class Cancel(JobRequest):
    """Ends a job."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "DELETE"
    ended: tuple[RefusalStatus, ...] = (409,)
    """Statuses that mean that the job has ended already."""
    gone: tuple[RefusalStatus, ...] = (404, 410)
    """Statuses that mean that there is no such job (any more)."""


class Find(PlacedRequest):
    """Searches the job of a token."""

    names: ClassVar[frozenset[str]] = frozenset({"token"})

    items: JsonPath = "@"
    """Where the answer has the list of jobs, or the one job."""
    match: JsonPath | None = None
    """Where an item has its token; None to believe every item."""
    lists_all: bool = False
    """Whether the answer is the whole list, jobs of others included. Without it a
    list of other jobs proves nothing: it may be one page of many."""
    job_id: JsonPath | None = None
    """Where an item has the job's id; None as in submit."""
    status_url: JsonPath | None = None
    """Where an item has the URL to look at; None as in submit."""
    absent: tuple[RefusalStatus, ...] = ()
    """Statuses that mean that there is no such job, such as 404. None by default: a
    mistaken path would make a second job."""
