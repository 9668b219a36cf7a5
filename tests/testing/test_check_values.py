"""check_connector names what is wrong with states, handles, secrets, and the loop."""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import os
import threading
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors import ConnectorSecretsMixin, Resource
from orchestrator.testing import Outcome
from tests.jobserver.connectors import (
    JobMeta,
    JobServerI,
    JobServerL,
)
from tests.testing.conftest import failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator.testing import Report
    from tests.jobserver.client import JobClient

    Check = Callable[..., Awaitable[Report]]


BLOCK_S = 0.12


# States


class OddAtFirst(JobServerI):
    _first = True

    async def get(self, resource_meta: JobMeta, **kwargs: Any) -> Resource:
        resource = await super().get(resource_meta)
        if self._first:
            self._first = False
            return Resource(phase=99)  # type: ignore[arg-type] # the fault
        return resource


async def test_a_get_that_answers_no_phase(check: Check, client: JobClient) -> None:
    """The engine takes it for no news; the report names the number."""
    report = await check(OddAtFirst(client))
    assert failed(report) == {"states"}
    assert "99" in report["states"].seen


MAPPED: dict[Any, Any] = {
    "DONE": TaskExecution.SUCCEEDED,
    "SKIPPED": TaskExecution.UNDEFINED,
    "NEW": 77,
}


async def _raises() -> Resource:
    raise ValueError("no such state")


@pytest.mark.parametrize("state", ["SKIPPED", "NEW", "EXPIRED", _raises])
async def test_a_state_of_the_vendor_without_a_phase(
    check: Check, client: JobClient, state: Any
) -> None:
    """No news for ever, a number that is none, or an exception."""
    states = ["DONE", lambda: TaskExecution.FAILED, state]
    report = await check(
        JobServerI(client), states=states, map_state=MAPPED.__getitem__
    )
    assert failed(report) == {"states"}
    assert getattr(state, "__name__", state) in report["states"].seen


async def test_states_without_a_mapping_are_refused(
    check: Check, client: JobClient
) -> None:
    """A name alone maps nothing."""
    report = await check(JobServerI(client), states=["DONE"])
    assert "map_state" in report["states"].advice


# Handles


@dataclass
class LooseMeta(JobMeta):
    zone: Any = ()


@dataclass
class NewMeta(JobMeta):
    schema_version = 2


@dataclass
class OldMeta(JobMeta):
    schema_version = 0


def with_meta(kind: type[JobMeta], **fields: Any) -> type[JobServerI]:
    """Return a connector whose handles are of *kind*."""

    class Own(JobServerI):
        metadata_type = kind

        async def create(self, *args: Any, **kwargs: Any) -> JobMeta:
            meta = await super().create(*args, **kwargs)
            return kind(meta.job_id, meta.token, **fields)

    return Own


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (with_meta(LooseMeta, zone=("a", "b")), "zone"),
        (with_meta(NewMeta), "upcast"),
        (with_meta(OldMeta), "schema_version"),
    ],
)
async def test_a_handle_that_does_not_come_back(
    check: Check, client: JobClient, kind: Any, named: str
) -> None:
    """A field that JSON changes, a layout without a way to it, no version."""
    report = await check(kind(client))
    assert failed(report) == {"metas"}
    assert named in report["metas"].seen


class OneKey(JobServerI):
    def job_key(self, resource_meta: JobMeta) -> str:
        return "the job"


_numbers = itertools.count()


class CountingKey(JobServerI):
    def job_key(self, resource_meta: JobMeta) -> str:
        return f"{resource_meta.job_id}.{next(_numbers)}"


async def test_job_keys_that_tell_nothing(check: Check, client: JobClient) -> None:
    """One key for all jobs, or another at every look."""
    assert failed(await check(OneKey(client))) == {"job_key"}
    assert "metas" in failed(await check(CountingKey(client)))


# Secrets

SECRET = "correct horse/battery+staple"  # noqa: S105 - the canary of these tests


