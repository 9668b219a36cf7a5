"""A process that answers with too much, and prints what refusing it cost in memory.

``python -m tests.engine.large FOLDER`` prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

from flyteidl2.core.execution_pb2 import TaskExecution, TaskLog

from orchestrator import Orchestrator, Policy
from orchestrator.connectors import Resource
from orchestrator.errors import PermanentError
from tests.engine.kit import Script, a_task, registry_of

MEGABYTE = 2**20
PIECE = "x" * MEGABYTE
LONG = "x" * (64 * MEGABYTE)
GIGABYTE = [PIECE] * 1024
"""As a value: one megabyte of memory, of which every copy takes a gigabyte."""
QUICKLY = Policy(poll_delay_min=timedelta(milliseconds=10))
LINK = TaskLog(name="log", uri="https://example.com/1")
DONE: dict[str, Any] = {"phase": TaskExecution.SUCCEEDED}
ANSWERS = {
    "outputs": Resource(**DONE, outputs={"result": GIGABYTE}),
    "message": Resource(**DONE, message=LONG, outputs={"result": []}),
    "links": Resource(**DONE, log_links=[LINK] * 1_000_000, outputs={"result": []}),
    "info": Resource(
        **DONE, custom_info={"all": GIGABYTE, "one": LONG}, outputs={"result": []}
    ),
    "error": PermanentError(LONG),
}


async def main(folder: Path) -> None:
    """Run one execution for each answer, and one that behaves."""
    scripts = [
        Script(name, get=[answer], delete_is_final=True)
        for name, answer in ANSWERS.items()
    ]
    good = Resource(**DONE, outputs={"result": ["fine"]})
    registry = registry_of(*scripts, Script("good", get=[good]))
    for script in registry:
        script.policy = QUICKLY
    async with Orchestrator(folder / "o.db", registry=registry) as orch:
        tracemalloc.start()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tasks = [a_task(task_type=n, outputs={"result": list}) for n in ANSWERS]
        handles = [await orch.submit(task) for task in tasks]
        handles += [
            await orch.submit(a_task(task_type="good", outputs={"result": list}))
        ]
        for handle in handles:
            await handle.wait(timeout=30)
        peak = tracemalloc.get_traced_memory()[1]
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss
        ended = {}
        for name, handle in zip([*ANSWERS, "good"], handles, strict=True):
            row = await handle.get()
            ended[name] = {
                "phase": row.phase,
                "code": row.error_code,
                "message": row.error_message or row.message,
                "links": len(row.log_links),
                "info": row.custom_info,
                "error": row.last_error,
            }
    sys.stdout.write(json.dumps({"peak": peak, "rss": rss * 1024, "ended": ended}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
