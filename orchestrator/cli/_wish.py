"""``abort``, ``retry`` and ``resolve``: wishes, which a running process carries out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator.cli._errors import OK
from orchestrator.cli._nodes import runner
from orchestrator.cli._open import full_id, opened_store, with_database
from orchestrator.cli._run import conclude, follow
from orchestrator.cli._text import one_line, print_json, record
from orchestrator.errors import InvalidInputError

if TYPE_CHECKING:
    from argparse import Namespace

    from orchestrator._orchestrator import Orchestrator
    from orchestrator._records import Execution


def _tell(execution: Execution, words: str, *, as_json: bool) -> int:
    if as_json:
        print_json(record(execution))
    else:
        print(one_line(f"{execution.id} {words}"))
    return OK


async def _runner(options: Namespace, execution: Execution) -> str:
    async with opened_store(options) as store:
        return await runner(store, execution)


def abort(options: Namespace) -> int:
    """Record the wish; with ``--wait`` return when the execution is terminal."""
    return with_database(options, _abort, start=_carries_out(options))


def _carries_out(options: Namespace) -> bool:
    return options.wait and bool(options.connectors)


async def _abort(orch: Orchestrator, options: Namespace) -> int:
    handle = orch.handle(await full_id(orch, options.id))
    execution = await handle.get()
    if execution.terminal:
        words = f"is {execution.phase} already"
        return _tell(execution, words, as_json=options.json)
    await handle.abort(options.reason)
    kind = (execution.task_type, execution.task_version)
    here = _carries_out(options) and kind in DEFAULT_REGISTRY
    who = "this process" if here else await _runner(options, execution)
    words = f"will be aborted by {who}"
    if not options.wait:
        return _tell(await handle.get(), words, as_json=options.json)
    if not options.json:
        until = "waiting until its job is confirmed ended"
        print(one_line(f"{handle.id} {words}; {until}"), file=sys.stderr, flush=True)
    execution = await follow(handle, options.timeout, quiet=options.json)
    return _tell(execution, f"is {execution.phase}", as_json=options.json)


def retry(options: Namespace) -> int:
    """Submit a terminal execution's task and inputs again."""
    _need_connectors(options, "the task type's connector checks what is submitted")
    return with_database(options, _retry, start=options.wait)


async def _retry(orch: Orchestrator, options: Namespace) -> int:
    handle = await orch.retry(await full_id(orch, options.id))
    if not options.wait:
        execution = await handle.get()
        words = f"is the retry of {execution.retry_of}"
        return _tell(execution, words, as_json=options.json)
    if not options.json:
        print(f"execution {handle.id}", file=sys.stderr)
    execution = await follow(handle, options.timeout, quiet=options.json)
    return conclude(execution, as_json=options.json)


def resolve(options: Namespace) -> int:
    """Say what became of a create whose outcome is unknown."""
    if options.created is not None:
        _need_connectors(options, "the connector reads the resource meta")
    return with_database(options, _resolve)


async def _resolve(orch: Orchestrator, options: Namespace) -> int:
    execution = await orch.get(await full_id(orch, options.id))
    meta = None
    if options.created is not None:
        meta = _decoded(execution, options.created)
    await orch.resolve(
        execution.id,
        created=meta,
        absent=options.absent,
        give_up=options.give_up,
    )
    execution = await orch.get(execution.id)
    who = await _runner(options, execution)
    words = f"is resolved; {who} goes on from there"
    return _tell(execution, words, as_json=options.json)


def _need_connectors(options: Namespace, why: str) -> None:
    if not options.connectors:
        raise InvalidInputError("connectors", f"--connectors MODULE is needed: {why}")


def _decoded(execution: Execution, text: str) -> Any:
    connector = DEFAULT_REGISTRY.get_connector(
        execution.task_type, execution.task_version
    )
    try:
        return connector.metadata_type.decode(text.encode())
    except Exception as error:
        raise InvalidInputError("created", str(error)) from error
