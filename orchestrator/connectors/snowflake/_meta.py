"""SnowflakeMeta: all that the database knows of a query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator._connector import ResourceMeta


@dataclass
class SnowflakeMeta(ResourceMeta):
    """The handle of a query; where it ran is what is needed to ask about it.

    Attributes:
        query_id: Snowflake's id.
        account: Account identifier.
        user: Who ran it.
        database: Database of its session.
        schema: Schema of its session.
        warehouse: Warehouse that it ran on.
        connection_kwargs: Role and parameters of its session; nothing secret.
        endpoint: The connector's ``endpoint`` that it was sent to; "" for Snowflake's.
        outputs: Names of the declared outputs.
    """

    query_id: str
    account: str
    user: str
    database: str
    schema: str
    warehouse: str
    connection_kwargs: dict[str, Any] = field(default_factory=dict)
    endpoint: str = ""
    outputs: list[str] = field(default_factory=list)
