"""BigQueryTask and BigQueryConfig: a query as a task, with the fields of Flyte's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator._tasks import AsyncConnectorExecutorMixin, TaskTemplate
from orchestrator.connectors._frames import query_interface
from orchestrator.connectors.bigquery import _parameters
from orchestrator.connectors.bigquery._clients import require_library
from orchestrator.connectors.bigquery._job import JobConfig, check_text
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.io import DataFrame
    from orchestrator.models import NativeInterface, SerializationContext

TASK_TYPE = "bigquery_query_job_task"
CREDENTIALS = "google_application_credentials"


@dataclass
class BigQueryConfig:
    """Where a query runs, and how.

    Attributes:
        ProjectID: The project that runs and pays the job.
        Location: Where it runs, such as ``"US"`` or ``"europe-west1"``. Required,
            unlike in Flyte: a create that is repeated elsewhere would be a second job.
        QueryJobConfig: A ``google.cloud.bigquery.QueryJobConfig``, or a mapping as its
            ``to_api_repr()`` gives, or the ``query`` part of that. None for defaults.
    """

    ProjectID: str
    Location: str | None = None
    QueryJobConfig: Any = None


class BigQueryTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """A BigQuery query.

    Args:
        name: Name of the task.
        query_template: The SQL, sent as it is. ``@name`` is the input of that name.
        plugin_config: A `BigQueryConfig`, or Flyte's, which has the same fields.
        inputs: Name to type, or to ``(type, default)``. Types are int, float, str,
            bool, bytes, Decimal, date, datetime, time, lists of them, and ``X | None``
            of all but lists, whose None is a NULL of that type.
        output_dataframe_type: ``orchestrator.io.DataFrame``: the task has one output,
            ``results``, a reference to the table of the query's results. None for no
            output.
        google_application_credentials: Environment variable with the JSON of a service
            account's key. None for Google's default credentials.
        parameter_types: BigQuery's type of inputs for which the Python type's is not
            the right one, such as ``{"at": "DATETIME", "ids": "ARRAY<NUMERIC>"}``.
        **kwargs: Other fields of TaskTemplate, such as ``retries`` and ``timeout``.

    Raises:
        ConfigurationError: The task cannot be run as declared, or Google's client is
            not installed.
    """

    def __init__(  # noqa: PLR0917 - Flyte's order
        self,
        name: str,
        query_template: str,
        plugin_config: BigQueryConfig,
        inputs: Mapping[str, Any] | None = None,
        output_dataframe_type: type[DataFrame] | None = None,
        google_application_credentials: str | None = None,
        *,
        parameter_types: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        require_library()
        interface = query_interface(name, inputs, output_dataframe_type)
        try:
            check_text(query_template)
            self.job_config = JobConfig.from_request(
                plugin_config.ProjectID,
                plugin_config.Location,
                plugin_config.QueryJobConfig,
                _types(interface, parameter_types or {}),
            )
            self.job_config.check_inputs(list(interface.inputs))
        except ValueError as error:
            raise ConfigurationError(f"task {name}: {error}") from None
        super().__init__(
            name=name, interface=interface, task_type=TASK_TYPE, image=None, **kwargs
        )
        self.query_template = query_template
        self.plugin_config = plugin_config
        self.output_dataframe_type = output_dataframe_type
        self.google_application_credentials = google_application_credentials

    def custom_config(self, sctx: SerializationContext) -> Mapping[str, Any]:
        """Return where and how the query runs; everything that a replay needs."""
        custom = self.job_config.to_custom()
        if sctx.domain:
            custom["Domain"] = sctx.domain
        if self.google_application_credentials is not None:
            custom["secrets"] = {CREDENTIALS: self.google_application_credentials}
        return custom

    def sql(self, sctx: SerializationContext) -> str:
        """Return the query."""
        del sctx
        return self.query_template


def _types(interface: NativeInterface, said: Mapping[str, str]) -> dict[str, str]:
    """Return the parameter type of every input.

    Raises:
        ValueError: One has none.
    """
    unknown = sorted(set(said) - set(interface.inputs))
    if unknown:
        raise ValueError(f"parameter_types has {unknown}, which are no inputs")
    found = {}
    for name, (declared, _) in interface.inputs.items():
        kind = said[name] if name in said else _parameters.type_of(declared)
        if kind is None:
            raise ValueError(
                f"input {name!r}: {declared!r} has no parameter type of BigQuery;"
                " name one in parameter_types"
            )
        found[name] = _parameters.parse_type(kind)
    return found
