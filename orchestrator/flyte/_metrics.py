"""Prometheus metrics of a connector service, under Flyte's names."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    from prometheus_client import CollectorRegistry

_PREFIX = "flyte_connector_"


class Metrics:
    """Counts nothing: what a service has without a Prometheus port."""

    @contextmanager
    def timed(self, _task_type: str, _operation: str) -> Iterator[None]:
        """Measure how long the block takes."""
        yield

    def succeeded(self, task_type: str, operation: str) -> None:
        """Count a request that was answered."""

    def failed(self, task_type: str, operation: str, code: grpc.StatusCode) -> None:
        """Count a request that was not."""

    def inputs(self, task_type: str, size: int) -> None:
        """Count the bytes of a request's inputs."""


class PrometheusMetrics(Metrics):
    """Flyte's metrics, in a registry of their own: the real package may be loaded."""

    def __init__(self) -> None:
        """Make the metrics."""
        from prometheus_client import (  # noqa: PLC0415 - an extra
            CollectorRegistry,
            Counter,
            Summary,
        )

        self.registry: CollectorRegistry = CollectorRegistry()
        labels = ["task_type", "operation"]
        self._succeeded = Counter(
            f"{_PREFIX}requests_success_total",
            "Total number of successful requests",
            labels,
            registry=self.registry,
        )
        self._failed = Counter(
            f"{_PREFIX}requests_failure_total",
            "Total number of failed requests",
            [*labels, "error_code"],
            registry=self.registry,
        )
        self._latency = Summary(
            f"{_PREFIX}request_latency_seconds",
            "Time spent processing connector request",
            labels,
            registry=self.registry,
        )
        self._inputs = Summary(
            f"{_PREFIX}input_literal_bytes",
            "Size of input literal",
            ["task_type"],
            registry=self.registry,
        )

    @contextmanager
    def timed(self, task_type: str, operation: str) -> Iterator[None]:
        """Measure how long the block takes."""
        with self._latency.labels(task_type, operation).time():
            yield

    def succeeded(self, task_type: str, operation: str) -> None:
        """Count a request that was answered."""
        self._succeeded.labels(task_type, operation).inc()

    def failed(self, task_type: str, operation: str, code: grpc.StatusCode) -> None:
        """Count a request that was not, by Flyte's HTTP codes."""
        missing = code.name == "NOT_FOUND"
        shown = HTTPStatus.NOT_FOUND if missing else HTTPStatus.INTERNAL_SERVER_ERROR
        self._failed.labels(task_type, operation, str(shown)).inc()

    def inputs(self, task_type: str, size: int) -> None:
        """Count the bytes of a request's inputs."""
        self._inputs.labels(task_type).observe(size)


class MetricsPage:
    """The page that Prometheus reads, served by a thread."""

    def __init__(self, metrics: PrometheusMetrics, host: str, port: int) -> None:
        """Serve *metrics*; nothing listens yet."""
        self._metrics, self._where = metrics, (host, port)
        self._server: Any = None
        self._thread: Any = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_port)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        from prometheus_client import start_http_server  # noqa: PLC0415 - an extra

        host, port = self._where
        self._server, self._thread = await asyncio.to_thread(
            start_http_server, port, host, self._metrics.registry
        )

    async def stop(self) -> None:
        """Close the port, and let the thread end."""
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
            await asyncio.to_thread(self._thread.join)
