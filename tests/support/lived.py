"""A database with a life behind it, made by a real engine on a virtual clock."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from orchestrator import Orchestrator, Policy, Timeout
from orchestrator._ids import Ids
from orchestrator.errors import TransientError
from tests.engine.kit import (
    CONFIG,
    DONE,
    FAILED,
    KILLED,
    RETRYABLE,
    RUNNING,
    Clock,
    Gate,
    Meta,
    Script,
    a_task,
    registry_of,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

CUT = ConnectionError("the connection was cut")
_TIMEOUT = Timeout(max_runtime=timedelta(seconds=30))


async def live(path: Path) -> dict[str, str]:
    """Fill the empty database at *path*; return what each execution's id is.

    The names are the task types: ``succeeded``, ``failed``, ``aborted``, ``retried``
    (its first job failed), ``timed_out`` (its first job was deleted), ``adopted`` and
    ``replayed`` (after a create that was cut off), ``unknown``, ``late`` (ended as
    unknown, then its job became known and was deleted), ``owing`` (the same, and the
    delete fails), ``attached`` (a job that was created elsewhere), ``queued``,
    ``running``, and ``creating``: its create is open when the process is killed.
    """
    return await _Life(path).live()


class _Life:
    def __init__(self, path: Path) -> None:
        self._clock = Clock()
        self._late, self._owing, self._open = (
            Gate(Meta("late-job")),
            Gate(Meta("owing-job")),
            Gate(),
        )
        late: dict[str, Any] = {"on_unknown_create": "hold", "get": RUNNING}
        scripts: dict[str, dict[str, Any]] = {
            "succeeded": {},
            "failed": {"get": [RUNNING, FAILED]},
            "aborted": {"get": [RUNNING, KILLED]},
            "retried": {"get": [RETRYABLE, RUNNING, DONE]},
            "timed_out": {"get": RUNNING, "delete_is_final": True},
            "adopted": {"create": CUT, "find": Meta("found-job")},
            "replayed": {"create": [CUT, None], "create_is_idempotent": True},
            "unknown": {"create": CUT},
            "late": late | {"create": self._late.answer(), "delete_is_final": True},
            "owing": late
            | {"create": self._owing.answer(), "delete": TransientError("busy")},
            "attached": {},
            "queued": {},
            "running": {"get": RUNNING},
            "creating": {"create": self._open.answer()},
        }
        policy = Policy(jitter=0.0)
        connectors = [
            Script(name, **{"policy": policy, **answers})
            for name, answers in scripts.items()
        ]
        rng = Random(1)
        self._orchestrator = Orchestrator(
            path,
            config=CONFIG,
            registry=registry_of(*connectors),
            clock=self._clock,
            rng=rng,
            ids=Ids(self._clock, rng),
        )
        self._ids: dict[str, str] = {}

    async def live(self) -> dict[str, str]:
        await self._orchestrator.open()
        try:
            await self._play()
        finally:
            await self._orchestrator.crash()
        return self._ids

    async def _submit(self, name: str, fields: Any = None, **options: Any) -> str:
        task = a_task(name, name, **(fields or {}))
        handle = await self._orchestrator.submit(task, **options)
        self._ids[name] = handle.id
        return handle.id

    async def _end(self, *names: str) -> None:
        for name in names:
            await self._clock.until_ended(self._orchestrator, self._ids[name])

    async def _play(self) -> None:
        await self._submit("succeeded", idempotency_key="once")
        for name in ("failed", "adopted", "replayed", "unknown"):
            await self._submit(name)
        await self._submit("retried", {"retries": 1})
        await self._submit("timed_out", {"retries": 1, "timeout": _TIMEOUT})
        aborted = await self._submit("aborted")
        attached = a_task("attached", "attached")
        handle = await self._orchestrator.attach(attached, Meta("their-job"))
        self._ids["attached"] = handle.id
        await self._clock.settle(self._orchestrator)
        await self._orchestrator.abort(aborted, reason="enough")
        await self._end(*self._ids)
        await self._learn_late("late", self._late, "DONE")
        await self._learn_late("owing", self._owing, "DUE")
        start_at = timedelta(days=9)
        moment = (await self._orchestrator.get(aborted)).submitted_at + start_at
        await self._submit("queued", start_at=moment)
        await self._submit("running")
        await self._clock.settle(self._orchestrator)
        await self._submit("creating")
        await self._open.wait()

    async def _learn_late(self, name: str, gate: Gate, cleanup: str) -> None:
        """Let a create answer after its execution was given up."""
        execution_id = await self._submit(name)
        await gate.wait()
        self._clock.advance(60)
        await self._clock.settle(self._orchestrator)
        await self._orchestrator.resolve(execution_id, give_up=True)
        await self._end(name)
        gate.opened.set()

        async def tried() -> bool:
            jobs = await self._orchestrator.jobs(execution_id)
            return any(j.cleanup == cleanup and j.cleanup_tries for j in jobs)

        await until(tried)
