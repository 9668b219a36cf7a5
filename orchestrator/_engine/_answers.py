"""What a call said, or failed with, as an observation: nothing of it escapes."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from orchestrator._clock import seconds_to_us
from orchestrator._codec import encode_outputs, exceeds
from orchestrator._connector import PHASE_NAMES
from orchestrator._engine._arguments import MetaUnreadableError
from orchestrator._engine._text import LINKS_MAX, describe, info_json, links_shown
from orchestrator._ids import create_token
from orchestrator._phase import RemotePhase
from orchestrator._records import (
    STEERING,
    Call,
    CallFailed,
    Created,
    Deleted,
    Failure,
    Found,
    Got,
    NewJob,
)
from orchestrator._secrets import get_logger
from orchestrator._tasks import links_to_json
from orchestrator.errors import (
    OutputMismatchError,
    SecretNotFoundError,
    TransientError,
)

if TYPE_CHECKING:
    from orchestrator._connector import Resource
    from orchestrator._engine._caller import Caller
    from orchestrator._engine._contexts import Context
    from orchestrator._records import Observation

logger = get_logger(__name__)

_RETRY_AFTER_MAX_S = 3600.0
_PHASES = {number: RemotePhase(name) for number, name in PHASE_NAMES.items()}
_MEANINGS: tuple[tuple[type[Exception], Failure], ...] = (
    (SecretNotFoundError, Failure.SECRET),
    (MetaUnreadableError, Failure.META),
    *STEERING,
)


class Answers:
    """Turns what calls said into observations."""

    def __init__(self, caller: Caller) -> None:
        """Let *caller* make texts fit."""
        self._caller = caller

    def said(self, call: Call, answer: Any, row: Any, context: Context) -> Observation:
        """Return what *answer* says.

        Raises:
            Exception: It is nonsense.
        """
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
        message, say = resource.message, self._caller.say
        if problem and message:
            problem = say(f"{problem} (the connector says: {message})")
        given = chain(context.template.metadata.log_links, resource.log_links or ())
        links = list(islice(given, LINKS_MAX))  # of too many the first are kept
        linked = links_shown(links_to_json(links, execution_id=row.id), say)
        info = resource.custom_info
        return Got(
            phase=phase,
            message=None if message is None else say(str(message)),
            log_links=json.dumps(linked, ensure_ascii=False) if linked else None,
            custom_info=None
            if info is None
            else info_json(info, self._caller.redactor.redact),
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
            return None, None, self._caller.say(f"outputs.{error}")
        if encoded is None:
            return None, None, None
        size = len(encoded.proto)
        if size > limit:
            problem = f"outputs have {size} bytes, the limit is {limit}"
            return None, None, problem
        return encoded.proto, encoded.json, None

    def failed(self, call: Call, error: BaseException, context: Context) -> CallFailed:
        """Return what *error* asserts."""
        retry_after = None
        if isinstance(error, TransientError):
            retry_after = _retry_after_us(error.retry_after)
        text = self._caller.say(describe(error))
        return CallFailed(call, _meaning(call, error, context), text, retry_after)

    def unprepared(
        self, call: Call, error: BaseException, context: Context
    ) -> CallFailed:
        """Return why a call was not made at all."""
        if call is not Call.CREATE or isinstance(error, SecretNotFoundError):
            return self.failed(call, error, context)
        what = f"the inputs cannot be read: {describe(error)}"
        return CallFailed(call, Failure.META, self._caller.say(what))


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
    for kind, failure in _MEANINGS:
        if isinstance(error, kind):
            return failure
    own = context.connector.not_created_errors
    if call is Call.CREATE and own and isinstance(error, own):
        return Failure.NOT_CREATED
    return Failure.ERROR
