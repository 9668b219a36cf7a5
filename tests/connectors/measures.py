"""What a connector's get_metrics says, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator._connector import AsyncConnector


async def measured(
    connector: AsyncConnector[Any], meta: Any, **secrets: Any
) -> dict[str, float]:
    """Return the values of a job's metrics."""
    said = await connector.get_metrics(meta, **secrets)
    return {
        result.metric: result.data.fields["value"].number_value
        for result in said.results
    }
