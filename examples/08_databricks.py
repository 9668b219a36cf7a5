"""Databricks: a notebook with parameters, an existing job, and one that is aborted.

It talks to a stand-in of the project's own, which it starts with
``python -m tests.emulators.databricks`` from the checkout, through Databricks' own SDK.
For the real service give your workspace as ``host``, and a token in DATABRICKS_KEY.
The first answer of the stand-in is lost on purpose: the notebook runs once all the
same.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import _missing  # noqa: F401 - without its library it ends in one line

from orchestrator import Orchestrator, Policy
from orchestrator.connectors import ConnectorRegistry
from orchestrator.connectors.databricks import (
    Databricks,
    DatabricksConnector,
    DatabricksTask,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")
CHECKOUT = Path(__file__).resolve().parents[1]
KEY = {"databricks_token": "DATABRICKS_KEY"}

clean = DatabricksTask(
    "clean_events",
    plugin_config=Databricks(
        databricks_conf={
            "existing_cluster_id": "0923-164208-meows279",
            "notebook_task": {
                "notebook_path": "/Shared/clean",
                "base_parameters": {
                    "day": "{{.inputs.day}}",
                    # These tell the stand-in what the notebook does.
                    "sleep": "0.5",
                    "output": '{"rows": 42, "rejected": 1}',
                },
            },
        },
        **KEY,
    ),
    inputs={"day": date},
    outputs={"rows": int, "rejected": int},
)
endless = DatabricksTask(
    "endless",
    plugin_config=Databricks(
        databricks_conf={
            "new_cluster": {"num_workers": 2, "spark_version": "15.4.x-scala2.12"},
            "spark_python_task": {
                "python_file": "dbfs:/main.py",
                "parameters": ["sleep=3600"],
            },
        },
        **KEY,
    ),
)


async def main(host: str) -> None:
    """Run both."""
    connector = DatabricksConnector(host=host)
    connector.policy = Policy(
        poll_delay_min=timedelta(milliseconds=200),
        poll_delay_max=timedelta(seconds=1),
        error_delay_min=timedelta(milliseconds=100),
        find_settle=timedelta(seconds=1),
    )
    ConnectorRegistry.register(connector)
    async with Orchestrator(DATABASE) as orch:
        handle = await orch.submit(clean, {"day": date(2024, 2, 29)})
        execution = await handle.wait(timeout=30)
        for step in await handle.history():
            print(f"{step.to_phase:<15} {step.cause}")
        info = execution.custom_info or {}
        print("run:        ", execution.job_key)
        print("cluster:    ", info["cluster_ids"][0])
        print("run time:   ", info["execution_ms"], "ms")
        for link in execution.log_links[:2]:
            print(f"{link['name'] + ':':<12} {link['uri']}")
        print("outputs:    ", await handle.result())

        handle = await orch.submit(endless, {})
        await handle.abort("not needed any more")
        execution = await handle.wait(timeout=30)
        print("the other:  ", execution.phase, "-", execution.abort_reason)


@contextmanager
def stand_in(folder: str) -> Iterator[str]:
    """Run the stand-in, let it lose its first answer, and yield its URL."""
    module = "tests.emulators.databricks"
    command = [sys.executable, "-m", module, "--until-stdin-closes"]
    with subprocess.Popen(  # noqa: S603 - our own module
        [*command, "--ledger", f"{folder}/ledger.db"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().strip() if process.stdout else ""
        rules = json.dumps([{"do": "lose", "verb": "create", "times": 1}])
        rule = Request(f"{url}/-/rules", rules.encode(), method="PUT")  # noqa: S310
        with urlopen(rule):  # noqa: S310 - http on this machine
            yield url


if __name__ == "__main__":
    os.environ.setdefault("DATABRICKS_KEY", "dapi-of-the-stand-in")
    with tempfile.TemporaryDirectory() as folder, stand_in(folder) as url:
        asyncio.run(main(url))
