"""Running an example as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.api.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 45.0


def start(
    folder: Path, name: str, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run an example as a user would."""
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def run(folder: Path, name: str, *arguments: str, **environ: str) -> str:
    """Run an example as a user would, and return what it printed."""
    done = start(folder, name, *arguments, **environ)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout
