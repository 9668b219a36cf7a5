"""Start and stop a job server as a process of its own."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.spoken import ROOT, spoken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ROOT", "RunningServer", "job_server"]


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
    options = ("--ledger", str(ledger), "--seed", seed, "--remember-s", str(remember_s))
    with spoken("tests.jobserver", *options) as (line, pid):
        yield RunningServer("127.0.0.1", int(line.removeprefix("PORT ")), ledger, pid)
