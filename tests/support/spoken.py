"""Start a server as a process of its own, and hear where it listens."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
_STOP_S = 10.0


@contextmanager
def spoken(module: str, *options: str) -> Iterator[tuple[str, int]]:
    """Run ``python -m module`` until the block ends, or this process dies.

    The program must take ``--until-stdin-closes`` and print one line when it serves.

    Yields:
        The line, and the process id.
    """
    command = [sys.executable, "-m", module, "--until-stdin-closes", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline().strip()
            if not line:
                msg = f"{module} did not start"
                raise RuntimeError(msg)
            yield line, process.pid
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
