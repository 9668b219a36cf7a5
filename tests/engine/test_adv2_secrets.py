"""Secrets under load, and at the edges of texts."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._clock import SystemClock
from orchestrator._config import Config
from orchestrator._secrets import Redactor
from orchestrator._secrets._redaction import VALUES_MAX
from orchestrator.connectors import ConnectorSecretsMixin
from tests.engine.kit import DONE, Clock, Script, a_task, registry_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator, SecretReference

    Start = Callable[..., Awaitable[Orchestrator]]

pytestmark = pytest.mark.may_block

CANARY = "c4nary-s3cret-value-0123456789"


class _WithSecret(ConnectorSecretsMixin, Script):
    def __init__(self, task_type: str = "script", **answers: Any) -> None:
        super().__init__(
            secrets={"api_key": "CANARY_VARIABLE"}, task_type=task_type, **answers
        )


def test_a_provider_of_short_lived_tokens_does_not_slow_the_engine_down() -> None:
    """A fresh token for each call, as a vault gives: call 300 is as quick as call 1."""
    redactor = Redactor()
    began = time.perf_counter()
    for number in range(300):
        redactor.register({"token": f"eyJ-{number:06}-s3cret/value+of={number:09}"})
    assert time.perf_counter() - began < 15


async def test_a_provider_that_hangs_delays_no_row_that_does_not_need_it(
    engine: Start,
) -> None:
    """README: in a thread of its own. A get in asyncio.to_thread goes on."""
    over, asked = threading.Event(), threading.Event()
    waiting: list[None] = []

    def hangs(_: SecretReference) -> str | None:
        waiting.append(None)
        if len(waiting) >= 6:
            asked.set()
        over.wait(30)
        return None

    async def get(**_: Any) -> Any:
        return await asyncio.to_thread(lambda: DONE)

    stuck, good = _WithSecret("stuck"), Script("good", get=get)
    try:
        orchestrator = await engine(
            registry=registry_of(stuck, good),
            secrets=[hangs],
            clock=SystemClock(),
            config=Config(),
        )
        await orchestrator.submit_many(
            [(a_task(task_type="stuck"), {}) for _ in range(40)]
        )
        await asyncio.to_thread(asked.wait, 10)
        handle = await orchestrator.submit(a_task(task_type="good"))
        ended = await handle.wait(timeout=6)
        assert ended.phase == "SUCCEEDED"
    finally:
        over.set()


@pytest.mark.parametrize("shown", [5, 15, 25])
async def test_no_part_of_a_secret_stays_where_a_text_is_cut(
    engine: Start, clock: Clock, monkeypatch: pytest.MonkeyPatch, shown: int
) -> None:
    """A terminal's colours inside of the value are removed; then it is cut in two."""
    monkeypatch.setenv("CANARY_VARIABLE", CANARY)
    kind = "ValueError: "
    cut = len(" … [shortened]")
    quoted = f"{CANARY[:-1]}\x1b[0m{CANARY[-1]}"
    text = "x" * (4000 - cut - len(kind) - shown) + quoted + " tail" * 20
    script = _WithSecret(get=[ValueError(text), ValueError(text), DONE])
    orchestrator = await engine(script)
    handle = await orchestrator.submit(a_task())
    await clock.pass_(1, orchestrator)
    said = (await handle.get()).last_error or ""
    assert "xxx" in said
    assert CANARY[:5] not in said


def test_a_large_secret_does_not_stop_the_loop() -> None:
    """A bundle of certificates; a file may have 1 MiB, and a lease ends after 60 s."""
    redactor = Redactor()
    began = time.perf_counter()
    redactor.register({"bundle": "".join(f"line-{n}/{n * n}+=\n" for n in range(6000))})
    assert time.perf_counter() - began < 3


def test_many_values_are_known_the_oldest_unused_are_not() -> None:
    """Whatever group a value is in; one that is part of another hides no less."""
    redactor = Redactor()
    redactor.register({"static": "static-s3cret"})
    made = [f"tok{number:05}" for number in range(2000)]
    for value in made:
        redactor.register({"static": "static-s3cret", "token": value})
    assert (
        redactor.redact(f"a static-s3cret {made[-1]} {made[-400]}") == "a *** *** ***"
    )
    assert len(redactor._values) <= VALUES_MAX
    redactor.register({"long": f"{made[-1]}-and-more"})
    redactor.register({"tail": "d-more-and"})
    assert redactor.redact(f"{made[-1]}-and-more-and!") == "***!"
