"""The import contract of pyproject.toml holds, and would notice a breach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.project import ROOT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

BREACHES = {
    "a lower layer imports a higher one": (
        "_phase.py",
        "from orchestrator import _orchestrator",
        "Layers",
    ),
    "SQLAlchemy outside _storage": (
        "_engine/__init__.py",
        "import sqlalchemy",
        "SQLAlchemy and Alembic",
    ),
    "gRPC outside flyte": ("connectors/_states.py", "import grpc", "gRPC stays"),
    "the machine reads the clock": ("_machine.py", "import time", "machine are pure"),
    "the command uses the test kit": (
        "cli/_run.py",
        "from orchestrator import testing",
        "test kit is for tests",
    ),
    "the test kit needs pytest": (
        "testing/_scripted.py",
        "import pytest",
        "No test framework",
    ),
    "flyte outside orchestrator.flyte": (
        "_engine/__init__.py",
        "import flyte",
        "flyte package stays",
    ),
    "a module without a place": ("_misc.py", "", "Layers"),
}


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_import_contract_is_kept() -> None:
    """No module imports a higher layer, and foreign libraries stay in their place."""
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_contract_is_noticed(breach: str, tmp_path: Path) -> None:
    """A planted import breaks the contract that is meant to forbid it."""
    file, planted, contract = BREACHES[breach]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "orchestrator",
        tmp_path / "orchestrator",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    with (tmp_path / "orchestrator" / file).open("a") as target:
        target.write(f"\n{planted}\n")
    done = _lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    assert any(contract in line for line in broken), done.stdout
