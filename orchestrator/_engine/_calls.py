"""Connector calls, each turned into an observation: nothing a connector does escapes.

Every call has a time limit, gets its secrets as keyword arguments and nothing that
it does not take, and may raise anything. Texts are redacted and cleaned here, before
anything is stored or logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from orchestrator._clock import seconds_to_us
from orchestrator._codec import decode_values, encode_outputs, exceeds
from orchestrator._connector import PHASE_NAMES
from orchestrator._engine._guard import Guard
from orchestrator._engine._lanes import Lanes
from orchestrator._engine._outcomes import Raised, TimedOut
from orchestrator._engine._text import (
    LINKS_MAX,
    MESSAGE_MAX,
    clean,
    describe,
    info_json,
    links_json,
)
from orchestrator._engine._threads import ThreadCall
from orchestrator._ids import create_token
from orchestrator._phase import RemotePhase
from orchestrator._records import (
    Call,
    CallFailed,
    Created,
    Deleted,
    Failure,
    Found,
    Got,
    NewJob,
)
from orchestrator._registry import IDEMPOTENCY_TOKEN, accepted
from orchestrator._tasks import PREFIX_LABEL, attempt_metadata, links_to_json
from orchestrator.errors import (
    AuthError,
    OutputMismatchError,
    PermanentError,
    ResourceGoneError,
    SecretNotFoundError,
    ThrottledError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator._clock import Clock
    from orchestrator._connector import Resource
    from orchestrator._engine._contexts import Context
    from orchestrator._faults import Faults
    from orchestrator._records import Claimed, Observation
    from orchestrator._secrets import Redactor, Secrets

logger = logging.getLogger(__name__)

_RETRY_AFTER_MAX_S = 3600.0


class MetaUnreadableError(Exception):
    """The connector's code cannot decode the stored resource meta."""


_STEERING: tuple[tuple[type[Exception], Failure], ...] = (
    (SecretNotFoundError, Failure.SECRET),
    (MetaUnreadableError, Failure.META),
    (ThrottledError, Failure.THROTTLED),
    (TransientError, Failure.TRANSIENT),
    (AuthError, Failure.UNAUTHORIZED),
    (ResourceGoneError, Failure.GONE),
    (PermanentError, Failure.PERMANENT),
)


_BEFORE = {call: f"{call}.before_call" for call in Call}
_AFTER = {call: f"{call}.after_call" for call in Call}
_PHASES = {number: RemotePhase(name) for number, name in PHASE_NAMES.items()}


