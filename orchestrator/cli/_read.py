"""``ls``, ``show``, ``history`` and ``logs``: looking, without changing anything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from orchestrator.cli._errors import OK
from orchestrator.cli._load import pairs
from orchestrator.cli._open import full_id, with_database
from orchestrator.cli._text import (
    cut_ids,
    one_line,
    print_fields,
    print_json,
    print_table,
    record,
    short,
)

if TYPE_CHECKING:
    from argparse import Namespace

    from orchestrator._orchestrator import Orchestrator
    from orchestrator._records import Execution


def ls(options: Namespace) -> int:
    """List executions, newest first."""
    return with_database(options, _ls)


async def _ls(orch: Orchestrator, options: Namespace) -> int:
    labels = pairs("label", options.label)
    after = await full_id(orch, options.after) if options.after else None
    executions = await orch.list(
        phase=options.phase,
        task_type=options.task_type,
        name=options.name,
        labels=labels,
        held=True if options.held else None,
        limit=options.limit,
        after=after,
    )
    if options.json:
        print_json([record(execution) for execution in executions])
        return OK
    heads = ("ID", "PHASE", "SUBMITTED (UTC)", "TASK", "MESSAGE")
    print_table(
        heads,
        (
            (cut, e.phase, short(e.submitted_at), e.name, words_of(e))
            for cut, e in zip(
                cut_ids([e.id for e in executions]), executions, strict=True
            )
        ),
    )
    if len(executions) == options.limit:
        print(f"more: --after {executions[-1].id}", file=sys.stderr)
    return OK


def words_of(execution: Execution) -> str:
    """Return what matters most about an execution, in a few words."""
    if execution.hold:
        said = execution.last_error or execution.message or ""
        return f"on hold: {execution.hold} {said}".rstrip()
    if execution.error_code:
        return f"[{execution.error_code}] {execution.error_message or ''}".rstrip()
    if execution.last_error:
        return f"{execution.poll_errors} errors: {execution.last_error}"
    if execution.waiting_on:
        return f"waiting on {execution.waiting_on}"
    return execution.message or ""


def show(options: Namespace) -> int:
    """Show everything about one execution."""
    return with_database(options, _show)


async def _show(orch: Orchestrator, options: Namespace) -> int:
    execution = await orch.get(await full_id(orch, options.id))
    jobs = await orch.jobs(execution.id)
    if options.json:
        print_json(record(execution) | {"jobs": [record(job) for job in jobs]})
        return OK
    print_fields(
        (name, value)
        for name in execution.__dataclass_fields__
        if name not in ("outputs_proto", "template_hash")
        for value in (getattr(execution, name),)
    )
    if jobs:
        print("\njobs")
        heads = ("ATTEMPT", "RECORDED (UTC)", "CLEANUP", "JOB KEY", "ERROR")
        rows = (
            (j.attempt, short(j.recorded_at), j.cleanup, j.job_key, j.cleanup_error)
            for j in jobs
        )
        print_table(heads, rows)
    return OK


def history(options: Namespace) -> int:
    """Show the transitions of one execution, oldest first."""
    return with_database(options, _history)


async def _history(orch: Orchestrator, options: Namespace) -> int:
    rows = await orch.history(await full_id(orch, options.id))
    if options.json:
        print_json([record(row) for row in rows])
        return OK
    heads = ("#", "TIME (UTC)", "ATTEMPT", "CAUSE", "PHASE", "REMOTE", "MESSAGE")
    print_table(
        heads,
        (
            (
                row.version,
                row.at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
                row.attempt,
                row.cause,
                row.to_phase,
                row.remote_phase,
                row.message,
            )
            for row in rows
        ),
    )
    return OK


def logs(options: Namespace) -> int:
    """Print the job's logs, as its connector gives them."""
    return with_database(options, _logs)


async def _logs(orch: Orchestrator, options: Namespace) -> int:
    lines: list[str] = []
    async for line in orch.logs(await full_id(orch, options.id)):
        if options.json:
            lines.append(line)
        else:
            # Tabs are kept: they align what people print.
            print("\t".join(one_line_or_empty(part) for part in line.split("\t")))
    if options.json:
        print_json(lines)
    return OK


def one_line_or_empty(text: str) -> str:
    """Return *text* harmless, with the spaces that it begins with."""
    indent = len(text) - len(text.lstrip(" "))
    return " " * indent + one_line(text.strip(" "))
