"""What each of the engine's calls takes: the method, its time limit, its arguments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator._codec import decode_values
from orchestrator._engine._text import describe
from orchestrator._ids import create_token
from orchestrator._records import Call
from orchestrator._registry import IDEMPOTENCY_TOKEN
from orchestrator._tasks import PREFIX_LABEL, attempt_metadata

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from orchestrator._engine._contexts import Context
    from orchestrator._records import Claimed


class MetaUnreadableError(Exception):
    """The connector's code cannot decode the stored resource meta."""


def method_of(
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


def arguments_of(
    call: Call,
    row: Any,
    context: Context,
    secrets: Mapping[str, str],
    output_prefix: str,
) -> dict[str, Any]:
    """Return all that the method of *call* may take, *secrets* included.

    Raises:
        Exception: Whatever the inputs or a user's decode raise.
    """
    if call is Call.GET or call is Call.DELETE:
        try:
            meta = context.connector.metadata_type.decode(row.meta)
        except Exception as error:
            raise MetaUnreadableError(describe(error)) from error
        return {**secrets, "resource_meta": meta}
    kwargs = {**secrets, **_create_arguments(row, context, output_prefix)}
    if call is Call.FIND:
        kwargs["token"] = kwargs[IDEMPOTENCY_TOKEN]
    return kwargs


def _create_arguments(
    row: Claimed, context: Context, output_prefix: str
) -> dict[str, Any]:
    if row.inputs is None:
        msg = "they are missing"
        raise LookupError(msg)
    token = create_token(row.id, row.attempt)
    labels = json.loads(row.labels) if row.labels else {}
    own_prefix = f"{output_prefix}/{row.id}/{row.attempt}"
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
