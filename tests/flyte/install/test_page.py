"""The program of docs/flyte-install.md means what is installed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.flyte import uninstall
from tests.api.project import ROOT

if TYPE_CHECKING:
    import pytest


def test_the_program_of_the_page_runs_as_far_as_a_warehouse_is_not_needed(
    flyte_registry: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/flyte-install.md").read_text()
    (program,) = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    without_a_run, _, run = program.partition("flyte.init()")
    assert 'with_runcontext(mode="local").run(count)' in run
    names: dict[str, object] = {}
    try:
        exec(without_a_run, names)  # noqa: S102 - our own page
    finally:
        uninstall()
    assert getattr(names["count"], "name", None) == "count"
