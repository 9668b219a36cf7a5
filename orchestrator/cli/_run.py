"""``run``: submit a task, show how it goes, and wait for its end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_origin

from orchestrator._clock import SystemClock
from orchestrator._codec import inputs_from_text
from orchestrator._orchestrator import Orchestrator
from orchestrator._phase import Phase
from orchestrator.cli._errors import DID_NOT_SUCCEED, OK
from orchestrator.cli._load import load_connectors, load_task, pairs
from orchestrator.cli._text import one_line, print_json, record, to_json
from orchestrator.errors import InvalidInputError, WaitTimeoutError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from orchestrator._orchestrator import Handle
    from orchestrator._records import Execution
    from orchestrator._tasks import TaskTemplate
    from orchestrator.models import NativeInterface

_LOOK_S = 0.25
_JSON = {list: "[1,2]", dict: '{"a":1}'}
"""An example of each type that a command line can only say as JSON."""


def run(options: Namespace) -> int:
    """Submit, and unless told otherwise run and wait here."""
    texts = pairs("input", options.input)
    labels = pairs("label", options.label)
    load_connectors(options.connectors)
    task = load_task(options.task)
    inputs = inputs_from_text(task.interface, texts)
    return asyncio.run(_run(options, task, inputs, labels))


async def _run(
    options: Namespace,
    task: TaskTemplate,
    inputs: dict[str, Any],
    labels: dict[str, str],
) -> int:
    async with Orchestrator(options.database, start=not options.no_wait) as orch:
        with _hinting(task.interface, inputs):
            handle = await orch.submit(
                task, inputs, idempotency_key=options.idempotency_key, labels=labels
            )
        if options.no_wait:
            return await _accepted(handle, as_json=options.json)
        if not options.json:
            known = " (it was there before)" if handle.existing else ""
            print(f"execution {handle.id}{known}", file=sys.stderr)
        execution = await follow(handle, options.timeout, quiet=options.json)
    return conclude(execution, as_json=options.json)


@contextmanager
def _hinting(interface: NativeInterface, inputs: dict[str, Any]) -> Iterator[None]:
    """Add to the refusal of an input how the command line says such a one."""
    try:
        yield
    except InvalidInputError as error:
        name, types = error.field, interface.get_input_types()
        if name not in types:
            raise
        hint = f"--input {name}=..."
        if name in inputs:
            kind = get_origin(types[name]) or types[name]
            if kind not in _JSON or not isinstance(inputs[name], str):
                raise
            hint = f"write JSON: --input '{name}={_JSON[kind]}'"
        problem = str(error).removeprefix(f"{name}: ")
        raise InvalidInputError(name, f"{problem} ({hint})") from None


async def _accepted(handle: Handle, *, as_json: bool) -> int:
    if as_json:
        print_json(record(await handle.get()))
    else:
        print(handle.id)
    return OK


async def follow(handle: Handle, timeout_s: float | None, *, quiet: bool) -> Execution:
    """Return the terminal record; print its transitions meanwhile, unless *quiet*.

    Raises:
        WaitTimeoutError: It is not terminal after *timeout_s*.
    """
    clock = SystemClock()
    began, shown = clock.monotonic(), 0
    while True:
        left = None
        if timeout_s is not None:
            left = max(timeout_s - (clock.monotonic() - began), 0.0)
        try:
            execution = await handle.wait(
                _LOOK_S if left is None else min(left, _LOOK_S)
            )
        except WaitTimeoutError:
            if left == 0 and timeout_s is not None:
                row = await handle.get()
                aborting = row.abort_requested_at is not None
                raise WaitTimeoutError(
                    handle.id, timeout_s, aborting=aborting
                ) from None
            execution = None
        if not quiet:
            shown = await _tell_news(handle, shown)
        if execution is not None:
            return execution


async def _tell_news(handle: Handle, shown: int) -> int:
    for row in (await handle.history())[shown:]:
        time = row.at.strftime("%H:%M:%S.%f")[:-3]
        line = f"{time}  {row.to_phase:<14}  {row.cause:<22}  {row.message or ''}"
        print(one_line_kept(line), file=sys.stderr, flush=True)
        shown = row.version
    return shown


def one_line_kept(line: str) -> str:
    """Return an aligned line, harmless, with its spaces."""
    return "  ".join(one_line(part) for part in line.rstrip().split("  "))


def conclude(execution: Execution, *, as_json: bool) -> int:
    """Print how *execution* ended, and return the exit code that says so."""
    succeeded = execution.phase is Phase.SUCCEEDED
    if as_json:
        print_json(record(execution))
    elif succeeded:
        if execution.outputs:
            print(to_json(dict(execution.outputs)))
    else:
        words = execution.error_message or execution.message or "no message"
        text = f"{execution.phase} [{execution.error_code}]: {words}"
        print(one_line(text), file=sys.stderr)
    return OK if succeeded else DID_NOT_SUCCEED
