"""DatabricksTask and Databricks: a run as a task, with the fields of Flyte's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import AsyncConnectorExecutorMixin, TaskTemplate
from orchestrator.connectors.databricks._body import RunConfig
from orchestrator.connectors.databricks._clients import KEYWORDS, require_library
from orchestrator.errors import ConfigurationError
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.models import SerializationContext

TASK_TYPE = "databricks"
# What JSON cannot give back.
_NO_JSON = (bytes, date, timedelta)


@dataclass
class Databricks:
    """Which run, where, and with whose rights.

    Attributes:
        databricks_conf: The body of Databricks' ``runs/submit`` (one task's fields at
            the top, or ``tasks``), or with a ``job_id`` that of ``run-now``.
        databricks_instance: The workspace, such as ``myorg.cloud.databricks.com``. None
            for the connector's own; another one must be allowed by the connector.
        databricks_token: Environment variable with a personal access token.
        databricks_client_id: The same with a service principal's id.
        databricks_client_secret: The same with its OAuth secret.
        token_parameter: For ``run-now``: a parameter of the job that is given the
            attempt's token, by which its run is found again. Declare it in the job,
            with any default. Without one an unknown create stays unknown whenever
            somebody else may have started the job.
        output_task: Key of the task whose output is that of the run. None if only
            one task has any.
    """

    databricks_conf: Mapping[str, Any] | None = None
    databricks_instance: str | None = None
    databricks_token: str | None = None
    databricks_client_id: str | None = None
    databricks_client_secret: str | None = None
    token_parameter: str | None = None
    output_task: str | None = None


class DatabricksTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A run on Databricks: of tasks that it brings along, or of an existing job.

    Args:
        name: Name of the task.
        plugin_config: A `Databricks`, or Flyte's, which has the same first fields.
        inputs: Name to type, or to ``(type, default)``. ``{{.inputs.name}}`` in a text
            of ``databricks_conf`` stands for the input: a str as it is, all else as
            JSON. Each must stand somewhere.
        outputs: Name to type. ``result`` is what the task gave: what a notebook
            exited with, the link to what a SQL query gave, the artifacts of dbt, the
            end of a program's output; a str as it is, other types as JSON. Other
            names are members of the JSON object that a notebook exited with.
        **kwargs: Other fields of TaskTemplate, such as ``retries`` and ``timeout``.

    Raises:
        ConfigurationError: The task cannot be run as declared, or Databricks' SDK is
            not installed.
    """

    def __init__(
        self,
        name: str,
        plugin_config: Databricks,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        require_library()
        interface = NativeInterface(
            inputs=dict(inputs or {}), outputs=dict(outputs or {})
        )
        try:
            self.run_config = RunConfig.of(
                plugin_config.databricks_conf,
                plugin_config.databricks_instance,
                getattr(plugin_config, "token_parameter", None) or "",
                getattr(plugin_config, "output_task", None) or "",
            )
            _check_interface(interface, self.run_config)
        except ValueError as error:
            raise ConfigurationError(f"task {name}: {error}") from None
        if kwargs.get("env_vars"):
            raise ConfigurationError(
                f"task {name}: env_vars belong into spark_env_vars of a new_cluster"
            )
        super().__init__(
            name=name, interface=interface, task_type=TASK_TYPE, image=None, **kwargs
        )
        self.plugin_config = plugin_config

    def custom_config(self, sctx: SerializationContext) -> Mapping[str, Any]:
        """Return the body and the workspace; of secrets the names of variables."""
        del sctx
        custom = self.run_config.to_custom()
        named = {
            keyword: getattr(self.plugin_config, keyword, None) for keyword in KEYWORDS
        }
        secrets = {keyword: name for keyword, name in named.items() if name}
        return {**custom, "secrets": secrets} if secrets else custom


def _check_interface(interface: NativeInterface, config: RunConfig) -> None:
    """Refuse inputs that stand nowhere, and outputs that nothing can give.

    Raises:
        ValueError: Says which.
    """
    said, declared = config.input_names(), set(interface.inputs)
    if said - declared:
        raise ValueError(
            f"databricks_conf mentions {sorted(said - declared)}, declared inputs are"
            f" {sorted(declared)}"
        )
    if declared - said:
        name = min(declared - said)
        raise ValueError(
            f"input {name!r} stands nowhere in databricks_conf: write"
            f" {{{{.inputs.{name}}}}} where the run is to have it"
        )
    for name, kind in interface.outputs.items():
        if isinstance(kind, type) and issubclass(kind, _NO_JSON):
            raise ValueError(  # noqa: TRY004 - one kind for every refusal
                f"output {name!r} cannot be {kind.__name__}: runs give JSON"
            )
