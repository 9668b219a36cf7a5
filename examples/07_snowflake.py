"""Snowflake: a query with inputs whose submission got no answer, its rows, its cost.

It talks to a stand-in of the project's own, which it starts with
``python -m tests.emulators.snowflake`` from the checkout, through Snowflake's client.
For the real service leave ``endpoint`` out and name an account and a secret of yours.
The first answer of the stand-in is lost on purpose: the query is found by its tag.
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
from orchestrator.connectors.snowflake import (
    SnowflakeConfig,
    SnowflakeConnector,
    SnowflakeTask,
    read,
)
from orchestrator.io import DataFrame

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = os.environ.get("ORCHESTRATOR_DATABASE", "orchestrator.db")
CHECKOUT = Path(__file__).resolve().parents[1]

config = SnowflakeConfig(
    account="myorg-myaccount",
    user="RUNNER",
    database="SHOP",
    schema="PUBLIC",
    warehouse="SMALL",
)
sales = SnowflakeTask(
    "sales_of_a_day",
    # The comment tells the stand-in how long the query runs.
    query_template="""
        SELECT %(day)s AS day, COUNT(*) AS products, SUM(column1) AS sold
        FROM (VALUES (3), (4), (35)) WHERE column1 > %(least)s /* sleep=0.5 */
    """,
    plugin_config=config,
    inputs={"day": date, "least": int},
    output_dataframe_type=DataFrame,
)
endless = SnowflakeTask("endless", "SELECT 1 /* sleep=3600 */", config)


async def main(endpoint: str) -> None:
    """Run both queries."""
    connector = SnowflakeConnector(endpoint=endpoint)
    connector.policy = Policy(
        poll_delay_min=timedelta(milliseconds=200),
        poll_delay_max=timedelta(seconds=1),
        error_delay_min=timedelta(milliseconds=100),
        find_settle=timedelta(seconds=1),  # minutes, for the real service
    )
    ConnectorRegistry.register(connector)
    async with Orchestrator(DATABASE) as orch:
        handle = await orch.submit(sales, {"day": date(2024, 2, 29), "least": 0})
        execution = await handle.wait(timeout=30)
        for step in await handle.history():
            print(f"{step.to_phase:<15} {step.cause}")
        info = execution.custom_info or {}
        print("query:          ", execution.job_key)
        print("bytes scanned:  ", info["bytes_scanned"])
        print("console:        ", execution.log_links[0]["uri"])
        results = await handle.result()
        rows = await asyncio.to_thread(read, results, "rows", endpoint=endpoint)
        print("rows:           ", rows)

        handle = await orch.submit(endless, {})
        await handle.abort("not needed any more")
        execution = await handle.wait(timeout=30)
        print("the other query:", execution.phase, "-", execution.abort_reason)
    connector.close()


@contextmanager
def stand_in(folder: str) -> Iterator[str]:
    """Run the stand-in, let it lose its first answer, and yield its URL."""
    command = [sys.executable, "-m", "tests.emulators.snowflake"]
    with subprocess.Popen(  # noqa: S603 - our own module
        [*command, "--until-stdin-closes", "--ledger", f"{folder}/ledger.db"],
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
    # Snowflake's client is not to ask this machine's cloud where it is.
    os.environ.setdefault("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
    with tempfile.TemporaryDirectory() as folder, stand_in(folder) as url:
        asyncio.run(main(url))
