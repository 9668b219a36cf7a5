"""A connector whose calls are seen, and a wire that loses and delays its answers."""

from __future__ import annotations

import asyncio
import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any

from orchestrator._clock import SystemClock
from orchestrator._connector import AsyncConnector
from orchestrator._tasks import TOKEN_LABEL
from orchestrator.errors import AuthError, PermanentError, ThrottledError
from orchestrator.testing._jobserver._server import CountedRules
from orchestrator.testing._jobserver._vocabulary import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from orchestrator.testing import Rule
    from tests.crash.scenario import Kind
    from tests.jobserver.connectors import Around

_VERBS = ("create", "get", "delete", "find")
_NOT_CARRIED = frozenset({Fault.CUT, Fault.REFUSE, Fault.HANG})
_AFTERWARDS = frozenset({Fault.LATE, Fault.WITHHOLD, Fault.HANG_AFTER})


class Wire:
    """Between a connector and a service that has no faults of its own to script.

    A kind's rules hit the calls of its jobs. What a process that was killed had
    counted begins anew: a restarted worker meets the faults of its creates again.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self._rules = CountedRules("wire")
        self._clock = SystemClock()
        self._withheld: dict[str, asyncio.Event] = {}
        self._carried: set[asyncio.Task[Any]] = set()

    def release(self, token: str) -> None:
        """Give the answers withheld of *token* so far."""
        self._withheld.pop(token, asyncio.Event()).set()

    def name(self, token: str, task_name: str) -> None:
        """Say which kind of job *token* is."""
        kind = self._kinds.get(task_name.replace("_", " "))
        if kind is not None:
            self._rules.by_token[token] = kind.spec.faults

    async def carry(
        self, verb: str, token: str, call: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Make the call, as the rule for it says.

        A request that is under way arrives, even if its caller has gone meanwhile.
        """
        rule = self._rules.choose("*", verb, token)
        if rule is None:
            return await call()
        if rule.do in _NOT_CARRIED:
            return await self._refuse(rule)
        task = asyncio.get_running_loop().create_task(self._arrive(rule, call))
        self._carried.add(task)
        task.add_done_callback(self._done)
        answer = await asyncio.shield(task)
        if rule.do is Fault.LOSE:
            raise ConnectionError("the answer was lost")
        if rule.do in _AFTERWARDS:
            await self._delay(rule, token)
        return answer

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._carried.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; perhaps nobody did

    async def _arrive(
        self, rule: Rule, call: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        if rule.do is Fault.STALL:
            await self._clock.sleep(rule.delay_s)
        return await call()

    async def _delay(self, rule: Rule, token: str) -> None:
        if rule.do is Fault.LATE:
            await self._clock.sleep(rule.delay_s)
        elif rule.do is Fault.WITHHOLD:
            await self._withheld.setdefault(token, asyncio.Event()).wait()
        else:
            await asyncio.Event().wait()

    async def _refuse(self, rule: Rule) -> None:
        if rule.do is Fault.HANG:
            await asyncio.Event().wait()
        if rule.do is Fault.CUT:
            raise ConnectionError("the line was cut")
        match rule.status:
            case 401:
                raise AuthError("401")
            case 422:
                raise PermanentError("422")
            case 429:
                raise ThrottledError("429", retry_after=rule.retry_after)
        raise RuntimeError(f"{rule.status}: nobody knows")


def observe(
    connector: AsyncConnector[Any],
    around: Around,
    token_of: Callable[[Any], str],
    wire: Wire | None = None,
) -> None:
    """Let *around* see the calls of *connector*, and *wire*, if any, carry them.

    Args:
        connector: Its methods are replaced, on this object alone.
        around: Called with verb and token.
        token_of: Returns the token of a job's meta.
        wire: None for a service that has faults of its own.
    """
    for verb in _VERBS:
        method = getattr(connector, verb)
        # The base's own find says that there is none: seen, it would count as one.
        if getattr(method, "__func__", None) is not AsyncConnector.find:
            seen = _seen(verb, method, around, token_of, wire)
            setattr(connector, verb, seen)


def _seen(
    verb: str,
    method: Callable[..., Coroutine[Any, Any, Any]],
    around: Around,
    token_of: Callable[[Any], str],
    wire: Wire | None,
) -> Callable[..., Awaitable[Any]]:
    signature = inspect.signature(method)

    def token_in(given: Mapping[str, Any]) -> str:
        if verb == "find":
            return str(given["token"])
        if verb != "create":
            return token_of(given["resource_meta"])
        token = str(given["task_execution_metadata"].labels[TOKEN_LABEL])
        if wire is not None:
            wire.name(token, given["task_template"].id.name)
        return token

    @wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        token = token_in(signature.bind(*args, **kwargs).arguments)
        with around(verb, token):
            if wire is None:
                return await method(*args, **kwargs)
            return await wire.carry(verb, token, lambda: method(*args, **kwargs))

    return call
