"""The example of Flyte's own tasks runs, and is killed and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.example import run

if TYPE_CHECKING:
    from pathlib import Path


def test_a_local_run_of_flyte_that_is_killed_goes_on_with_its_job(
    tmp_path: Path,
) -> None:
    """The second run finds the execution by its key; the service has one job."""
    said = run(tmp_path, "11_flyte_tasks.py")
    assert "job-1 is RUNNING" in said
    assert "the script died of signal 9" in said
    assert "outputs: job-1.pdf" in said
    assert "jobs at the service: 1" in said
    assert said.rstrip().endswith("REMOTE_SUCCEEDED   SUCCEEDED")
