"""The connectors that documents and examples show keep what is asked of any."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import TaskTemplate
from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator.models import NativeInterface
from orchestrator.testing import Outcome, check_connector
from tests.api.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path
    from types import ModuleType

SHOWN = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*.py")),
]
A_CONNECTOR = re.compile(r"^class (\w+)\(.*Connector\b.*\):", re.MULTILINE)
IN_ITS_EXAMPLE = {"BatchConnector", "ForgetfulConnector", "ReportConnector"}
"""Checked by the example itself, which `test_examples` runs; one is bad on purpose, and
one is for Flyte's package, as it is often written: ``make test-flyte`` runs it."""


@dataclass
class Model:
    """A connector that somebody will copy.

    Attributes:
        connector: Its class.
        inputs: Of its task, which declares them by their types.
        outputs: What the task declares besides.
        arguments: Of the class.
        members: Of the module, replaced.
    """

    connector: str
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, type] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)


MODELS = [
    Model("CopyConnector", {"rows": 42}, {"copied": int}),
    Model("VendorConnector", {"sql": "SELECT 1"}),
    Model(
        "BatchJobConnector",
        outputs={"result": str},
        members={"JOB_SECONDS": 0.05},
    ),
    Model("RememberingConnector", {"rows": 42}, {"copied": int}),
    Model("FindingConnector", {"rows": 42}, {"copied": int}),
    Model(
        "SecureConnector",
        outputs={"report": str},
        arguments={"secrets": {"api_key": "REPORT_API_KEY"}},
    ),
    Model("WordsConnector", {"text": "one row each"}, {"words": int}),
]


def programs() -> dict[str, str]:
    """Return the code that shows a connector, by the connector's name."""
    found: dict[str, str] = {}
    for path in SHOWN:
        text = path.read_text()
        blocks = [text]
        if path.suffix == ".md":
            fenced = r"^```python\n(.*?)^```"
            blocks = re.findall(fenced, text, re.DOTALL | re.MULTILINE)
        found |= {name: code for code in blocks for name in A_CONNECTOR.findall(code)}
    return found


@pytest.fixture
def unregistered() -> Iterator[None]:
    """Forget what a program has registered."""
    before = set(DEFAULT_REGISTRY.keys())
    yield
    for key in set(DEFAULT_REGISTRY.keys()) - before:
        DEFAULT_REGISTRY.unregister(*key)


@pytest.fixture
def module(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unregistered: None,
) -> ModuleType:
    """Import the program that shows the model; its main is not run."""
    model: Model = request.getfixturevalue("model")
    path = tmp_path / "shown.py"
    path.write_text(programs()[model.connector])

    def left_out(main: Coroutine[Any, Any, None]) -> None:
        main.close()

    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, loaded)  # dataclasses look there
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "run", left_out)
        patched.setattr(sys, "excepthook", sys.excepthook)  # examples have their own
        patched.syspath_prepend(ROOT / "examples")
        spec.loader.exec_module(loaded)
    for name, value in model.members.items():
        monkeypatch.setattr(loaded, name, value)
    return loaded


@pytest.mark.may_block
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.connector)
def test_a_connector_to_copy_passes_its_own_check(
    model: Model, module: ModuleType
) -> None:
    """README's own, and all others: what is copied must not be what is refused."""
    connector = getattr(module, model.connector)(**model.arguments)
    types = {name: type(value) for name, value in model.inputs.items()}
    task = TaskTemplate(
        name="a_task",
        interface=NativeInterface(inputs=types, outputs=model.outputs),
        task_type=connector.task_type_name,
    )
    quick = timedelta(milliseconds=5)
    report = asyncio.run(
        check_connector(connector, task, model.inputs, poll_every=quick)
    )
    report.assert_ok()
    assert report["run"].outcome is Outcome.OK
    assert report["get_after_delete"].outcome is Outcome.OK


def test_no_connector_is_shown_that_is_not_checked() -> None:
    """A new one is added to the list above."""
    assert set(programs()) == {model.connector for model in MODELS} | IN_ITS_EXAMPLE
