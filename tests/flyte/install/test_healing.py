"""Known faults of connectors for Flyte, each shown by one that has it, and healed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flyte.connectors import ConnectorRegistry, Resource
from flyte.connectors._connector import ConnectorSecretsMixin
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator import Cause, Phase
from orchestrator.flyte._adapter import FlyteConnector
from tests.flyte.install.kit import CountConnector, CountMeta, CountTask, engine

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.flyte._installation import Installation

META = CountMeta(start=1)


@pytest.mark.parametrize("state", ["QUEUED", "BLOCKED", "SOMETHING_NEW"])
async def test_a_state_that_flytes_mapping_raises_for_is_no_error(
    state: str, installation: Installation, tmp_path: Path
) -> None:
    """The job is polled on without spending the poll budget, and succeeds."""
    connector = CountConnector(state, "success")
    with pytest.raises(ValueError, match="Unrecognized state"):
        await connector.get(META)
    connector.states = [state, "success"]
    ConnectorRegistry.register(connector)
    async with engine(tmp_path, installation.registry) as orch:
        handle = await orch.submit(CountTask(), {"start": 1})
        execution = await handle.wait(30)
        causes = [row.cause for row in await orch.history(handle.id)]
    assert execution.phase is Phase.SUCCEEDED
    assert Cause.ERRORS_BEGAN not in causes
    assert len(connector.seen.of("get")) == 3


async def test_an_unknown_state_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And is no news, whatever the connector said before."""
    adapter = FlyteConnector(CountConnector("NEVER_HEARD_OF"))
    for _ in range(3):
        found = await adapter.get(META)
        assert found.phase == TaskExecution.UNDEFINED
    assert caplog.text.count("never_heard_of") == 1


async def test_another_value_error_stays_one() -> None:
    """Only the mapping's own words are taken for a state."""

    class Wrong(CountConnector):
        async def get(self, resource_meta: CountMeta, **kwargs: Any) -> Resource:
            raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        await FlyteConnector(Wrong()).get(META)


async def test_retryable_failed_ends_the_attempt(
    installation: Installation, tmp_path: Path
) -> None:
    """Flyte's local loop never leaves this phase; here a retry is spent on it."""
    connector = CountConnector("internal_error", "success")
    ConnectorRegistry.register(connector)
    async with engine(tmp_path, installation.registry) as orch:
        handle = await orch.submit(CountTask(retries=1), {"start": 1})
        execution = await handle.wait(30)
    assert (execution.phase, execution.attempt) == (Phase.SUCCEEDED, 2)
    assert len(connector.seen.of("create")) == 2


class Narrow(CountConnector):
    """Takes nothing that it does not name."""

    async def create(self, task_template: Any, inputs: Any) -> CountMeta:  # type: ignore[override]
        return CountMeta(1)

    async def get(self, resource_meta: CountMeta) -> Resource:  # type: ignore[override]
        return Resource(phase=TaskExecution.SUCCEEDED)

    async def delete(self, resource_meta: CountMeta) -> None:  # type: ignore[override]
        """Do nothing."""


class Demanding(CountConnector):
    """Reads the execution's metadata, which Flyte's local run does not pass."""

    create_is_idempotent = True

    async def create(  # type: ignore[override]
        self, *, task_execution_metadata: Any, idempotency_token: str, **kwargs: Any
    ) -> CountMeta:
        token = task_execution_metadata.labels["orchestrator-token"]
        assert token == idempotency_token
        return CountMeta(start=41, where=token)


@pytest.mark.parametrize("kind", [Narrow, Demanding])
async def test_methods_get_what_they_take(
    kind: type[CountConnector], installation: Installation, tmp_path: Path
) -> None:
    """Neither more than a narrow signature has, nor less than a demanding one asks."""
    ConnectorRegistry.register(kind())
    async with engine(tmp_path, installation.registry) as orch:
        execution = await (await orch.submit(CountTask(), {"start": 1})).wait(30)
    assert execution.phase is Phase.SUCCEEDED


def test_optional_members_of_ours_count_on_flytes_connectors() -> None:
    """Such as a class that says how its ``create`` is idempotent."""
    adapter = FlyteConnector(Demanding())
    assert adapter.create_is_idempotent is True
    assert adapter.runs_in == "thread"


class WithSecrets(ConnectorSecretsMixin, CountConnector):
    """Has a secret of its own, by Flyte's mixin."""

    def __init__(self) -> None:
        CountConnector.__init__(self)
        ConnectorSecretsMixin.__init__(self, {"api_key": "COUNT_API_KEY"})


async def test_secrets_of_flytes_mixin_reach_the_calls(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By keyword, from the environment, and never into the database."""
    monkeypatch.setenv("COUNT_API_KEY", "correct-horse-battery")
    connector = WithSecrets()
    ConnectorRegistry.register(connector)
    async with engine(tmp_path, installation.registry) as orch:
        await (await orch.submit(CountTask(), {"start": 1})).result(30)
    for method in ("create", "get"):
        assert connector.seen.of(method)[0]["api_key"] == "correct-horse-battery"
    files = list(tmp_path.iterdir())  # noqa: ASYNC240 - the engine is closed
    stored = b"".join(path.read_bytes() for path in files)
    assert b"correct-horse" not in stored


class Cancellable(CountConnector):
    """Ends when it is told to."""

    async def delete(self, resource_meta: CountMeta, **kwargs: Any) -> None:
        await super().delete(resource_meta, **kwargs)
        self.states = ["cancelled"]


async def test_delete_reaches_flytes_connector(
    installation: Installation, tmp_path: Path
) -> None:
    """An abort is a delete, and is confirmed by ``get``."""
    connector = Cancellable("running")
    ConnectorRegistry.register(connector)
    async with engine(tmp_path, installation.registry) as orch:
        handle = await orch.submit(CountTask(), {"start": 1})
        while not connector.seen.of("get"):
            await orch.wake(handle.id)
        await handle.abort("enough")
        execution = await handle.wait(30)
    assert execution.phase is Phase.ABORTED
    assert connector.seen.of("delete")
