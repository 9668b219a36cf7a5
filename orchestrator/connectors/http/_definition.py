"""HttpDefinition: an HTTP service's batch API, declared."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from orchestrator.connectors.http import _hosts, _templates
from orchestrator.connectors.http._fields import (
    TYPES,
    Duration,
    HeaderName,
    JsonPath,
    Model,
    PositiveDuration,
    SecretRef,
    TypeName,
    refuse,
)
from orchestrator.connectors.http._requests import (
    Cancel,
    Find,
    Look,
    Results,
    Submit,
)
from orchestrator.models import NativeInterface

_NAME = r"^[A-Za-z_]\w*$"
Name = Annotated[str, Field(pattern=_NAME)]


class NoAuth(Model):
    """Requests carry no credentials."""

    type: Literal["none"] = "none"


class BearerAuth(Model):
    """``Authorization: Bearer TOKEN``. A task's secret ``bearer_token`` wins."""

    type: Literal["bearer"]
    token: SecretRef


class BasicAuth(Model):
    """HTTP Basic. A task's secrets ``username`` and ``password`` win."""

    type: Literal["basic"]
    username: str | SecretRef
    password: SecretRef


class HeaderAuth(Model):
    """A key in a header of its own. A task's secret ``api_key`` wins."""

    type: Literal["header"]
    header: HeaderName
    key: SecretRef


class OAuth2Auth(Model):
    """OAuth2 client credentials. A task's ``client_id``, ``client_secret`` win."""

    type: Literal["oauth2"]
    token_url: str
    """Where tokens are given; the only place that the client's secret goes to."""
    client_id: str | SecretRef
    client_secret: SecretRef
    scope: str | None = None
    parameters: dict[str, str] = Field(default_factory=dict)
    """More fields of the request, such as audience or resource."""
    client_auth: Literal["basic", "form"] = "basic"
    """Whether client id and secret go as HTTP Basic or in the form."""
    refresh_before: Duration = Field(default="60s", validate_default=True)
    """So long before its end a token is replaced."""


Auth = NoAuth | BearerAuth | BasicAuth | HeaderAuth | OAuth2Auth


class Input(Model):
    """One input."""

    type: TypeName
    default: Any = Field(default_factory=lambda: inspect.Parameter.empty)

    @model_validator(mode="after")
    def _check_default(self) -> Self:
        if self.type in ("file", "dir", "dataframe"):
            raise ValueError(f"type {self.type!r} is for outputs; take a str")
        if self.default not in (inspect.Parameter.empty, None):
            try:
                TypeAdapter(TYPES[self.type]).validate_python(self.default)
            except ValidationError:
                raise ValueError(f"default is no {self.type}") from None
        return self


class Output(Model):
    """One output."""

    type: TypeName
    path: JsonPath
    """Where the answer of results, or else of status, has it."""


class LogLink(Model):
    """A page for humans."""

    name: str = "Job"
    url: str | None = None
    """Template with {{.job_id}} and {{.token}}."""
    path: JsonPath | None = None
    """Where the status answer has the URL."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ValueError("needs either url or path")
        refuse(
            f"url: {{{{.{name}}}}} is unknown here"
            for name in _templates.places(self.url)
            if name not in ("job_id", "token")
        )
        return self


class Tls(Model):
    """How the service proves who it is; it always has to."""

    ca_file: Path | None = None
    """PEM file of the authorities to believe in place of the system's; relative to
    the definition's file."""


class Limits(Model):
    """What the service may cost."""

    connect: PositiveDuration = Field(default="10s", validate_default=True)
    """To make a connection."""
    answer: PositiveDuration = Field(default="20s", validate_default=True)
    """Between two pieces of an answer."""
    submit_answer: PositiveDuration = Field(default="45s", validate_default=True)
    """The same for submit: what comes later is "unknown"."""
    answer_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    """Larger answers are not read."""
    retry_after: Duration = Field(default="10m", validate_default=True)
    """A Retry-After that asks for more is cut to this."""


class Polling(Model):
    """What of the connector's Policy the definition sets; None for its defaults."""

    poll_delay_min: PositiveDuration | None = None
    poll_delay_max: PositiveDuration | None = None
    gone_grace: Duration | None = None
    find_settle: Duration | None = None
    cleanup_deadline: PositiveDuration | None = None
    retry_on_failed: bool | None = None


class HttpDefinition(Model):
    """One HTTP service's batch API, and the task type that runs there."""

    version: Literal[1] = 1
    """Layout of this file."""
    task_type: str = Field(pattern=r"^[A-Za-z_][\w.-]*$")
    task_type_version: int = Field(default=0, ge=0)
    name: str = "HTTP Connector"
    """For humans."""
    base_url: str
    """Every path stands behind it."""
    allowed_hosts: tuple[str, ...] = ()
    """More hosts (host or host:port) that the service may send us on to, with our
    credentials: they must be the same owner's."""
    allow_http: bool = False
    """Whether plain HTTP may leave this machine."""
    redirects: int = Field(default=0, ge=0, le=5)
    """So many redirects of a GET are followed, to the hosts named here alone."""
    auth: Auth = Field(default_factory=NoAuth, discriminator="type")
    tls: Tls = Tls()
    limits: Limits = Limits()
    policy: Polling = Polling()
    inputs: dict[Name, Input] = Field(default_factory=dict)
    outputs: dict[Name, Output] = Field(default_factory=dict)
    submit: Submit
    status: Look
    results: Results | None = None
    cancel: Cancel | None = None
    """None for a service that cannot: its jobs are waited for."""
    find: Find | None = None
    log_links: tuple[LogLink, ...] = ()
    on_unknown_create: Literal["fail", "hold", "create"] = "fail"
    """What to do if nothing can find out whether there is a job."""

    @field_validator("inputs", "outputs", mode="before")
    @classmethod
    def _short_inputs(cls, value: Any) -> Any:
        """Take ``rows: int`` for ``rows: {type: int}``."""
        if not isinstance(value, dict):
            return value
        return {k: {"type": v} if isinstance(v, str) else v for k, v in value.items()}

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        if "?" in value or "#" in value or "{{" in value:
            raise ValueError("holds ?, # or a template")
        _hosts.of(value, allow_http=True)
        _hosts.check_path("/" + value.split("://", 1)[1].partition("/")[2])
        return value.rstrip("/")

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse(
            f"{host!r} must be host or host:port"
            for host in value
            if not _is_host(host)
        )
        return tuple(host.lower() for host in value)

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        """See to what no part can see alone; each problem names its field."""
        fits = (
            *(_hosts_fit, _names_fit, _requests_fit, _states_fit),
            *(_search_fits, _limits_fit),
        )
        refuse(problem for fit in fits for problem in fit(self))
        return self

    @property
    def hosts(self) -> _hosts.Hosts:
        """Where requests may go."""
        return _hosts.Hosts(
            base=_hosts.of(self.base_url, allow_http=self.allow_http),
            others=frozenset(self.allowed_hosts),
            allow_http=self.allow_http,
        )

    @property
    def interface(self) -> NativeInterface:
        """Inputs and outputs of the task."""
        return NativeInterface(
            inputs={k: (TYPES[i.type], _default(i)) for k, i in self.inputs.items()},
            outputs={k: TYPES[o.type] for k, o in self.outputs.items()},
        )


def _default(given: Input) -> Any:
    """Return an input's default as a native value."""
    if given.default in (inspect.Parameter.empty, None):
        return given.default
    return TypeAdapter(TYPES[given.type]).validate_python(given.default)


def _is_host(text: str) -> bool:
    """Tell whether *text* is ``host`` or ``host:port`` and no more."""
    try:
        return _hosts.of(f"https://{text}", allow_http=False) == text.lower()
    except ValueError:
        return False


def _hosts_fit(definition: HttpDefinition) -> Iterator[str]:
    """Yield plain HTTP off this machine, for jobs and for credentials."""
    urls = {"base_url": definition.base_url}
    if isinstance(definition.auth, OAuth2Auth):
        urls["auth.token_url"] = definition.auth.token_url
    for field, url in urls.items():
        try:
            _hosts.of(url, allow_http=definition.allow_http)
        except ValueError as error:
            yield f"{field}: {error}"


def _requests_fit(definition: HttpDefinition) -> Iterator[str]:
    """Yield what requests lack of what they need of each other."""
    submit = definition.submit
    sends_token = "token" in submit.mentioned()
    if submit.idempotency and not submit.idempotency.header and not sends_token:
        yield "submit.idempotency: name the header, or let the request say {{.token}}"
    if submit.job_id is None and submit.status_url is None and not sends_token:
        yield "submit.job_id: say where the answer has the job's id"
    follows = submit.status_url is not None
    for field in ("status", "cancel"):
        request = getattr(definition, field)
        if request is not None and request.path is None and not follows:
            yield f"{field}.path: is missing, and submit has no status_url"


def _states_fit(definition: HttpDefinition) -> Iterator[str]:
    """Yield that nothing that the service could say is a success."""
    if "SUCCEEDED" not in definition.status.phases.values():
        yield "status.phases: no state is SUCCEEDED: no job could ever succeed"


def _names_fit(definition: HttpDefinition) -> Iterator[str]:
    """Yield placeholders of what is not declared."""
    for name in sorted(definition.submit.mentioned()):
        root, _, key = name.partition(".")
        if root == "inputs" and key and key not in definition.inputs:
            yield f"submit: there is no input {key!r}"
        if root in _BELOW and key not in _BELOW[root]:
            below = ", ".join(f".{root}.{k}".rstrip(".") for k in _BELOW[root])
            yield f"submit: {{{{.{name}}}}} is unknown: there is {below}"


def _search_fits(definition: HttpDefinition) -> Iterator[str]:
    """Yield why a search cannot give what the other requests need."""
    find, submit = definition.find, definition.submit
    if find is None:
        return
    if not find.mentioned():
        yield "find: the request must name the {{.token}} that it searches"
    # One job has one id, however it was come by: it is what tells jobs apart.
    if (find.job_id is None) != (submit.job_id is None):
        missing = (
            "is missing" if find.job_id is None else "is named, in submit it is not"
        )
        yield f"find.job_id: {missing}"
    if (find.status_url is None) != (submit.status_url is None):
        yield "find.status_url: find and submit must both name it, or none"


def _limits_fit(definition: HttpDefinition) -> Iterator[str]:
    """Yield delays that contradict each other."""
    polling = definition.policy
    shortest, longest = polling.poll_delay_min, polling.poll_delay_max
    if shortest is not None and longest is not None and longest < shortest:
        yield "policy.poll_delay_max: is below poll_delay_min"


_BELOW = {
    "execution": ("id", "attempt"),
    "task": ("name",),
    "token": ("",),
    "output_prefix": ("",),
}
