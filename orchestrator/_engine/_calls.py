"""Connector calls, each turned into an observation: nothing a connector does escapes.

Every call has a time limit, gets its secrets as keyword arguments and nothing that
it does not take, and may raise anything.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from orchestrator._engine._answers import Answers
from orchestrator._engine._arguments import arguments_of, method_of
from orchestrator._engine._late import Late
from orchestrator._engine._outcomes import Raised, TimedOut
from orchestrator._engine._text import describe
from orchestrator._records import Call, CallFailed, Failure
from orchestrator._registry import accepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator._clock import Clock
    from orchestrator._engine._caller import Caller
    from orchestrator._engine._contexts import Context
    from orchestrator._faults import Faults
    from orchestrator._records import Claimed, NewJob, Observation

_BEFORE = {call: f"{call}.before_call" for call in Call}
_AFTER = {call: f"{call}.after_call" for call in Call}


class Calls:
    """Makes connector calls for steps."""

    def __init__(
        self,
        caller: Caller,
        *,
        clock: Clock,
        faults: Faults,
        output_prefix: str,
        late: Callable[[Claimed, NewJob], Awaitable[None]],
    ) -> None:
        """Make them by *caller*; hand answers of detached creates to *late*."""
        self.say = caller.say
        self._caller = caller
        self._reach = faults.reach
        self._output_prefix = output_prefix
        self._answers = Answers(caller)
        self._late = Late(clock, caller, late)
        self.in_flight = self._late.in_flight

    async def make(self, call: Call, row: Any, context: Context) -> Observation:
        """Make *call* and return its outcome; raises only for our bugs.

        *row* is a `Claimed`; for ``get`` and ``delete`` anything with ``id`` and
        ``meta`` will do.
        """
        method, limit_s = method_of(call, context)
        try:
            references = context.references
            secrets = await self._caller.secrets(references) if references else {}
            given = arguments_of(call, row, context, secrets, self._output_prefix)
            kwargs = accepted(method, given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - inputs, secrets, a user's decode
            return self._answers.unprepared(call, error, context)
        self._reach(_BEFORE[call])
        pending = self._caller.start(
            context.connector,
            method,
            kwargs,
            limit_s,
            secrets=secrets,
            cancel=call is not Call.CREATE,
        )
        try:
            answer = await pending
        except asyncio.CancelledError:
            if call is Call.CREATE and not pending.cancelled():
                # Told in the turn in which its step was cancelled: not forgotten.
                self._late.detach(pending.task, row, context)
            raise
        if isinstance(answer, TimedOut):
            if call is Call.CREATE:
                self._late.detach(answer.task, row, context)
            self._reach(_AFTER[call])
            what = f"{call} did not answer within {limit_s:g} s"
            return CallFailed(call, Failure.TIMEOUT, what)
        self._reach(_AFTER[call])
        try:
            if isinstance(answer, Raised):
                return self._answers.failed(call, answer.error, context)
            return self._answers.said(call, answer, row, context)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - nonsense is an error of the call
            what = f"{call} answered nonsense: {describe(error)}"
            return CallFailed(call, Failure.ERROR, self.say(what))

    async def stop(self) -> None:
        """Cancel detached creates; their rows are recovered at the next start."""
        await self._late.stop()
        await self._caller.stop()
        await self._late.last_words()
