"""Two stand-ins, each in a process of its own, that every test finds empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx  # noqa: F401 - an import on the event loop would block it
import pytest

from tests.connectors.http.api import Api, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def apis() -> Iterator[tuple[Api, Api]]:
    """Start both once: a process takes longer than a test."""
    with running_api() as one, running_api() as two:
        yield one, two


@pytest.fixture
def api(apis: tuple[Api, Api]) -> Api:
    """Return an empty stand-in."""
    apis[0].reset()
    return apis[0]


@pytest.fixture
def other(apis: tuple[Api, Api]) -> Api:
    """Return a second host, which is to see no credentials."""
    apis[1].reset()
    return apis[1]
