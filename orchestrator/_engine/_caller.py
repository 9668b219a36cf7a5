"""The caller: every call of a connector goes through it, whoever asks for it.

A call runs where its connector runs, has a time limit, and its secrets are known to
the redaction until it is over. Texts are redacted and cleaned here, before anything is
stored, logged or handed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator._engine._guard import Guard
from orchestrator._engine._lanes import Lanes
from orchestrator._engine._outcomes import Raised, TimedOut
from orchestrator._engine._text import MESSAGE_MAX, clean, describe
from orchestrator._secrets import Use
from orchestrator.errors import CallTimeoutError, ConnectorError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from datetime import timedelta

    from orchestrator._clock import Clock
    from orchestrator._connector import AsyncConnector
    from orchestrator._engine._guard import Answer
    from orchestrator._engine._turns import Method
    from orchestrator._secrets import Redactor, SecretReference, Secrets


class Caller:
    """Calls connectors.

    Attributes:
        lanes: Where each connector runs.
        redactor: Knows the secrets that calls were given.
    """

    def __init__(self, clock: Clock, redactor: Redactor, sources: Secrets) -> None:
        """Limit calls by *clock*; look secrets up in *sources*."""
        self.lanes = Lanes(clock)
        self.redactor = redactor
        self._guard = Guard(clock, self.lanes)
        self._sources = sources

    async def secrets(
        self, references: Mapping[str, SecretReference]
    ) -> dict[str, str]:
        """Return the value of each secret, by keyword; they are redacted from now on.

        Raises:
            SecretNotFoundError: One has no value.
        """
        values = await self._sources.resolve(references)
        self.redactor.register(values)
        return values

    def start(
        self,
        connector: AsyncConnector[Any],
        method: Method,
        kwargs: dict[str, Any],
        limit_s: float,
        *,
        secrets: Mapping[str, str],
        cancel: bool = True,
    ) -> Answer:
        """Start a call; await the value, or `Raised`, or `TimedOut`.

        Args:
            connector: Whose call it is: it runs where the connector does.
            method: The connector's.
            kwargs: What it takes.
            limit_s: Seconds until it counts as timed out; see `Guard.call`.
            secrets: Those among *kwargs*, and others that its texts may quote.
            cancel: Whether a call that timed out is cancelled; else it goes on.
        """
        use = Use(self.redactor, secrets.values())
        with use:
            lane = self.lanes.of(connector)
            answer = self._guard.call(lane, method, kwargs, limit_s, cancel=cancel)
        answer.task.add_done_callback(use.end)
        return answer

    async def ask(
        self,
        connector: AsyncConnector[Any],
        method: Method,
        kwargs: dict[str, Any],
        limit: timedelta,
        *,
        secrets: Mapping[str, str],
    ) -> Any:
        """Return what a call answers; it is cancelled when its time is over.

        Raises:
            CallTimeoutError: It did not answer in time.
            TransientError: Its threads are stuck, and it was not called.
            Exception: Whatever the method raises, as it is: secrets are not replaced.
        """
        limit_s = limit.total_seconds()
        answer = await self.start(connector, method, kwargs, limit_s, secrets=secrets)
        if isinstance(answer, TimedOut):
            what = f"{method.__name__} did not answer within {limit_s:g} s"
            raise CallTimeoutError(what)
        if not isinstance(answer, Raised):
            return answer
        if isinstance(answer.error, Exception):
            raise answer.error
        # One that exits the process, or cancels itself, is no more than an error.
        raise ConnectorError(describe(answer.error))

    def leave(self, task: asyncio.Future[Any]) -> None:
        """Cancel a call without waiting for it."""
        self._guard.leave(task)

    async def stop(self) -> None:
        """Give calls that were left behind a last moment; end the threads."""
        await self._guard.stop()

    def say(self, text: str, limit: int = MESSAGE_MAX) -> str:
        """Return *text* without secrets and control sequences, bounded."""
        start = self.redactor.redact_start(text, limit * 4)
        # Cleaning joins and composes characters: what was hidden before shows then, and
        # has to be whole to be known.
        return clean(self.redactor.redact(clean(start, limit * 4)), limit)

    def line(self, words: str) -> str:
        """Return a line of a log, as `say` does, of any length."""
        return self.redactor.redact(clean(self.redactor.redact(words)))
