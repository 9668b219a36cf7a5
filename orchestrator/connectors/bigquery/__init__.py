"""BigQuery: BigQueryConnector and BigQueryTask, for queries as durable jobs.

Needs the extra: ``pip install '/path/to/checkout[bigquery]'``. ::

    from orchestrator.connectors import ConnectorRegistry
    from orchestrator.connectors.bigquery import (
        BigQueryConfig, BigQueryConnector, BigQueryTask, read,
    )
    from orchestrator.io import DataFrame

    ConnectorRegistry.register(BigQueryConnector())
    count = BigQueryTask(
        "count_events",
        query_template="SELECT COUNT(*) AS n FROM shop.events WHERE day = @day",
        plugin_config=BigQueryConfig(ProjectID="my-project", Location="EU"),
        inputs={"day": date},
        output_dataframe_type=DataFrame,
    )
    # After the execution: read(outputs["results"], "pandas")

**Class I: create is idempotent.** The attempt's token is the job id. BigQuery keeps the
jobs of a project and location, ended ones included, for six months, and refuses a
second one with the id of a first (409). So a create whose outcome is unknown is
repeated, and the 409 of the repetition means that the job is there. It is adopted if it
carries our label, else the create ends with PermanentError. Promised are 180 days.

That holds for one project and one location. Both are fields of the task, stored with
the execution before anything is sent; neither is ever guessed.

**Inputs** are query parameters, ``@name``; the types are those of the inputs, or what
``parameter_types`` says.

**Labels** of the job: ``orchestrator-token``, ``orchestrator-execution``,
``orchestrator-attempt``, ``orchestrator-task``, those of the job configuration and
those of the execution, spelled as BigQuery wants labels.

**Settings** are the constructor's. ``endpoint`` (or Google's own variable
``BIGQUERY_EMULATOR_HOST``) names an emulator, which is talked to without credentials
unless the task names some.

``docs/connectors/bigquery.md`` has the tables: states, errors, parameters.
"""

from __future__ import annotations

from orchestrator.connectors.bigquery._connector import BigQueryConnector
from orchestrator.connectors.bigquery._meta import BigQueryMeta
from orchestrator.connectors.bigquery._read import read
from orchestrator.connectors.bigquery._task import BigQueryConfig, BigQueryTask

__all__ = [
    "BigQueryConfig",
    "BigQueryConnector",
    "BigQueryMeta",
    "BigQueryTask",
    "read",
]
