"""What a Snowflake query tells, as a Resource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator._connector import Resource
from orchestrator.connectors.snowflake._states import STATES, phase_of
from orchestrator.connectors.utils import redacted
from orchestrator.io import DataFrame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.connectors.snowflake._meta import SnowflakeMeta


@dataclass(frozen=True)
class Status:
    """How a query does.

    Attributes:
        name: Snowflake's word.
        code: Error code of one that failed.
        message: Error text of one that failed.
    """

    name: str
    code: int | None = None
    message: str = ""

    @classmethod
    def of_history(cls, told: Mapping[str, Any]) -> Status:
        """Return what a row of the query history says."""
        code = str(told.get("error_code", ""))
        return cls(
            name=str(told.get("execution_status", "")).upper(),
            code=int(code) if code.isdecimal() else None,
            message=str(told.get("error_message", "")),
        )

    @property
    def phase(self) -> TaskExecution.Phase:
        """What it means."""
        return phase_of(self.name, self.code)


def report(status: Status, meta: SnowflakeMeta, told: Mapping[str, Any]) -> Resource:
    """Return phase, message, link, statistics and, at the end, the results."""
    phase = status.phase
    outputs = None
    if phase == TaskExecution.SUCCEEDED and "results" in meta.outputs:
        outputs = {"results": DataFrame(uri=uri_of(meta))}
    message = STATES.words(status.name)
    if status.message:
        message = redacted(f"{message}: {status.message}")
    info = {
        "query_id": meta.query_id,
        "warehouse_name": meta.warehouse,
        **told,
        "status": status.name,
        "error_code": status.code,
        "error_message": redacted(status.message) or None,
    }
    info.pop("execution_status", None)
    return Resource(
        phase=phase,
        message=message,
        log_links=[console_link(meta)],
        outputs=outputs,
        custom_info={name: value for name, value in info.items() if value is not None},
    )


def console_link(meta: SnowflakeMeta) -> TaskLog:
    """Return the link to the query's page in Snowsight."""
    account, _, region = meta.account.partition(".")
    organization, dash, name = account.partition("-")
    if region:
        where = f"{region}/{account}"
    else:
        where = f"{organization}/{name}" if dash else account
    uri = (
        f"https://app.snowflake.com/{quote(where)}"
        f"/#/compute/history/queries/{quote(meta.query_id)}/detail"
    )
    link_type = TaskLog.DASHBOARD
    return TaskLog(uri=uri, name="Snowflake Console", ready=True, link_type=link_type)


def uri_of(meta: SnowflakeMeta) -> str:
    """Return the reference to the query's result, as Flyte writes it."""
    parts = (meta.user, meta.account, meta.warehouse, meta.database, meta.schema)
    return "snowflake://" + "/".join(
        quote(part, safe="@") for part in (*parts, meta.query_id)
    )
