"""The program of docs/flyte-install.md means what is installed."""

from __future__ import annotations

import re
import warnings

from orchestrator.flyte import uninstall
from tests.api.project import ROOT
from tests.flyte.install import stand_ins


def test_the_program_of_the_page_runs_as_far_as_a_warehouse_is_not_needed(
    flyte_registry: type,
) -> None:
    page = (ROOT / "docs/flyte-install.md").read_text()
    (program,) = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    without_a_run, _, run = program.partition("flyte.init()")
    assert 'with_runcontext(mode="local").run(count)' in run
    names: dict[str, object] = {}
    try:
        with stand_ins.pyspark(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Flyte's plugins import
            exec(without_a_run, names)  # noqa: S102 - our own page
    finally:
        uninstall()
    assert getattr(names["count"], "name", None) == "count"
