"""The run that a task asks for: its stored form, and the request that makes it.

The stored form is Flyte's: ``databricksConf``, the body of the request, and
``databricksInstance``, the workspace. Ours are ``tokenParameter`` and ``outputTask``.
A body with a ``job_id`` is one of ``run-now``, any other one of ``runs/submit``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orchestrator._codec import python_type_of
from orchestrator.connectors._custom import custom_of
from orchestrator.connectors._placeholders import INPUT, as_text
from orchestrator.connectors._token import token_of
from orchestrator.connectors.databricks._hosts import host_of

if TYPE_CHECKING:
    from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
    from flyteidl2.core.tasks_pb2 import TaskTemplate

SUBMIT, RUN_NOW = "/runs/submit", "/run-now"
TASK_KEY = "main"
"""Key of the only task of a body that was written without ``tasks``."""

NAME_MAX = 4096
_EXACT_INT_MAX = 2**53
_DYNAMIC = "{{"
_TASK_FIELDS = frozenset(
    {
        "compute_key",
        "environment_key",
        "existing_cluster_id",
        "job_cluster_key",
        "libraries",
        "max_retries",
        "min_retry_interval_millis",
        "new_cluster",
        "retry_on_timeout",
    }
)
"""Fields that a body of API 2.0 has beside the task, and one with ``tasks`` in it."""

_NAMED = ("job_parameters", "notebook_params", "python_named_params", "sql_params")
_UNNAMED = ("dbt_commands", "jar_params", "python_params", "spark_submit_params")

# What Flyte's own task runs: a program that unpacks its arguments.
_FLYTE_PROGRAM = "flyteplugins/databricks/entrypoint.py"
_FLYTE_SOURCE = {
    "git_url": "https://github.com/flyteorg/flytetools",
    "git_provider": "gitHub",
    "git_commit": "194364210c47c49ce66c419e8fb68d6f9c06fd7e",
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What is fixed when the task is declared.

    Attributes:
        body: The request's, its placeholders not filled in.
        host: The workspace; "" for the connector's own.
        token_parameter: Parameter of an existing job that takes the token; "" for none.
        output_task: Key of the task whose output counts; "" for the only one.
        outputs: Names of the declared outputs, in a stored template.
        text: Whether the output ``result`` is text.
    """

    body: dict[str, Any]
    host: str = ""
    token_parameter: str = ""
    output_task: str = ""
    outputs: tuple[str, ...] = ()
    text: bool = True

    @classmethod
    def of(
        cls, body: Any, host: str | None, token_parameter: str, output_task: str
    ) -> RunConfig:
        """Return what a task says.

        Raises:
            ValueError: It cannot be run, or not be run once.
        """
        if not isinstance(body, Mapping):
            raise ValueError("databricks_conf must be a mapping: the request's body")  # noqa: TRY004 - one kind
        made = cls(
            body=_in_tasks(dict(body)),
            host=host_of(host) if host else "",
            token_parameter=token_parameter,
            output_task=output_task,
        )
        made.check()
        return made

    @classmethod
    def from_template(cls, template: TaskTemplate) -> RunConfig:
        """Return what a stored template says, also if Flyte's own task wrote it.

        Raises:
            ValueError: It cannot be used.
        """
        custom: Any = custom_of(template)
        body = custom.get("databricksConf")
        if isinstance(body, dict) and template.container.args and not _has_task(body):
            body = _flytes(body, custom.get("sparkConf") or {}, template)
        made = cls.of(
            body,
            custom.get("databricksInstance"),
            custom.get("tokenParameter", ""),
            custom.get("outputTask", ""),
        )
        declared = {
            entry.key: python_type_of(entry.value.type)
            for entry in template.interface.outputs.variables
        }
        text = declared.get("result", str) is str
        return replace(made, outputs=tuple(declared), text=text)

    def to_custom(self) -> dict[str, Any]:
        """Return what ``from_template`` reads."""
        custom = {
            "databricksConf": self.body,
            "databricksInstance": self.host,
            "tokenParameter": self.token_parameter,
            "outputTask": self.output_task,
        }
        return {name: value for name, value in custom.items() if value}

    @property
    def job_id(self) -> int:
        """The existing job, 0 for a one-time run."""
        return int(self.body.get("job_id", 0))

    def input_names(self) -> set[str]:
        """Return the names of the inputs that the body mentions."""
        return {name for text in _texts(self.body) for name in INPUT.findall(text)}

    def check(self) -> None:
        """Refuse what could not be run, or not be run once.

        Raises:
            ValueError: Says what.
        """
        if "idempotency_token" in self.body:
            raise ValueError(
                "databricks_conf has an idempotency_token: it would be that of every"
                " execution; the attempt's own is sent"
            )
        _check_numbers(self.body, "databricks_conf")
        if "job_id" in self.body:
            self._check_run_now()
            return
        if self.token_parameter:
            raise ValueError("token_parameter is for the runs of an existing job")
        tasks = self.body.get("tasks")
        if not isinstance(tasks, list) or not tasks:
            raise ValueError(
                "databricks_conf has neither a task (spark_python_task, tasks, ...) nor"
                " the job_id of an existing job"
            )
        keys = [
            task.get("task_key") if isinstance(task, dict) else None for task in tasks
        ]
        if None in keys or len(set(keys)) < len(keys):
            raise ValueError(f"databricks_conf: tasks need a task_key each, got {keys}")
        if self.output_task and self.output_task not in keys:
            raise ValueError(f"output_task {self.output_task!r} is none of {keys}")

    def _check_run_now(self) -> None:
        job_id = self.body["job_id"]
        if isinstance(job_id, bool) or not re.fullmatch(r"[1-9][0-9]*", str(job_id)):
            raise ValueError(f"job_id: {job_id!r} is no number of a job")
        if _has_task(self.body):
            raise ValueError("databricks_conf has both a job_id and a task")
        unnamed = [name for name in _UNNAMED if name in self.body]
        if self.token_parameter and unnamed and not self._named():
            raise ValueError(f"token_parameter cannot go along with {unnamed[0]}")

    def _named(self) -> str:
        """Return the field for named parameters that the body has, "" for none."""
        return next((name for name in _NAMED if name in self.body), "")

    def with_token(self, token: str) -> dict[str, Any]:
        """Return the body with the parameter that takes the token."""
        if not self.token_parameter:
            return self.body
        field = self._named() or _NAMED[0]
        given = {**self.body.get(field, {}), self.token_parameter: token}
        return {**self.body, field: given}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a create sends, made before anything is sent.

    Attributes:
        config: What the task asks for.
        path: Of the request.
        body: Of the request.
    """

    config: RunConfig
    path: str
    body: dict[str, Any]

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
        config = RunConfig.from_template(template)
        body = _filled(config.with_token(token), _input_texts(config, inputs))
        if config.job_id:
            body["job_id"] = config.job_id
        else:
            body["run_name"] = run_name(body.get("run_name") or template.id.name, token)
        body["idempotency_token"] = token
        path = RUN_NOW if config.job_id else SUBMIT
        return cls(config=config, path=path, body=body)


def run_name(name: str, token: str) -> str:
    """Return the name under which a one-time run is found again."""
    suffix = f" [{token}]"
    start = name.encode()[: NAME_MAX - len(suffix)].decode(errors="ignore")
    return start + suffix


def _input_texts(config: RunConfig, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the inputs that the body mentions as text.

    Raises:
        ValueError: One is missing, or Databricks would fill something into it.
    """
    texts = {}
    for name in sorted(config.input_names()):
        if name not in inputs:
            raise ValueError(f"databricks_conf: there is no input {name!r}")
        try:
            texts[name] = as_text(inputs[name])
        except ValueError as error:
            raise ValueError(f"input {name!r} cannot become text: {error}") from None
        if _DYNAMIC in texts[name]:
            raise ValueError(
                f"input {name!r} holds {_DYNAMIC}, which is how Databricks is told to"
                " put its own values, secrets among them, into a text"
            )
    return texts


