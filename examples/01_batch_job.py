"""First example: the tutorial's connector and a real command, durable side by side.

Run it twice: the second run finds the executions of the first in the database.
Kill it (Ctrl-C, or kill -9) and run it again: it carries on with what was running.
"""

# ruff: noqa: ARG002 - a connector's methods take what the interface hands them

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Dict, Optional  # noqa: UP035 - Flyte's style

from flyteidl2.core.execution_pb2 import TaskExecution
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator import Execution, Handle, Orchestrator, Phase, Policy
from orchestrator.connectors import (
    AsyncConnector,
    AsyncConnectorExecutorMixin,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from orchestrator.connectors.process import ProcessConnector, ProcessTask
from orchestrator.errors import WaitTimeoutError
from orchestrator.extend import TaskTemplate
from orchestrator.models import NativeInterface

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")
JOB_SECONDS = 5.0


# --- The tutorial: a connector is three calls to a service ---------------------------


@dataclass
class BatchJobMetadata(ResourceMeta):
    """All that is needed to find the job again: it survives a crash in the database."""

    job_id: str
    created_at: float


class BatchJobConnector(AsyncConnector):
    """Talks to a batch service; this one only pretends, so that it runs anywhere."""

    name = "Batch Job Connector"
    task_type_name = "batch_job"
    task_type_version = 0
    metadata_type = BatchJobMetadata

    async def create(  # type: ignore[override, unused-ignore]
        self,
        task_template: Any,
        output_prefix: str,
        inputs: Optional[Dict[str, Any]] = None,  # noqa: UP006, UP045
        **kwargs: Any,
    ) -> BatchJobMetadata:
        """Submit the job and return its handle."""
        return BatchJobMetadata(job_id=str(uuid.uuid4()), created_at=time.time())

    async def get(  # type: ignore[override, unused-ignore]
        self, resource_meta: BatchJobMetadata, **kwargs: Any
    ) -> Resource:
        """Tell how the job does: it runs for five seconds, then it has a result."""
        elapsed = time.time() - resource_meta.created_at
        if elapsed < JOB_SECONDS:
            return Resource(
                phase=TaskExecution.RUNNING,
                message=f"{elapsed:.1f} s of {JOB_SECONDS:g} s done",
            )
        return Resource(
            phase=TaskExecution.SUCCEEDED,
            outputs={"result": f"output-from-{resource_meta.job_id}"},
        )

    async def delete(  # type: ignore[override, unused-ignore]
        self, resource_meta: BatchJobMetadata, **kwargs: Any
    ) -> None:
        """Cancel the job."""


ConnectorRegistry.register(BatchJobConnector())


class BatchJobTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """What users declare: a name, inputs and outputs, and the connector's task type."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(
            name=name,
            interface=NativeInterface(inputs={}, outputs={"result": str}),
            task_type="batch_job",
            image=None,
            **kwargs,
        )


# --- A real command, as a detached job that survives this process --------------------

commands = ProcessConnector()
commands.policy = Policy(
    poll_delay_min=timedelta(milliseconds=100),
    poll_delay_max=timedelta(milliseconds=300),
)
ConnectorRegistry.register(commands)

SCRIPT = """
for step in 1 2 3 4 5 6; do echo "step $step of 6"; sleep "$1"; done
echo "done on $(uname -sr)"
"""

count_steps = ProcessTask(
    "count_steps",
    command=["sh", "-c", SCRIPT, "count_steps", "{{.inputs.pause}}"],
    inputs={"pause": float},
)


# --- Running them, and watching ------------------------------------------------------

STYLES = {"SUCCEEDED": "green", "FAILED": "red", "RUNNING": "cyan"}
ENDED = {Phase.SUCCEEDED, Phase.FAILED, Phase.ABORTED, Phase.TIMED_OUT}
LOOK_EVERY = 0.2


def progress_table(executions: Sequence[Execution]) -> Table:
    """Return how the executions do at this moment."""
    table = Table(
        "task",
        "phase",
        "remote phase",
        "polls",
        "message",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for execution in executions:
        phase = execution.phase
        table.add_row(
            Text(execution.name),
            Text(phase, style=STYLES.get(phase, "yellow")),
            execution.remote_phase or "",
            str(execution.polls),
            Text(execution.message or execution.error_message or ""),
        )
    return table


async def look(orch: Orchestrator, ids: list[str]) -> AsyncIterator[list[Execution]]:
    """Yield all executions again and again, until every one has ended."""
    while True:
        executions = [await orch.get(execution_id) for execution_id in ids]
        yield executions
        waiting = [e for e in executions if not e.terminal]
        if not waiting:
            return
        try:
            await orch.wait(waiting[0].id, timeout=LOOK_EVERY)
        except WaitTimeoutError:
            continue


async def show_progress(orch: Orchestrator, ids: list[str], console: Console) -> None:
    """Show a live table on a terminal; elsewhere a line for each news."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            async for executions in look(orch, ids):
                live.update(progress_table(executions), refresh=True)
        return
    told: dict[str, str] = {}
    async for executions in look(orch, ids):
        for execution in executions:
            news = f"{execution.phase:<9} {execution.message or ''}"
            if told.get(execution.id) != news:
                told[execution.id] = news
                console.print(
                    Text(f"  {execution.id}  {execution.name:<12} {news}".rstrip()),
                    soft_wrap=True,
                )


async def run(console: Console, pause: float) -> list[Handle]:
    """Submit both tasks and wait for them, and for what an earlier run left."""
    async with Orchestrator(DATABASE) as orch:
        live = [phase for phase in Phase if phase not in ENDED]
        left = await orch.list(phase=live, held=False)
        if left:
            console.print(f"Carrying on with {len(left)} executions of an earlier run.")
        handles = [
            await orch.submit(BatchJobTask(name="test_task")),
            await orch.submit(count_steps, {"pause": pause}),
        ]
        ids = [execution.id for execution in left] + [handle.id for handle in handles]
        await show_progress(orch, ids, console)
        for handle in handles:
            result = Text(f"{handle.id} gave {await handle.result()!r}")
            console.print(result, soft_wrap=True)
    return handles


# --- The audit: plain SQL ------------------------------------------------------------

HISTORY = """
SELECT e.name AS task, h.version AS v, h.cause, h.to_phase AS phase,
       round(h.seconds_since_previous, 2) AS seconds, h.message
FROM history_v1 AS h JOIN executions_v1 AS e ON e.id = h.execution_id
WHERE h.execution_id IN (?, ?)
ORDER BY e.id, h.version"""

EARLIER = """
SELECT id, name AS task, phase, substr(submitted_at, 1, 16) AS submitted
FROM executions_v1
WHERE id NOT IN (?, ?)
ORDER BY id DESC LIMIT 10"""


def show_query(console: Console, title: str, query: str, ids: Sequence[str]) -> None:
    """Run *query* with the standard library's SQLite, and print what it answers."""
    console.print()
    console.print(Text(title, style="bold"))
    console.print(Text(query.strip(), style="dim"))
    with closing(sqlite3.connect(DATABASE.rpartition(":///")[2])) as database:
        cursor = database.execute(query, ids)
        rows = cursor.fetchall()
        columns = [column[0] for column in cursor.description]
    if not rows:
        console.print("(none yet: run the example again)")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != "message")
    for row in rows:
        table.add_row(*[Text("" if cell is None else str(cell)) for cell in row])
    console.print(table)


def main() -> None:
    """Read the options, run both tasks, show what the database knows."""
    global JOB_SECONDS  # noqa: PLW0603 - the tutorial's job has no inputs
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=JOB_SECONDS)
    parser.add_argument("--pause", type=float, default=0.5)
    options = parser.parse_args()
    JOB_SECONDS = options.seconds
    console = Console()
    try:
        handles = asyncio.run(run(console, options.pause))
    except KeyboardInterrupt:
        console.print("Interrupted. The jobs go on; run it again to carry on.")
        raise SystemExit(130) from None
    ids = [handle.id for handle in handles]
    show_query(console, "History, read back with SQL", HISTORY, ids)
    show_query(console, "Earlier executions of this database", EARLIER, ids)


if __name__ == "__main__":
    main()
