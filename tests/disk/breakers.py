"""Ways to let a disk fail under a running worker, and to mend it."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
from pathlib import Path
from typing import Protocol

_DETACH_S = 10.0


class Breaker(Protocol):
    """One way for a disk to fail."""

    message: str
    """What the engine's log must say of it."""

    def fail(self, pid: int, database: Path) -> None:
        """Let the disk fail under the process."""
        ...

    def mend(self) -> None:
        """Make it good again."""
        ...


class Limit:
    """No file of the process may grow: needs neither root nor strace.

    What the process writes beyond comes back as an error or a short write, which
    SQLite takes for a disk that fails or is full.
    """

    message = "the disk "

    def fail(self, pid: int, database: Path) -> None:
        """Lower the limit to what the log of the database has."""
        self._pid = pid
        _, self._hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        size = Path(f"{database}-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, self._hard))

    def mend(self) -> None:
        """Lift the limit, of a process that is still there."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (self._hard, self._hard))


class Full:
    """Something else fills the file system: to be used on a small one."""

    message = "disk is full"

    def fail(self, pid: int, database: Path) -> None:
        """Write until nothing more goes in."""
        self._ballast = database.with_name("ballast")
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def mend(self) -> None:
        """Remove it."""
        self._ballast.unlink()


class Injected:
    """System calls on the database files return an error, by strace."""

    def __init__(self, calls: str, error: str, message: str) -> None:
        """Let *calls*, with commas, return *error*."""
        self.message = message
        self._calls = calls
        self._error = error

    def fail(self, pid: int, database: Path) -> None:
        """Attach to the process; returns when its calls fail."""
        paths = [database, Path(f"{database}-wal"), database.parent]
        self._strace = subprocess.Popen(
            [
                *("strace", "-f", "-p", str(pid), "-o", "/dev/null"),
                *(word for path in paths for word in ("-P", str(path))),
                *("-e", f"trace={self._calls}"),
                *("-e", f"inject={self._calls}:error={self._error}"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._strace.stderr is not None
        for line in self._strace.stderr:
            if "attached" in line:
                return
        raise RuntimeError("strace could not attach to the worker")

    def mend(self) -> None:
        """Detach."""
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=_DETACH_S)
