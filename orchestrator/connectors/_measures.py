"""Measured: what a job has cost and how far it is, as Flyte's metrics.

The numbers of ``custom_info`` and those that a metric of the same name tells are one
thing, looked up in one place: what ``get`` says now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from flyteidl2.connector.connector_pb2 import GetTaskMetricsResponse
from flyteidl2.core.metrics_pb2 import ExecutionMetricResult

from orchestrator._connector import AsyncConnector, ResourceMeta
from orchestrator._registry import accepted

if TYPE_CHECKING:
    from collections.abc import Iterator

M = TypeVar("M", bound=ResourceMeta)

METRICS_MAX = 1_000
"""Metrics of one answer; of more the first are kept."""


class Measured(AsyncConnector[M]):
    """Gives a connector ``get_metrics``: the numbers of its ``custom_info``."""

    not_measured: ClassVar[frozenset[str]] = frozenset()
    """Numbers of ``custom_info`` that are names and measure nothing: ids, codes."""

    async def get_metrics(
        self, resource_meta: M, **kwargs: Any
    ) -> GetTaskMetricsResponse:
        """Return every number of the job's ``custom_info``, as of now.

        Each is one result: ``metric`` is its name, with dots between the levels, and
        ``data`` is ``{"value": number}``. Units stand in the names. A job that tells
        no number yet has no metrics.

        Raises:
            ConnectorError: What ``get`` raises.
        """
        given = {**kwargs, "resource_meta": resource_meta}
        resource = await self.get(**accepted(self.get, given))
        response = GetTaskMetricsResponse()
        for name, number in _numbers(resource.custom_info or {}, self.not_measured):
            if len(response.results) == METRICS_MAX:
                break
            result = ExecutionMetricResult(metric=name)
            result.data.update({"value": number})
            response.results.append(result)
        return response


def _numbers(
    info: Mapping[str, Any], hidden: frozenset[str], prefix: str = ""
) -> Iterator[tuple[str, float]]:
    for name, value in info.items():
        if name in hidden:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, hidden, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
