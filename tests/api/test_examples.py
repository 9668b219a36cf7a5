"""Every example runs, in a folder of its own, and shows what it promises to show."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from orchestrator._extras import how_to_install
from tests.api.project import ROOT
from tests.support.example import run, start
from tests.support.without import without

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))


def phases(database: Path) -> list[tuple[str, str]]:
    """Return name and phase of every execution, oldest first."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT name, phase FROM executions_v1 ORDER BY id"
        return connection.execute(query).fetchall()


def test_the_first_example_shows_progress_history_and_earlier_runs(
    tmp_path: Path,
) -> None:
    """A second run on the same database finds the executions of the first."""
    quick = ("--seconds", "0.2", "--pause", "0.01")
    first = run(tmp_path, "01_batch_job.py", *quick)
    assert "step 6 of 6" in first
    assert "output-from-" in first
    assert "CREATE_INTENT" in first
    assert "REMOTE_SUCCEEDED" in first
    assert "none yet" in first
    second = run(tmp_path, "01_batch_job.py", *quick)
    assert "none yet" not in second
    known = phases(tmp_path / "orchestrator.db")
    assert known == [("test_task", "SUCCEEDED"), ("count_steps", "SUCCEEDED")] * 2
    with closing(sqlite3.connect(tmp_path / "orchestrator.db")) as connection:
        query = "SELECT id FROM executions_v1 ORDER BY id LIMIT 2"
        ids = [row[0] for row in connection.execute(query)]
    assert all(execution_id in second for execution_id in ids)


def test_the_first_example_takes_its_database_from_the_environment(
    tmp_path: Path,
) -> None:
    """A URL does as well as a path."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"
    options = ("--seconds", "0.1", "--pause", "0.01")
    run(tmp_path, "01_batch_job.py", *options, ORCHESTRATOR_DATABASE=url)
    assert len(phases(tmp_path / "other.db")) == 2
    assert not (tmp_path / "orchestrator.db").exists()


def test_the_own_connector_pays_once_both_ways(tmp_path: Path) -> None:
    """A create that was cut off is replayed, or its job is found."""
    said = run(tmp_path, "02_own_connector.py")
    assert said.count("CREATE_UNKNOWN CREATE_ERROR") == 2
    assert "REPLAYED" in said
    assert "ADOPTED" in said
    assert said.count("the service has 1 job") == 2


def test_a_secret_is_used_and_found_nowhere(tmp_path: Path) -> None:
    """Neither in the message that quoted it, nor in the database."""
    said = run(tmp_path, "03_secrets.py")
    assert "key of 28 characters" in said
    assert "Bearer *** was accepted" in said
    assert "holds the value: False" in said


def test_a_killed_orchestrator_is_resumed_and_the_command_ran_once(
    tmp_path: Path,
) -> None:
    """The child dies of SIGKILL while its command runs."""
    said = run(tmp_path, "04_crash_and_resume.py", "--seconds", "1")
    assert "was there before: True" in said
    assert "result: invoice sent" in said
    assert "invoices sent: 1" in said


def test_a_connector_is_tested_and_its_fault_is_named(tmp_path: Path) -> None:
    """The good one passes all; of the other one the promise fails, with advice."""
    said = run(tmp_path, "05_test_your_connector.py")
    good, _, bad = said.partition("ForgetfulConnector")
    assert "ok            crash at create.after_call" in good
    assert "failed" not in good
    assert "failed        create_is_idempotent" in bad
    assert "failed        crash at create.after_call" in bad
    assert bad.count("failed  ") == 3
    assert not list(tmp_path.iterdir())


def test_a_query_runs_once_though_its_answer_was_lost(tmp_path: Path) -> None:
    """Against the stand-in, through Google's client; the other query is aborted."""
    said = run(tmp_path, "06_bigquery.py")
    assert "CREATE_UNKNOWN  CREATE_ERROR" in said
    assert "REPLAYED" in said
    assert "'products': 3, 'sold': 42" in said
    assert "bytes processed: " in said
    assert "the other query: ABORTED" in said


