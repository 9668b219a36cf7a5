"""Snowflake: SnowflakeConnector and SnowflakeTask, for queries as durable jobs.

Needs the extra: ``pip install '/path/to/checkout[snowflake]'``. ::

    from orchestrator.connectors import ConnectorRegistry
    from orchestrator.connectors.snowflake import (
        SnowflakeConfig, SnowflakeConnector, SnowflakeTask, read,
    )
    from orchestrator.io import DataFrame

    ConnectorRegistry.register(SnowflakeConnector())
    count = SnowflakeTask(
        "count_events",
        query_template="SELECT COUNT(*) AS n FROM events WHERE day = %(day)s",
        plugin_config=SnowflakeConfig(
            account="myorg-myaccount", user="RUNNER", database="SHOP",
            schema="PUBLIC", warehouse="SMALL",
        ),
        inputs={"day": date},
        output_dataframe_type=DataFrame,
        snowflake_private_key="SNOWFLAKE_KEY",
    )
    # After the execution:
    # read(outputs["results"], "pandas", snowflake_private_key=...)

**Class L: jobs can be found.** Every query carries the attempt's token as its
``QUERY_TAG``. After a ``create`` whose outcome is unknown the query history is searched
for it (``INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER``); what is found is adopted, and
only if nothing is there two minutes later the query is submitted again. A history
with more than 10,000 newer queries of the user proves nothing: that is not "none".

It is not class I: Snowflake does not run a request id twice, but no public parameter of
its client lets a caller choose that id, and nothing says how long it is remembered.

**Inputs** are the client's own parameters, ``%(name)s``: its quoting, never ours.

**Sessions** are the connector's own: never one for two calls at once, replaced when
they break, and left to the service when closed, so that no query dies with one.

**Settings** are the constructor's. ``endpoint`` names an emulator.

``docs/connectors/snowflake.md`` has the tables: states, errors, secrets.
"""

from __future__ import annotations

from orchestrator.connectors.snowflake._connector import SnowflakeConnector
from orchestrator.connectors.snowflake._meta import SnowflakeMeta
from orchestrator.connectors.snowflake._read import read
from orchestrator.connectors.snowflake._task import SnowflakeConfig, SnowflakeTask

__all__ = [
    "SnowflakeConfig",
    "SnowflakeConnector",
    "SnowflakeMeta",
    "SnowflakeTask",
    "read",
]
