"""What the tests of the Snowflake connector share: tasks, calls and attempts."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator._codec import decode_values, encode_inputs, python_type_of
from orchestrator._ids import create_token
from orchestrator._tasks import to_template
from orchestrator.connectors.snowflake import (
    SnowflakeConfig,
    SnowflakeConnector,
    SnowflakeTask,
)
from orchestrator.io import DataFrame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flyteidl2.core.tasks_pb2 import TaskTemplate

    from orchestrator.connectors.snowflake import SnowflakeMeta
    from tests.emulators import Running

_numbers = itertools.count(1)


def config(**changes: Any) -> SnowflakeConfig:
    """Return the tests' account and session."""
    given = {
        "account": "shop-main",
        "database": "SHOP",
        "schema": "PUBLIC",
        "warehouse": "SMALL",
        "user": "RUNNER",
    }
    return SnowflakeConfig(**(given | changes))


def task(
    query: str = "SELECT 1 AS one",
    inputs: Mapping[str, Any] | None = None,
    *,
    place: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> SnowflakeTask:
    """Return a task in the tests' account."""
    kwargs.setdefault("output_dataframe_type", DataFrame)
    return SnowflakeTask("The Task", query, config(**(place or {})), inputs, **kwargs)


@dataclass
class Attempt:
    """One attempt at a task, as the engine would call it; its token is new."""

    template: TaskTemplate
    inputs: dict[str, Any] = field(default_factory=dict)
    token: str = ""

    def __post_init__(self) -> None:
        self.token = self.token or create_token(f"{next(_numbers):032x}", 1)

    async def create(
        self, connector: SnowflakeConnector, **secrets: Any
    ) -> SnowflakeMeta:
        """Call ``create`` of *connector*."""
        return await connector.create(
            self.template, "", self.inputs, idempotency_token=self.token, **secrets
        )

    async def find(
        self, connector: SnowflakeConnector, **secrets: str
    ) -> SnowflakeMeta | None:
        """Call ``find`` of *connector*."""
        return await connector.find(self.token, task_template=self.template, **secrets)


def attempt(
    query: str = "SELECT 1 AS one",
    inputs: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    **options: Any,
) -> Attempt:
    """Return an attempt at a new task, its values as another process reads them."""
    made = task(query, inputs, **options)
    template = to_template(made)
    proto = encode_inputs(made.interface, dict(values or {})).proto
    types = {
        entry.key: python_type_of(entry.value.type)
        for entry in template.interface.inputs.variables
    }
    return Attempt(template, decode_values(types, proto))


def tell(service: Running, path: str, body: Any) -> None:
    """Use one of the stand-in's own routes."""
    request = Request(f"{service.url}{path}", json.dumps(body).encode(), method="PUT")  # noqa: S310 - http on this machine
    with urlopen(request, timeout=10):  # noqa: S310 - as above
        pass


def pem(passphrase: str = "") -> str:
    """Return a new private key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind: Any = serialization.NoEncryption()
    if passphrase:
        kind = serialization.BestAvailableEncryption(passphrase.encode())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, kind).decode()