class Leaky(ConnectorSecretsMixin, JobServerI):
    """Takes a secret and keeps it to itself; see its subclasses."""

    def __init__(self, client: JobClient) -> None:
        super().__init__({"api_key": "LEAKY_API_KEY"}, client=client)

    async def create(self, *args: Any, api_key: str = "", **kwargs: Any) -> JobMeta:
        meta = await super().create(*args, **kwargs)
        return self.told(meta, api_key)

    def told(self, meta: JobMeta, api_key: str) -> JobMeta:
        return meta


class LeakyHandle(Leaky):
    def told(self, meta: JobMeta, api_key: str) -> JobMeta:
        return JobMeta(meta.job_id, f"{meta.token}?key={quote(api_key)}")


class LeakyLog(Leaky):
    def told(self, meta: JobMeta, api_key: str) -> JobMeta:
        basic = base64.b64encode(f"user:{api_key}".encode()).decode()
        # As in a thread of a client's own: in a call the engine would redact it.
        log = logging.getLogger("leaky.client").debug
        Context().run(log, "Authorization: Basic %s", basic)
        return meta


class LeakyOutputs(Leaky):
    async def get(
        self, resource_meta: JobMeta, api_key: str = "", **kwargs: Any
    ) -> Resource:
        resource = await super().get(resource_meta)
        if resource.outputs:
            resource.outputs = {"job_id": api_key, "token": resource_meta.token}
        return resource


class LeakyMessage(Leaky):
    """Quotes it where the engine redacts."""

    async def get(
        self, resource_meta: JobMeta, api_key: str = "", **kwargs: Any
    ) -> Resource:
        resource = await super().get(resource_meta)
        resource.message = f"authorized by {api_key}"
        return resource


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (Leaky, None),
        (LeakyMessage, None),
        (LeakyHandle, "execution.meta"),
        (LeakyLog, "leaky.client"),
        (LeakyOutputs, "execution.outputs"),
    ],
)
async def test_a_secret_is_found_wherever_it_stays(
    check: Check, client: JobClient, kind: Any, place: str | None
) -> None:
    """In rows and logs, encoded too; the report tells where, and never the value."""
    report = await check(kind(client))
    assert failed(report) == (set() if place is None else {"secrets"})
    assert (place or "") in report["secrets"].seen
    assert "canary" not in str(report)
    assert "LEAKY_API_KEY" not in os.environ
    if place is None:
        assert report["secrets"].outcome is Outcome.OK


async def test_a_real_secret_is_kept_and_searched_for(
    check: Check, client: JobClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox wants the real one: what the environment has is not replaced."""
    monkeypatch.setenv("LEAKY_API_KEY", SECRET)
    report = await check(LeakyHandle(client))
    assert failed(report) == {"secrets"}
    assert SECRET not in str(report)
    assert os.environ["LEAKY_API_KEY"] == SECRET


# The loop


def blocking(kind: type[Any], method: str, *, inside: bool) -> type[Any]:
    """Return a connector of which one method blocks, or a task that it starts."""
    wait = threading.Event().wait

    async def block() -> None:
        wait(BLOCK_S)

    async def blocks(self: Any, *args: Any, **kwargs: Any) -> Any:
        await (block() if inside else asyncio.create_task(block()))
        return await getattr(super(own, self), method)(*args, **kwargs)

    own = type(f"Blocks_{method}", (kind,), {method: blocks})
    return own


@pytest.mark.may_block
@pytest.mark.parametrize("method", ["create", "get", "delete", "find"])
async def test_a_method_that_blocks_is_named(
    check: Check, client: JobClient, method: str
) -> None:
    """Itself, or by a task; the other three are not blamed."""
    inside = method in ("create", "find")
    report = await check(blocking(JobServerL, method, inside=inside)(client))
    assert failed(report) == {"loop"}
    seen = report["loop"].seen
    assert [m for m in ("create", "get", "delete", "find") if m in seen] == [method]
