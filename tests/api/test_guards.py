"""The guards of conftest.py fail the tests that they are there to fail."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.api.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

GUILTY = {
    "a task is left pending": (
        "tasks left pending",
        """
        async def test():
            test.kept = asyncio.create_task(asyncio.Event().wait())
        """,
    ),
    "a thread is left running": (
        "threads left running",
        """
        async def test():
            wait = threading.Event().wait
            threading.Thread(target=wait, args=(60,), daemon=True).start()
        """,
    ),
    "the library blocks the loop": (
        "Blocking call",
        """
        async def test():
            load_config()
        """,
    ),
    "something warns": (
        "UserWarning",
        """
        def test():
            warnings.warn("careless")
        """,
    ),
}
INNOCENT = """
        @pytest.mark.may_block
        async def test_marked():
            load_config()

        def test_without_a_loop():
            load_config()

        async def test_that_cleans_up(resource):
            await asyncio.sleep(0)

        @pytest.fixture
        async def resource():
            task = asyncio.create_task(asyncio.Event().wait())
            yield
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
"""
HEAD = """
import asyncio, contextlib, threading, warnings
import pytest
from orchestrator._config import load_config
"""


def _run(folder: Path, body: str) -> str:
    """Run *body* as a test module under this project's conftest and settings."""
    lines = [line.removeprefix(" " * 8) for line in body.splitlines()]
    (folder / "test_it.py").write_text(HEAD + "\n".join(lines))
    (folder / "conftest.py").write_text(
        "import tests.conftest\n"
        "tests.conftest.THREAD_END_S_MAX = 0.1\n"
        "from tests.conftest import *\n"
    )
    options = (
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        folder,
        "-p",
        "no:cacheprovider",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, folder],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("guilt", GUILTY)
def test_a_careless_test_fails(guilt: str, tmp_path: Path) -> None:
    """Each guard names what was left behind."""
    complaint, body = GUILTY[guilt]
    printed = _run(tmp_path, body)
    assert complaint in printed
    assert "1 passed" not in printed or "1 error" in printed


def test_a_careful_test_passes(tmp_path: Path) -> None:
    """What is marked, has no loop, or is closed by its fixture, is no leak."""
    assert "3 passed" in _run(tmp_path, INNOCENT)
