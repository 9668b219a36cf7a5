"""The job that a task asks for: its stored form, and the request that makes it.

The stored form is Flyte's: ``ProjectID``, ``Location``, ``Domain`` and the query part
of the job configuration side by side. Ours are ``JobConfig``, the rest of the job
configuration, and ``QueryParameterTypes``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator._codec import python_type_of
from orchestrator._tasks import TOKEN_LABEL
from orchestrator.connectors._custom import custom_of
from orchestrator.connectors._token import token_of
from orchestrator.connectors.bigquery import _parameters

if TYPE_CHECKING:
    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate

LABELS_MAX = 64
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_TEMPLATED = re.compile(r"\{\{\s*\.\s*inputs\b")
_OURS = frozenset(
    {"ProjectID", "Location", "Domain", "secrets", "JobConfig", "QueryParameterTypes"}
)
_HAS_QUERY = "QueryJobConfig has a query; it is the task's to say it"
_OTHER_JOBS = ("copy", "extract", "load")


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """What is fixed when the task is declared.

    Attributes:
        project: The project that runs and pays the job.
        location: Where it runs.
        query: The ``query`` part of BigQuery's job configuration, without the text.
        job: Its other parts, such as ``labels`` and ``jobTimeoutMs``.
        types: Parameter type by input name; an input without one has that of its
            Python type.
    """

    project: str
    location: str
    query: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_request(
        cls, project: Any, location: Any, given: Any, types: Mapping[str, str]
    ) -> JobConfig:
        """Return what *given* says: a QueryJobConfig, its REST form, or a part of it.

        Raises:
            ValueError: It cannot be used.
        """
        config = given.to_api_repr() if hasattr(given, "to_api_repr") else given or {}
        if not isinstance(config, Mapping):
            raise ValueError(  # noqa: TRY004 - one kind for every refusal
                f"QueryJobConfig is {type(given).__name__}, must be a QueryJobConfig"
                " or a mapping"
            )
        job = dict(config)
        query = job.pop("query", None)
        if query is None:
            query, job = job, {}
        job.pop("jobType", None)
        if not isinstance(query, Mapping):
            raise ValueError(_HAS_QUERY)  # noqa: TRY004 - as above
        made = cls(
            project=project,
            location=location,
            query=dict(query),
            job=job,
            types=dict(types),
        )
        made.check()
        return made

    @classmethod
    def from_template(cls, template: TaskTemplate) -> JobConfig:
        """Return what a stored template says, also if Flyte's own task wrote it.

        Raises:
            ValueError: It cannot be used.
        """
        custom: Any = custom_of(template)
        made = cls(
            project=custom.get("ProjectID"),
            location=custom.get("Location"),
            query={name: custom[name] for name in custom if name not in _OURS},
            job=custom.get("JobConfig") or {},
            types=custom.get("QueryParameterTypes") or {},
        )
        made.check()
        return made

    def to_custom(self) -> dict[str, Any]:
        """Return what ``from_template`` reads."""
        custom = {"ProjectID": self.project, "Location": self.location, **self.query}
        if self.job:
            custom["JobConfig"] = self.job
        if self.types:
            custom["QueryParameterTypes"] = self.types
        return custom

    def check(self) -> None:
        """Refuse what could not be run, or not be run once.

        Raises:
            ValueError: Says what.
        """
        for name, value in (("ProjectID", self.project), ("Location", self.location)):
            if not isinstance(value, str) or not value:
                raise ValueError(
                    f"{name} must be named, got {value!r}: a job is known by project,"
                    " location and id, and a repeated create must find it there"
                )
        if self.job.get("dryRun"):
            raise ValueError("dryRun makes no job; ask Google's client for it")
        if any(self.job.get(kind) for kind in _OTHER_JOBS):
            raise ValueError("QueryJobConfig is not that of a query")
        if self.query.get("query") or _OURS & set(self.query):
            raise ValueError(_HAS_QUERY)
        labels = self.job.get("labels") or {}
        for name, value in labels.items():
            texts = isinstance(name, str) and isinstance(value, str)
            if not (
                texts and _LABEL_KEY.fullmatch(name) and _LABEL_VALUE.fullmatch(value)
            ) or name.startswith("orchestrator-"):
                raise ValueError(f"label {name!r}: {value!r} cannot be used")

    def check_inputs(self, names: list[str]) -> None:
        """Refuse inputs that cannot be parameters beside the configured ones.

        Raises:
            ValueError: Says which.
        """
        if not names:
            return
        if self.query.get("useLegacySql"):
            raise ValueError("inputs are query parameters, which legacy SQL has not")
        if self.query.get("parameterMode") == "POSITIONAL":
            raise ValueError("inputs are named parameters; the mode is POSITIONAL")
        given = [str(p.get("name")) for p in self.query.get("queryParameters", ())]
        seen = {name.lower() for name in given}
        for name in names:
            if not _parameters.NAME.fullmatch(name) or name.lower() in seen:
                raise ValueError(f"input {name!r} is no parameter name, or given twice")
            seen.add(name.lower())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a create sends, made before anything is sent.

    Attributes:
        token: The job's id.
        query: The SQL text.
        configuration: BigQuery's job configuration, without the text.
        outputs: Names of the declared outputs.
    """

    token: str
    project: str
    location: str
    query: str
    configuration: dict[str, Any]
    outputs: list[str]

    @classmethod
    def of(
        cls,
        template: TaskTemplate,
        inputs: Mapping[str, Any],
        metadata: TaskExecutionMetadata | None,
        token: str,
    ) -> Plan:
        """Return the plan of one attempt; the same for the same arguments.

        Raises:
            ValueError: The template or an input cannot be used.
        """
        token = token_of(token, metadata)
        text = template.sql.statement
        check_text(text)
        config = JobConfig.from_template(template)
        config.check_inputs(list(inputs))
        query = {"useLegacySql": False, **config.query}
        parameters = [*query.pop("queryParameters", ())]
        parameters += _of_inputs(template, config.types, inputs)
        if parameters:
            query |= {"queryParameters": parameters, "parameterMode": "NAMED"}
            if "parameterMode" in config.query:
                query["parameterMode"] = config.query["parameterMode"]
        labels = labels_of(template, metadata, token, config.job.get("labels") or {})
        return cls(
            token=token,
            project=config.project,
            location=config.location,
            query=text,
            configuration={**config.job, "query": query, "labels": labels},
            outputs=[entry.key for entry in template.interface.outputs.variables],
        )