def _filled(value: Any, texts: Mapping[str, str]) -> Any:
    """Return *value* with inputs filled in, in one pass: they are never templates."""
    if isinstance(value, dict):
        return {name: _filled(item, texts) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, texts) for item in value]
    if isinstance(value, str):
        return INPUT.sub(lambda match: texts[match.group(1)], value)
    return value


def _texts(value: Any) -> list[str]:
    """Return every text in JSON data, names of fields left out."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _check_numbers(value: Any, where: str) -> None:
    """Refuse numbers that a template cannot keep exactly.

    Raises:
        ValueError: Says where.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            _check_numbers(item, f"{where}[{name!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_numbers(item, f"{where}[{index}]")
    elif isinstance(value, int) and abs(value) > _EXACT_INT_MAX:
        raise ValueError(f"{where}: {value} is too large for a template; write a str")


def _has_task(body: Mapping[str, Any]) -> bool:
    return "tasks" in body or any(name.endswith("_task") for name in body)


def _in_tasks(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body of one task as one with ``tasks``, which newer APIs want."""
    if "tasks" in body or "job_id" in body or not _has_task(body):
        return body
    moved = [n for n in body if n in _TASK_FIELDS or n.endswith("_task")]
    task = {"task_key": TASK_KEY, **{name: body[name] for name in moved}}
    rest = {name: value for name, value in body.items() if name not in moved}
    return {**rest, "tasks": [task]}


def _flytes(
    body: dict[str, Any], spark_conf: dict[str, Any], template: TaskTemplate
) -> dict[str, Any]:
    """Return the body that Flyte's own task stands for: a function in a container."""
    container = template.container
    env = {pair.key: pair.value for pair in container.env}
    made = {
        **body,
        "spark_python_task": {
            "python_file": _FLYTE_PROGRAM,
            "parameters": [*container.args],
            "source": "GIT",
        },
        "git_source": _FLYTE_SOURCE,
    }
    cluster = body.get("new_cluster")
    if isinstance(cluster, dict):
        made["new_cluster"] = {
            "docker_image": {"url": container.image},
            "spark_conf": spark_conf,
            **cluster,
            "spark_env_vars": {**cluster.get("spark_env_vars", {}), **env},
        }
    return made