class Calls:
    """Makes connector calls for steps."""

    def __init__(
        self,
        *,
        clock: Clock,
        faults: Faults,
        redactor: Redactor,
        secrets: Secrets,
        output_prefix: str,
        late: Callable[[Claimed, NewJob], Awaitable[None]],
    ) -> None:
        """Hand answers of detached creates to *late*."""
        self._clock = clock
        self.lanes = Lanes(clock)
        self._guard = Guard(clock, self.lanes)
        self._reach = faults.reach
        self._redactor = redactor
        self._sources = secrets
        self._output_prefix = output_prefix
        self._late = late
        self._detached: dict[tuple[str, int], set[asyncio.Task[None]]] = {}
        self._last_words: set[asyncio.Task[None]] = set()

    async def make(self, call: Call, row: Any, context: Context) -> Observation:
        """Make *call* and return its outcome; raises only for our bugs.

        *row* is a `Claimed`; for ``get`` and ``delete`` anything with ``id`` and
        ``meta`` will do.
        """
        method, limit_s = _method(call, context)
        try:
            secrets = await self._secrets(context) if context.references else {}
            kwargs = self._arguments(call, row, context, secrets)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - inputs, secrets, a user's decode
            return self._unprepared(call, error, context)
        self._reach(_BEFORE[call])
        pending = self._guard.call(
            self.lanes.of(context.connector),
            method,
            accepted(method, kwargs),
            limit_s,
            cancel=call is not Call.CREATE,
        )
        try:
            answer = await pending
        except asyncio.CancelledError:
            if call is Call.CREATE and not pending.cancelled():
                # Told in the turn in which its step was cancelled: not forgotten.
                self._detach(pending.task, row, context)
            raise
        if isinstance(answer, TimedOut):
            if call is Call.CREATE:
                self._detach(answer.task, row, context)
            self._reach(_AFTER[call])
            what = f"{call} did not answer within {limit_s:g} s"
            return CallFailed(call, Failure.TIMEOUT, what)
        self._reach(_AFTER[call])
        try:
            if isinstance(answer, Raised):
                return self._failed(call, answer.error, context)
            return self._said(call, answer, row, context)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - nonsense is an error of the call
            what = f"{call} answered nonsense: {describe(error)}"
            return CallFailed(call, Failure.ERROR, self.say(what))

    def in_flight(self, row: Claimed) -> bool:
        """Whether a detached create of this attempt may still answer."""
        return (row.id, row.attempt) in self._detached

    async def stop(self) -> None:
        """Cancel detached creates; their rows are recovered at the next start."""
        tasks = [task for tasks in self._detached.values() for task in tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        await self._guard.stop()
        if self._last_words:
            await asyncio.wait(self._last_words, timeout=1)

    # What a call takes

    def _arguments(
        self, call: Call, row: Any, context: Context, secrets: dict[str, Any]
    ) -> dict[str, Any]:
        """Return all that the method may take, *secrets* included.

        Raises:
            Exception: Whatever the inputs, the secrets or a user's decode raise.
        """
        if call is Call.GET or call is Call.DELETE:
            try:
                meta = context.connector.metadata_type.decode(row.meta)
            except Exception as error:
                raise MetaUnreadableError(describe(error)) from error
            return {**secrets, "resource_meta": meta}
        kwargs = secrets | self._create_arguments(row, context)
        if call is Call.FIND:
            kwargs["token"] = kwargs[IDEMPOTENCY_TOKEN]
        return kwargs

    def _create_arguments(self, row: Claimed, context: Context) -> dict[str, Any]:
        if row.inputs is None:
            msg = "they are missing"
            raise LookupError(msg)
        token = create_token(row.id, row.attempt)
        labels = json.loads(row.labels) if row.labels else {}
        own_prefix = f"{self._output_prefix}/{row.id}/{row.attempt}"
        return {
            "task_template": context.template,
            "output_prefix": labels.get(PREFIX_LABEL) or own_prefix,
            "inputs": decode_values(context.interface.get_input_types(), row.inputs),
            "task_execution_metadata": attempt_metadata(
                context.metadata,
                execution_id=row.id,
                attempt=row.attempt,
                token=token,
                labels=labels,
            ),
            IDEMPOTENCY_TOKEN: token,
        }

    async def _secrets(self, context: Context) -> dict[str, Any]:
        values: dict[str, Any] = await self._sources.resolve(context.references)
        self._redactor.register(values)
        return values

    def _unprepared(
        self, call: Call, error: BaseException, context: Context
    ) -> CallFailed:
        """Return why a call was not made at all."""
        if call is not Call.CREATE or isinstance(error, SecretNotFoundError):
            return self._failed(call, error, context)
        what = f"the inputs cannot be read: {describe(error)}"
        return CallFailed(call, Failure.META, self.say(what))

    # What a call said

    def _said(self, call: Call, answer: Any, row: Any, context: Context) -> Observation:
        if call is Call.GET:
            return self._got(answer, context, row)
        if call is Call.DELETE:
            return Deleted()
        if call is Call.FIND and answer is None:
            return Found(None)
        job = new_job(answer, row.id, row.attempt, context)
        return Created(job) if call is Call.CREATE else Found(job)

    def _got(self, resource: Resource, context: Context, row: Any) -> Got:
        if not isinstance(resource.phase, int):
            msg = f"phase {resource.phase!r} is no TaskExecution phase"
            raise TypeError(msg)
        phase = _PHASES.get(resource.phase, RemotePhase.UNDEFINED)
        outputs = outputs_json = problem = None
        if phase is RemotePhase.SUCCEEDED:
            outputs, outputs_json, problem = self._outputs(resource.outputs, context)
        message = resource.message
        given = chain(context.template.metadata.log_links, resource.log_links or ())
        links = list(islice(given, LINKS_MAX))  # of too many the first are kept
        info = resource.custom_info
        return Got(
            phase=phase,
            message=None if message is None else self.say(str(message)),
            log_links=None
            if not links
            else links_json(links_to_json(links, execution_id=row.id), self.say),
            custom_info=None
            if info is None
            else info_json(info, self._redactor.redact),
            outputs=outputs,
            outputs_json=outputs_json,
            outputs_problem=problem,
        )

    def _outputs(
        self, given: Any, context: Context
    ) -> tuple[bytes | None, str | None, str | None]:
        """Return outputs as protobuf and as JSON, and why they are refused."""
        limit = context.output_bytes_max
        if exceeds(given, limit):  # told before a copy is made to find out
            return None, None, f"outputs have more than {limit} bytes, the limit"
        try:
            interface = context.interface if context.typed else None
            encoded = encode_outputs(interface, given)
        except OutputMismatchError as error:
            return None, None, self.say(f"outputs.{error}")
        if encoded is None:
            return None, None, None
        size = len(encoded.proto)
        if size > limit:
            problem = f"outputs have {size} bytes, the limit is {limit}"
            return None, None, problem
        return encoded.proto, encoded.json, None

    # Late answers

    def _detach(
        self, task: asyncio.Future[Any], row: Claimed, context: Context
    ) -> None:
        """Let a create go on; several calls of one attempt may be under way."""
        key = (row.id, row.attempt)
        late = asyncio.create_task(
            self._answer_late(task, row, context), name=f"late-create-{row.id}"
        )
        self._detached.setdefault(key, set()).add(late)

        def ended(late: asyncio.Task[None]) -> None:
            self._guard.leave(task)  # of no effect on one that has answered
            self._detached[key].discard(late)
            if not self._detached[key]:
                del self._detached[key]
            if not late.cancelled() and late.exception() is not None:
                logger.error("a late answer was lost", exc_info=late.exception())
            if not task.done():
                task.add_done_callback(lambda _: self._last_word(task, row, context))

        # Not before its answer is in the ledger: until then it is in flight.
        late.add_done_callback(ended)

    async def _answer_late(
        self, task: asyncio.Future[Any], row: Claimed, context: Context
    ) -> None:
        policy = context.policies.policy
        left = (policy.create_hard_timeout - policy.create_timeout).total_seconds()
        try:
            async with self._clock.limit(left):
                # Shielded: a call that swallows its cancellation must not be waited
                # for, or its row would be in flight for ever.
                answer = await asyncio.shield(task)
        except (TimeoutError, asyncio.CancelledError) as error:
            if _answered(task):  # in this very turn
                answer = task.result()
            elif isinstance(error, TimeoutError):
                logger.warning("create of %s gave no answer at all", row.id)
                return
            else:
                raise
        await self._enter(answer, row, context)

    def _last_word(
        self, task: asyncio.Future[Any], row: Claimed, context: Context
    ) -> None:
        """Enter the answer of a create that did not listen when it was given up."""
        if not _answered(task) or isinstance(task.result(), Raised):
            return
        logger.warning("create of %s answered after it was given up", row.id)
        entering = asyncio.create_task(self._enter(task.result(), row, context))
        self._last_words.add(entering)

        def ended(entering: asyncio.Task[None]) -> None:
            self._last_words.discard(entering)
            if not entering.cancelled() and entering.exception() is not None:
                logger.error("a last answer was lost", exc_info=entering.exception())

        entering.add_done_callback(ended)

    async def _enter(self, answer: Any, row: Claimed, context: Context) -> None:
        """Enter what a create has answered late in the ledger."""
        if isinstance(answer, Raised):
            return
        try:
            job = new_job(answer, row.id, row.attempt, context)
        except KeyboardInterrupt:
            raise
        except BaseException:
            logger.exception("create of %s answered late, and nonsense", row.id)
            return
        await self._late(row, job)

    # Errors

    def _failed(self, call: Call, error: BaseException, context: Context) -> CallFailed:
        """Return what *error* asserts."""
        retry_after = None
        if isinstance(error, TransientError):
            retry_after = _retry_after_us(error.retry_after)
        text = self.say(describe(error))
        return CallFailed(call, _meaning(call, error, context), text, retry_after)

    def say(self, text: str, limit: int = MESSAGE_MAX) -> str:
        """Return *text* without secrets and control sequences, bounded."""
        start = self._redactor.redact_start(text, limit * 4)
        # Cleaning joins and composes characters: what was hidden before shows then, and
        # has to be whole to be known.
        return clean(self._redactor.redact(clean(start, limit * 4)), limit)


def _answered(task: asyncio.Future[Any]) -> bool:
    if isinstance(task, ThreadCall):
        task.settle()  # what its thread has said in this very moment
    return task.done() and not task.cancelled() and task.exception() is None


def _method(
    call: Call, context: Context
) -> tuple[Callable[..., Awaitable[Any]], float]:
    """Return the connector's method, and its time limit in seconds."""
    connector, policy = context.connector, context.policies.policy
    match call:
        case Call.GET:
            return connector.get, policy.get_timeout.total_seconds()
        case Call.CREATE:
            return connector.create, policy.create_timeout.total_seconds()
        case Call.DELETE:
            return connector.delete, policy.delete_timeout.total_seconds()
        case Call.FIND:
            return connector.find, policy.find_timeout.total_seconds()
        case Call.LOOKUP:
            msg = "the ledger is read by the step"
            raise AssertionError(msg)


def new_job(meta: Any, execution_id: str, attempt: int, context: Context) -> NewJob:
    """Return *meta* encoded, with the key that tells jobs apart.

    Raises:
        TypeError: It is not the connector's ``metadata_type``.
        Exception: The user's own encode or decode failed.
    """
    connector = context.connector
    if not isinstance(meta, connector.metadata_type):
        wanted = connector.metadata_type.__qualname__
        msg = f"{type(meta).__qualname__} is no {wanted}"
        raise TypeError(msg)
    encoded = meta.encode()
    connector.metadata_type.decode(encoded)  # what cannot be read must not be kept
    key = _key_of(meta, context)
    if not key:
        if context.policies.idempotent_us != 0:
            key = create_token(execution_id, attempt)
        else:
            # Jobs of two attempts are two jobs, also if their handles look the same.
            mixed = f"{execution_id}-{attempt}-".encode() + encoded
            key = hashlib.sha256(mixed).hexdigest()
    key = str(key)
    key.encode()  # a lone surrogate cannot be stored: refused here, not in the row
    version = getattr(meta, "schema_version", 1)
    if type(version) is not int:
        msg = f"schema_version must be an int, got {version!r}"
        raise TypeError(msg)
    return NewJob(bytes(encoded), version, key)


def _key_of(meta: Any, context: Context) -> str | None:
    connector = context.connector
    try:
        return connector.job_key(meta)
    except Exception:
        # The job is known: it must not be lost for want of its name.
        logger.exception("%s.job_key broke", type(connector).__qualname__)
        return None


def name_of(meta: bytes, context: Context) -> str | None:
    """Return the service's own id of a job by today's code, None if it gives none."""
    try:
        decoded = context.connector.metadata_type.decode(meta)
    except Exception as error:  # noqa: BLE001 - a user's decode
        logger.warning("a stored meta cannot be read: %s", describe(error))
        return None
    key = _key_of(decoded, context)
    return str(key) if key else None


def _retry_after_us(seconds: object) -> int | None:
    """Return what a service asks for, at most an hour; nonsense asks for nothing."""
    if not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        return None
    return seconds_to_us(min(seconds, _RETRY_AFTER_MAX_S))


def _meaning(call: Call, error: BaseException, context: Context) -> Failure:
    if isinstance(error, TimeoutError) and call is not Call.CREATE:
        return Failure.TIMEOUT
    for kind, failure in _STEERING:
        if isinstance(error, kind):
            return failure
    own = context.connector.not_created_errors
    if call is Call.CREATE and own and isinstance(error, own):
        return Failure.NOT_CREATED
    return Failure.ERROR
