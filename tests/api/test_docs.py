"""Facts that the documents repeat from the code are the code's."""

from __future__ import annotations

import dataclasses
import re
import textwrap
import tomllib
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import __version__
from orchestrator._config import Config, Policy
from orchestrator.cli import _errors
from orchestrator.cli._parser import command_names
from tests.api.project import ROOT, python_files

SETTINGS = [
    pytest.param(owner, setting, id=f"{owner.__name__}.{setting.name}")
    for owner in (Config, Policy)
    for setting in dataclasses.fields(owner)
]
TEXTS = {
    name: (ROOT / name).read_text()
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/settings.md")
}
README = " ".join(TEXTS["README.md"].split())
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(("owner", "setting"), SETTINGS)
def test_every_setting_is_explained_in_its_class(
    owner: type, setting: dataclasses.Field[object]
) -> None:
    """The ``Attributes`` section says what each setting does."""
    _, _, attributes = textwrap.dedent(owner.__doc__ or "").partition("Attributes:\n")
    assert re.search(rf"^ +{setting.name}: \w", attributes, re.MULTILINE)


@pytest.mark.parametrize(
    ("sentence", "setting"),
    [
        (r"none after `find_settle` \((\d+) s\)", Policy().find_settle),
        (r"polled (\d+) s after it began", Policy().poll_delay_min),
        (r"of its age and (\d+) s at most", Policy().poll_delay_max),
        (r"within (\d+) s by one that runs already", Config().heartbeat),
        (r"loses its lease after (\d+) s", Config().lease),
    ],
)
def test_the_readme_says_defaults_as_they_are(
    sentence: str, setting: timedelta
) -> None:
    """Numbers in its sentences are those of Config and Policy."""
    found = re.search(sentence, README)
    assert found
    assert timedelta(seconds=int(found.group(1))) == setting


def test_the_readme_lists_the_exit_codes() -> None:
    """Those of the command, and 130 for Ctrl-C."""
    _, _, table = TEXTS["README.md"].partition("| exit code | means |\n")
    rows = table.partition("\n\n")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", rows, re.MULTILINE)}
    codes = {_errors.OK, _errors.DID_NOT_SUCCEED, _errors.REFUSED, _errors.NO_DATABASE}
    assert listed == codes | {130}


def test_every_variable_that_is_read_is_documented() -> None:
    """Settings by their rule; the others by name. None is invented."""
    code = "".join(path.read_text() for path in python_files("orchestrator"))
    # What the process connector tells its commands is theirs to read.
    read = set(re.findall(r"""environ(?:\.get\(|\[)"(ORCHESTRATOR_\w+)""", code))
    assert {"ORCHESTRATOR_DATABASE", "ORCHESTRATOR_DEBUG"} <= read
    assert all(name in TEXTS["docs/settings.md"] for name in read)
    settings = {f"ORCHESTRATOR_{s.name.upper()}" for s in dataclasses.fields(Config)}
    for page, text in TEXTS.items():
        for name in re.findall(r"ORCHESTRATOR_[A-Z_]*[A-Z]", text):
            assert name in read | settings, (page, name)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_in_the_text_is_one(page: str) -> None:
    """Also outside the code blocks."""
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", TEXTS[page]))
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_every_path_in_the_text_exists(page: str) -> None:
    """A file that moved is not left behind in a sentence."""
    ours = (
        r"`((?:orchestrator|tests|docs|examples|benchmarks|migrations|\.ci)/[\w./]*)`"
    )
    for path in re.findall(ours, TEXTS[page]):
        assert (ROOT / path).exists(), path


def test_the_changelog_knows_the_commands_and_the_version() -> None:
    """An unreleased part stands first; a version that is out has a part of its own."""
    changes = TEXTS["CHANGELOG.md"]
    parts = re.findall(r"^## \[(.+?)\]", changes, re.MULTILINE)
    assert parts[0] == "Unreleased"
    assert parts[1:2] in ([], [__version__])
    for command in command_names():
        assert f"`{command}`" in changes, command


def test_the_version_is_said_once() -> None:
    """The package's own version is that of its metadata."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == __version__
