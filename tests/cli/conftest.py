"""A folder, a registry and a way to call the command for each test."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator._registry import DEFAULT_REGISTRY
from orchestrator.cli import main
from tests.api.project import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIES = 50  # of moments, on a machine that is busy with other things
QUICK = str(ROOT / "tests/cli/quick.py")


@dataclass(frozen=True)
class Said:
    """What one call of the command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the JSON on standard output."""
        return json.loads(self.out)


class Cli:
    """Calls the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        """Read what is printed from *capsys*; run in *folder*."""
        self._capsys = capsys
        self.folder = folder
        self.database = folder / "orchestrator.db"

    def __call__(self, *arguments: str) -> Said:
        """Call the command."""
        self._capsys.readouterr()
        code = main(arguments)
        captured = self._capsys.readouterr()
        return Said(code, captured.out, captured.err)

    def run(self, mode: str, *arguments: str, task: str = "task") -> Said:
        """Call ``run`` with the test's task."""
        return self("run", f"{QUICK}:{task}", "--input", f"mode={mode}", *arguments)

    def accepted(self, mode: str, *arguments: str) -> str:
        """Return the id of an execution that nobody runs."""
        said = self.run(mode, "--no-wait", *arguments)
        assert said.code == 0, said.err
        return said.out.strip()

    def going_on(self, mode: str, task: str = "task") -> str:
        """Return the id of an execution that has come as far as it can."""
        key = ("--idempotency-key", f"{mode} {task}", "--timeout", "0.2", "--json")
        record: dict[str, str] = {}
        for _ in range(TRIES):
            assert self.run(mode, *key, task=task).code == 1
            record = self("ls", "--limit", "1", "--json").json[0]
            if record["hold"] or record["phase"] == "RUNNING":
                return record["id"]
        raise AssertionError(record)

    def until_phase(self, execution_id: str, phase: str) -> None:
        """Run the database for moments until an execution has come to *phase*."""
        found: dict[str, str] = {}
        for _ in range(TRIES):
            self.run("never", "--idempotency-key", "moment", "--timeout", "0.1")
            found = self("show", execution_id, "--json").json
            if found["phase"] == phase:
                return
        raise AssertionError(found)


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    """Let every test import its connectors anew."""
    registry, metadata = DEFAULT_REGISTRY._registry, DEFAULT_REGISTRY._metadata
    before = dict(registry), dict(metadata), list(sys.path)
    registry.clear()
    metadata.clear()
    yield
    registry.clear()
    metadata.clear()
    registry.update(before[0])
    metadata.update(before[1])
    sys.path[:] = before[2]
    for name in list(sys.modules):
        if name.startswith("orchestrator_file_"):
            del sys.modules[name]


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Cli:
    """Return the command, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Cli(capsys, tmp_path)
