"""One service of each mode for the tests that only read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from tests.flyte.cases import API_KEY
from tests.flyte.support import Running, service

if TYPE_CHECKING:
    from collections.abc import Iterator


# gRPC's own thread starts before the tests, and ends with the process: without this the
# last channel of each test would stop gRPC as a whole, and leave a socket behind.
grpc.aio.init_grpc_aio()  # type: ignore[attr-defined, unused-ignore]


@pytest.fixture(scope="package")
def direct() -> Iterator[Running]:
    """A pass-through service."""
    with service("--prometheus-port", "0") as running:
        yield running


@pytest.fixture(scope="package")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A durable service."""
    database = str(tmp_path_factory.mktemp("durable") / "service.db")
    with service("--durable", "--database", database, API_KEY=API_KEY) as running:
        yield running
