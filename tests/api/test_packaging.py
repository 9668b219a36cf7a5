"""The wheel: what is in it, that it works installed, and what it depends on."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import _extras
from tests.api.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

FIND_MIGRATIONS = """
import orchestrator, sys
from pathlib import Path
from orchestrator._storage._migrate import migrations_dir
print(Path(orchestrator.__file__).parent)
print(migrations_dir())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and from that the wheel, as a release would."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip installed the wheel, without dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--no-index", "--disable-pip-version-check", "--target", folder, wheel),
        ],
        check=True,
    )
    return folder


def _python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run this Python in *cwd*, with *path* before everything installed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={} if path is None else {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_its_migrations_and_no_more(
    wheel: Path,
) -> None:
    """Migrations lie inside the package; tests and examples stay at home."""
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {name for name in names if ".dist-info/" not in name}
    for folder, target in (
        ("orchestrator", "orchestrator"),
        ("migrations", "orchestrator/migrations"),
    ):
        expected = {
            f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert expected
        assert expected <= shipped
        shipped -= expected
    assert shipped == set()
    assert "orchestrator/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_migrations_are_found_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """An installed package upgrades a new database with its own migrations."""
    package, migrations = _python(
        "-c", FIND_MIGRATIONS, cwd=tmp_path, path=installed
    ).split()
    assert package == str(installed / "orchestrator")
    assert migrations == str(installed / "orchestrator" / "migrations")
    database = str(tmp_path / "new.db")
    command = ("-m", "orchestrator", "db")
    _python(*command, "upgrade", "--database", database, cwd=tmp_path, path=installed)
    assert "0001" in _python(
        *command, "current", "--database", database, cwd=tmp_path, path=installed
    )


def test_migrations_are_found_from_a_checkout(tmp_path: Path) -> None:
    """With the checkout on the path, installed or not, its own folder is taken."""
    package, migrations = _python(
        "-c", FIND_MIGRATIONS, cwd=tmp_path, path=ROOT
    ).split()
    assert package == str(ROOT / "orchestrator")
    assert migrations == str(ROOT / "migrations")


def test_migrations_are_found_from_an_editable_install(tmp_path: Path) -> None:
    """An editable install uses the checkout's migrations, never a stale copy."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    # Dependencies and pip are borrowed from this environment; the .pth files of
    # borrowed folders are not read, so the checkout comes from the install alone.
    borrowed = {"PYTHONPATH": sysconfig.get_path("purelib")}
    subprocess.run(
        [
            *(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--disable-pip-version-check"),
            *("--ignore-installed", "--editable", ROOT),
        ],
        check=True,
        env=borrowed,
    )
    done = subprocess.run(
        [python, "-c", FIND_MIGRATIONS],
        cwd=tmp_path,
        env=borrowed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(ROOT / "orchestrator"), str(ROOT / "migrations")]


def test_the_command_is_installed_with_the_wheel(installed: Path) -> None:
    """``orchestrator`` is a command, and it starts."""
    script = installed / "bin" / "orchestrator"
    assert "orchestrator.cli" in script.read_text()
    shown = _python(str(script), "--help", cwd=installed, path=installed)
    assert "usage" in shown.lower()


def test_a_missing_extra_is_told_by_its_own_distributions(installed: Path) -> None:
    """As the wheel's metadata has them: our own name may be a stranger's elsewhere."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    names = [name for name in extras if name not in ("test", "dev")]
    code = "import sys; from orchestrator._extras import how_to_install as how;"
    told = _python(
        *("-c", f"{code} print(*map(how, sys.argv[1:]), sep='\\n')", *names),
        cwd=installed,
        path=installed,
    )
    assert [shlex.split(line) for line in told.splitlines()] == [
        ["pip", "install", *sorted(extras[name])] for name in names
    ]


def test_a_checkout_that_is_not_installed_is_told_by_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also beside the metadata of a stranger of our name."""
    for found in (None, [], ["rich>=13", "other>=1; extra == 'other'"]):
        monkeypatch.setattr(_extras, "requires", lambda _, found=found: found)
        assert _extras.how_to_install("http") == f"pip install '{ROOT}[http]'"


_OWN = ("test", "dev", "flyte")
"""Extras of the project's own, and one that pins so much that it is tried alone."""


def _shipped(project: dict[str, Any]) -> list[str]:
    """Return what the library needs, with every connector's extra."""
    extras = project["optional-dependencies"]
    more = [extras[name] for name in sorted(extras) if name not in _OWN]
    return sum(more, list(project["dependencies"]))


def test_lower_bounds_are_the_versions_that_are_tried() -> None:
    """pyproject.toml promises what ``make test-oldest`` installs, no less."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = {
        re.sub(r"\[.*\]", "", requirement).split(">=")[0]: requirement.split(">=")[1]
        for requirement in _shipped(project)
    }
    tried = dict(
        line.split("==")
        for line in (ROOT / "tests/constraints-oldest.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert promised == tried


def test_the_bound_on_flyteidl2_admits_the_release_that_flyte_pins() -> None:
    """The flyte 2.12.1 release pins flyteidl2 2.0.51; both fit one environment."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "dependencies"
    ]
    (bound,) = [item for item in dependencies if item.startswith("flyteidl2")]
    lowest = tuple(int(part) for part in bound.split(">=")[1].split("."))
    assert lowest <= (2, 0, 51)
