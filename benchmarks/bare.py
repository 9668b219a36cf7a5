"""A, the bare calls: what W asks of the service, by asyncio alone, nothing stored."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from flyteidl2.core.execution_pb2 import TaskExecution
from flyteidl2.core.tasks_pb2 import TaskTemplate as TaskTemplateProto

from benchmarks.meter import Measurement
from benchmarks.service import INPUTS, FreeConnector

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any


class Bare:
    """Executions that live in memory, one asyncio task each."""

    def __init__(self, executions: int, polls: int) -> None:
        """Prepare *executions* that are polled *polls* times each."""
        self.executions = executions
        self.connector = FreeConnector(executions, polls)
        self.template = TaskTemplateProto(type="free")
        self.outputs: dict[int, Mapping[str, Any]] = {}
        self.history: list[tuple[int, str, int]] = []

    def _enter(self, execution: int, phase: str) -> None:
        self.history.append((execution, phase, time.time_ns() // 1000))

    async def _one(self, execution: int) -> None:
        self._enter(execution, "CREATING")
        meta = await self.connector.create(self.template, "", INPUTS)
        self._enter(execution, "RUNNING")
        resource = await self.connector.get(meta)
        while resource.phase != TaskExecution.SUCCEEDED:
            resource = await self.connector.get(meta)
        assert isinstance(resource.outputs, dict)
        self.outputs[execution] = resource.outputs
        self._enter(execution, "SUCCEEDED")

    async def run(self) -> None:
        """Carry all of them to their end."""
        await asyncio.gather(*(self._one(number) for number in range(self.executions)))


def measure(executions: int, polls: int, folder: Path) -> Measurement:
    """Run *executions* with *polls* calls of ``get`` each; *folder* stays empty."""
    del folder
    return asyncio.run(_measure(executions, polls))


async def _measure(executions: int, polls: int) -> Measurement:
    bare = Bare(executions, polls)
    with Measurement(executions) as measurement:
        await bare.run()
    assert (len(bare.outputs), len(bare.history)) == (executions, 3 * executions)
    return measurement