def check_text(text: str) -> None:
    """Refuse SQL that is empty, or wants inputs to be written into it.

    Raises:
        ValueError: Says why.
    """
    if not text.strip():
        raise ValueError("query_template is empty")
    if _TEMPLATED.search(text):
        raise ValueError(
            "query_template has {{ .inputs }}: inputs are query parameters, write"
            " @name instead"
        )


def _of_inputs(
    template: TaskTemplate, types: Mapping[str, str], inputs: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the inputs as query parameters, in the order of the interface.

    Raises:
        ValueError: One has no parameter type, or a value that is none of its type.
    """
    made = []
    for entry in template.interface.inputs.variables:
        if entry.key not in inputs:
            continue
        kind = types.get(entry.key) or _flytes_type(python_type_of(entry.value.type))
        if kind is None:
            raise ValueError(f"input {entry.key!r}: its type is none of BigQuery's")
        try:
            made.append(_parameters.parameter(entry.key, kind, inputs[entry.key]))
        except ValueError as error:
            raise ValueError(f"input {entry.key!r}: {error}") from None
    return made


def _flytes_type(declared: Any) -> str | None:
    """Return the type for an input of Flyte's own task, which stores no types.

    As in Flyte's plugin a datetime is a DATETIME there.
    """
    kind = _parameters.type_of(declared)
    return "DATETIME" if kind == "TIMESTAMP" else kind


def labels_of(
    template: TaskTemplate,
    metadata: TaskExecutionMetadata | None,
    token: str,
    configured: Mapping[str, str],
) -> dict[str, str]:
    """Return the job's labels: ours, the configured ones, then the execution's.

    The execution's are spelled as BigQuery wants labels (lower case, other characters
    as ``_``, at most 63), and go first if there are more than 64.
    """
    execution, _, attempt = token.removeprefix("o").rpartition("-")
    labels = {
        TOKEN_LABEL: token,
        "orchestrator-execution": execution,
        "orchestrator-attempt": attempt,
        "orchestrator-task": legal_label(template.id.name),
        **configured,
    }
    for name, value in sorted((metadata.labels if metadata else {}).items()):
        key = legal_label(name)
        if len(labels) < LABELS_MAX and _LABEL_KEY.fullmatch(key):
            labels.setdefault(key, legal_label(value))
    return labels


def legal_label(text: str) -> str:
    """Return *text* with the characters and the length of a label."""
    return re.sub(r"[^a-z0-9_-]", "_", text.lower())[:63]
