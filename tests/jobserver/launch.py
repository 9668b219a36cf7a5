"""Start and stop a job server as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
_STOP_S = 10.0


@dataclass(frozen=True)
class RunningServer:
    """Where a started server listens, and the ledger it writes."""

    host: str
    port: int
    ledger: Path
    pid: int

    @property
    def address(self) -> str:
        """The address as the worker's command line takes it."""
        return f"{self.host}:{self.port}"


@contextmanager
def job_server(
    ledger: Path, *, seed: str = "0", remember_s: float = 1.0
) -> Iterator[RunningServer]:
    """Run a server on a free port until the block ends, or this process dies."""
    command = [
        *(sys.executable, "-m", "tests.jobserver", "--until-stdin-closes"),
        *("--ledger", str(ledger), "--seed", seed, "--remember-s", str(remember_s)),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("PORT "):
                msg = f"the job server did not start: {line!r}"
                raise RuntimeError(msg)
            yield RunningServer("127.0.0.1", int(line[5:]), ledger, process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