def test_a_declared_api_is_used_without_code_and_makes_one_job(tmp_path: Path) -> None:
    """The lost answer is asked for again, with the same token."""
    said = run(tmp_path, "09_http_api.py")
    assert "CREATE_ERROR     CREATING        -> CREATE_UNKNOWN" in said
    assert "REPLAYED" in said
    assert "submits: 2, jobs: 1" in said
    assert phases(tmp_path / "orchestrator.db") == [("nightly", "SUCCEEDED")]


def test_a_flyte_service_is_driven_from_another_process(tmp_path: Path) -> None:
    """What it has is discovered, and its job runs as an execution here."""
    said = run(tmp_path, "10_flyte_service.py")
    assert "has Words Connector: words (0)" in said
    assert "words: 5" in said
    assert "said: counted at the service" in said
    assert "the service ended with 0" in said
    assert phases(tmp_path / "orchestrator.db") == [("count_words", "SUCCEEDED")]


def test_a_notebook_runs_once_though_its_answer_was_lost(tmp_path: Path) -> None:
    """Against the stand-in, through Databricks' SDK: its run is found and adopted."""
    said = run(tmp_path, "08_databricks.py")
    assert "CREATE_UNKNOWN  CREATE_ERROR" in said
    assert "ADOPTED" in said
    assert "CREATE_AGAIN" not in said
    assert "outputs:     (42, 1)" in said
    assert "Databricks run: http://127.0.0.1:" in said
    assert "the other:   ABORTED" in said


def test_a_query_is_found_by_its_tag_though_its_answer_was_lost(
    tmp_path: Path,
) -> None:
    """Against the stand-in, through Snowflake's client; the other query is aborted."""
    said = run(tmp_path, "07_snowflake.py")
    assert "CREATE_UNKNOWN  CREATE_ERROR" in said
    assert "'PRODUCTS': 3, 'SOLD': 42" in said
    assert "bytes scanned: " in said
    assert "the other query: ABORTED" in said


def test_a_web_app_accepts_a_job_once_and_deletes_one(tmp_path: Path) -> None:
    """Over HTTP: the same key is the same job, DELETE ends one."""
    said = run(tmp_path, "12_fastapi.py")
    assert "accepted: 202 the same: True" in said
    assert "another request with that key: 409" in said
    assert "SUCCEEDED: 'slept 0.2'" in said
    assert "the long one: ABORTED" in said
    assert "unknown: 404" in said
    assert "refused: 422 idempotency_key" in said
    assert {"process SUCCEEDED 1", "process ABORTED 1"} <= set(said.splitlines())
    assert [phase for _, phase in phases(tmp_path / "orchestrator.db")] == [
        "SUCCEEDED",
        "ABORTED",
    ]


@pytest.mark.parametrize(
    ("name", "missing", "told"),
    [
        ("06_bigquery.py", "google.cloud.bigquery", how_to_install("bigquery")),
        ("07_snowflake.py", "snowflake", how_to_install("snowflake")),
        ("08_databricks.py", "databricks", how_to_install("databricks")),
        ("09_http_api.py", "httpx", how_to_install("http")),
        ("09_http_api.py", "yaml", how_to_install("http")),
        ("10_flyte_service.py", "grpc", how_to_install("grpc")),
        ("11_flyte_tasks.py", "flyte", "pip install '/path/to/checkout[flyte]'"),
        ("12_fastapi.py", "fastapi", "pip install fastapi uvicorn httpx"),
        ("12_fastapi.py", "httpx", "pip install fastapi uvicorn httpx"),
    ],
)
def test_an_example_without_its_library_ends_in_one_line(
    tmp_path: Path, name: str, missing: str, told: str
) -> None:
    """Which says what to install."""
    (tmp_path / "sitecustomize.py").write_text(without(missing))
    done = start(tmp_path, name, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 1
    assert done.stderr.endswith(f": {told}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_has_a_test(path: Path) -> None:
    """An example that nobody runs is wrong soon."""
    assert f'"{path.name}"' in (ROOT / "tests/api/test_examples.py").read_text()
