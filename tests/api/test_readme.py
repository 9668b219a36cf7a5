"""What README and docs say is true: their code runs, their lists are complete."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import _orchestrator, errors
from orchestrator._config import Config, Policy
from orchestrator._connector import AsyncConnector
from orchestrator._machine import MARKS, TRANSITIONS, chart
from orchestrator._phase import Cause, Hold, Phase
from orchestrator.cli._parser import build_parser, command_names
from tests.api.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text()
PAGES = {"README.md": README} | {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted((ROOT / "docs").rglob("*.md"))
}
STATES, SQL = PAGES["docs/states.md"], PAGES["docs/sql.md"]
SETTINGS = PAGES["docs/settings.md"]


def blocks(language: str) -> list[Any]:
    """Return every fenced block of *language* as a test parameter."""
    return [
        pytest.param(block, id=f"{page}:{number}")
        for page, text in PAGES.items()
        for number, block in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        )
    ]


# Code


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_block_runs_as_a_program(code: str, tmp_path: Path) -> None:
    """Copied into a file, in an empty folder."""
    program = tmp_path / "program.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "print(" in code:
        assert done.stdout.strip()
    assert "FAILED" not in done.stdout


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with some executions in it."""
    folder = tmp_path_factory.mktemp("sql")
    subprocess.run(
        [sys.executable, ROOT / "examples/02_own_connector.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    return folder / "orchestrator.db"


@pytest.mark.parametrize("query", blocks("sql"))
def test_every_query_runs(query: str, database: Path) -> None:
    """On a database that somebody used."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(query).fetchall()


def test_every_view_is_documented_with_its_columns(database: Path) -> None:
    """No view and no column is missing, none is invented."""
    documented = {}
    for section in SQL.split("\n## ")[1:]:
        name = section.partition("\n")[0]
        columns = re.search(r"^Columns: (.*?)\.$", section, re.DOTALL | re.MULTILINE)
        assert columns, name
        documented[name] = set(re.findall(r"`(\w+)`", columns.group(1)))
    with closing(sqlite3.connect(database)) as connection:
        views = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'")
        actual = {
            name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
            for (name,) in views.fetchall()
        }
    assert documented == actual


# Commands

COMMANDS = [
    pytest.param(line.removeprefix("$ "), id=line)
    for block in blocks("console")
    for line in block.values[0].splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_line_is_one(line: str) -> None:
    """The parser takes it, or the Makefile has it."""
    program, *arguments = shlex.split(line)
    if program == "orchestrator":
        build_parser().parse_args(arguments)
    elif program == "make":
        targets = re.findall(
            r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE
        )
        assert set(arguments) <= set(targets)
    else:
        assert program == "sqlite3"


def test_every_command_is_shown() -> None:
    """None is missing in the README."""
    shown = {
        command
        for command in command_names()
        if re.search(rf"^\$ orchestrator {command}\b", README, re.MULTILINE)
    }
    assert shown == set(command_names())


def test_make_run_and_make_test_come_first() -> None:
    """They are the first two commands that a reader meets."""
    lines = [line for line in README.splitlines() if line.startswith("$ ")]
    assert lines[:2] == ["$ make run", "$ make test"]
    assert "python3-venv make" in README[: README.index("$ make run")]


# The state machine


def test_the_charts_are_the_machine() -> None:
    """The page has every cause, the README every pair of phases."""
    assert f"```mermaid\n{chart()}\n```" in STATES
    pairs = sorted(
        {
            (str(source or "[*]"), str(target))
            for (source, _), target in TRANSITIONS.items()
            if source != target
        }
    )
    lines = [f"    {source} --> {target}" for source, target in pairs]
    short = "\n".join(["stateDiagram-v2", *lines])
    assert f"```mermaid\n{short}\n```" in README


def test_every_phase_cause_and_hold_is_explained() -> None:
    """Causes with where they lead from and to, as in the table."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", STATES, re.MULTILINE))
    assert set(rows) == {*map(str, Phase), *map(str, Cause)}
    for cause in Cause:
        sources, target, meaning = rows[cause].split(" | ")
        assert meaning.endswith(".")
        if cause in MARKS:
            assert (sources, target) == ("any live phase", "the same")
            continue
        edges = {
            (str(source or "-"), str(end))
            for (source, found), end in TRANSITIONS.items()
            if found == cause
        }
        told = {(word.strip("`"), target.strip("`")) for word in sources.split(", ")}
        assert told == edges, cause
    assert all(f"`{hold}`" in STATES for hold in Hold)
    assert all(re.search(rf"\b{phase}\b", README) for phase in Phase)


# Settings

UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "days": timedelta(days=1),
}


def as_written(text: str, value: object) -> object:
    """Return the value that a documented default means."""
    if isinstance(value, timedelta):
        number, unit = text.split()
        return float(number) * UNITS[unit]
    if isinstance(value, bool):
        return {"true": True, "false": False}[text]
    return type(value)(text)  # type: ignore[call-arg]


@pytest.mark.parametrize("owner", [Config, Policy])
def test_every_setting_stands_with_its_default_and_both_consequences(
    owner: type[Config | Policy],
) -> None:
    """None is missing, none is invented."""
    _, _, section = SETTINGS.partition(f": `{owner.__name__}`\n")
    section = section.partition("\n## ")[0]
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in section.splitlines()
        if line.startswith("| `")
        for cells in [line.strip("| ").split(" | ")]
    }
    defaults = {field.name: field.default for field in dataclasses.fields(owner)}
    assert set(rows) == set(defaults)
    for name, (unit, default, smaller, larger) in rows.items():
        value = defaults[name]
        assert as_written(default.strip("`"), value) == value, name
        assert all([unit, smaller, larger]), name


# Names and links


def test_every_name_of_ours_exists() -> None:
    """Verbs, optional members of connectors, errors."""
    verbs = re.search(r"\| verb \| does \|\n(.*?)\n\n", README, re.DOTALL)
    assert verbs
    for name in re.findall(r"`(?:handle\.)?(\w+)`", verbs.group(1)):
        assert hasattr(_orchestrator.Orchestrator, name) or hasattr(
            _orchestrator.Handle, name
        ), name
    optional = re.search(r"else is optional: (.*?)\. A", README, re.DOTALL)
    assert optional
    for name in re.findall(r"`(\w+)`", optional.group(1)):
        assert hasattr(AsyncConnector, name), name
    for name in re.findall(r"`(\w+Error)`", README):
        assert hasattr(errors, name) or name == "RuntimeError", name


def as_anchor(heading: str) -> str:
    """Return what a link to *heading* says."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """Links of ours are files of ours, and headings in them."""
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (folder / path).resolve()
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in map(as_anchor, headings), target


def test_the_index_lists_every_page() -> None:
    """A page that nobody links is not read."""
    index = PAGES["docs/index.md"]
    assert all(
        f"({page.removeprefix('docs/')})" in index
        for page in PAGES
        if page not in ("README.md", "docs/index.md")
    )
