"""Flyte's local run, killed and run again: real processes, one paid job."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.jobserver.launch import ROOT, job_server
from tests.jobserver.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.jobserver.launch import RunningServer

END_S = 40.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """Run a job server in a process of its own."""
    with job_server(tmp_path / "ledger.db") as running:
        yield running


def _command(server: RunningServer, folder: Path, *arguments: str) -> list[str]:
    script = "tests.flyte.install.script"
    database = str(folder / "o.db")
    return [sys.executable, "-m", script, server.address, database, *arguments]


def _run(server: RunningServer, folder: Path, *arguments: str) -> list[str]:
    """Run the script to its end, and return its lines."""
    done = subprocess.run(
        _command(server, folder, *arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _stop(
    server: RunningServer,
    folder: Path,
    by: signal.Signals,
    at: str,
    *arguments: str,
) -> tuple[int, str]:
    """Run the script until it calls *at*, send a signal, return how it ended."""
    command = _command(server, folder, "--key", "k", *arguments)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == at:
                break
        process.send_signal(by)
        try:
            _, errors = process.communicate(timeout=END_S)
        finally:
            process.kill()
    return process.returncode, errors


@pytest.mark.parametrize("method", ["create", "get"])
def test_a_killed_run_goes_on_with_its_key_and_is_paid_once(
    method: str, server: RunningServer, tmp_path: Path
) -> None:
    """Killed with the job made and its answer not stored, or while it was polled."""
    killed = _stop(server, tmp_path, signal.SIGKILL, method, "--stop-in", method)
    assert killed[0] == -signal.SIGKILL, killed[1]
    lines = _run(server, tmp_path, "--key", "k")
    (job,) = Witness(server.ledger).jobs()
    assert lines[-1] == f"outputs {job.id}"
    assert job.attempt == 1


def test_a_run_that_is_interrupted_ends_and_its_job_goes_on(
    server: RunningServer, tmp_path: Path
) -> None:
    """Ctrl-C leaves no thread behind that would keep the process from ending."""
    code, errors = _stop(server, tmp_path, signal.SIGINT, "get", "--polls", "100000")
    assert code == -signal.SIGINT, errors
    (job,) = Witness(server.ledger).jobs()
    assert job.live
    assert not job.deletes
