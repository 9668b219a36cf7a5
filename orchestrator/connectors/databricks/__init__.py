"""Databricks: DatabricksConnector and DatabricksTask, for runs as durable jobs.

Needs the extra: ``pip install '/path/to/checkout[databricks]'``. ::

    from orchestrator.connectors import ConnectorRegistry
    from orchestrator.connectors.databricks import (
        Databricks, DatabricksConnector, DatabricksTask,
    )

    ConnectorRegistry.register(
        DatabricksConnector(host="https://myorg.cloud.databricks.com")
    )
    clean = DatabricksTask(
        "clean_events",
        plugin_config=Databricks(
            databricks_conf={
                "existing_cluster_id": "0923-164208-meows279",
                "notebook_task": {
                    "notebook_path": "/Shared/clean",
                    "base_parameters": {"day": "{{.inputs.day}}"},
                },
            },
            databricks_token="DATABRICKS_KEY",
        ),
        inputs={"day": date},
        outputs={"result": str},
    )

**Class L: an unknown create is searched.** The attempt's token is the request's
``idempotency_token``, and stands at the end of the run's name. Databricks promises that
one run is launched with a token, but of what happens after the run's end its documents
speak in two ways: in one place a run "with the provided token", in another an *active*
run. A run may end before an answer is lost, so no time is surely safe, and by default
create is not repeated blindly: ``find`` lists the runs since the submission, and what
has the token in its name is adopted. Only if there is none is the request repeated,
with the same token, which then makes no second run of one that is listed late.

``remembers=timedelta(...)`` on the connector says that Databricks keeps tokens that
long, ended runs included: then a create is repeated at once (class I for that time).

The runs of an existing job (``run-now``) carry the job's name. They are found by a
parameter of the job that takes the token: ``token_parameter``. Without one, "nobody
has started the job since" is believed, and anything else stays unknown.

**Inputs** are texts in the body, ``{{.inputs.name}}``.

**Settings** are the constructor's. ``host`` names the workspace, or an emulator; a task
may name another one only if ``allowed_hosts`` has it. Nothing is read from
``~/.databrickscfg`` or, but for ``DATABRICKS_HOST``, from the environment.

``docs/connectors/databricks.md`` has the tables: states, errors, fields.
"""

from __future__ import annotations

from orchestrator.connectors.databricks._connector import DatabricksConnector
from orchestrator.connectors.databricks._meta import DatabricksMeta
from orchestrator.connectors.databricks._task import Databricks, DatabricksTask

__all__ = [
    "Databricks",
    "DatabricksConnector",
    "DatabricksMeta",
    "DatabricksTask",
]
