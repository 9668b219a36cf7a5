"""Style that no linter checks: sizes, first lines, sleeping tests, foreign names."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.api.project import name, python_files, text_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_LINES_MAX = 499
FUNCTION_LINES_MAX = 69

# Calls that tests may not make, each with what to do instead.
BANNED_IN_TESTS = {
    "asyncio.sleep": "await an Event, or drive tick() with a manual clock",
    "time.sleep": "wait for an Event, or for a process, with a deadline",
    "pytest.skip": "make the test's condition hold, or delete the test",
    "pytest.xfail": "mend what fails",
    "pytest.mark.skip": "make the test's condition hold, or delete the test",
    "pytest.mark.xfail": "mend what fails",
}

# Calls that the engine may not make besides those that ruff bans (TID251): each is
# a timer that a manual clock does not move.
BANNED_IN_LIBRARY = {
    "call_at": "use Clock.sleep()",
    "call_later": "use Clock.sleep()",
    "get_event_loop": "use asyncio.get_running_loop()",
}

# Where loggers are made, and where others' are listened to.
LOGGERS = {
    "orchestrator/_secrets/_redaction.py",
    "orchestrator/cli/__init__.py",
    "orchestrator/testing/_check/_canaries.py",
}

# What a stranger's checkout does not have. Written in pieces, so that this file
# does not find itself.
FORBIDDEN_WORDS = tuple(
    "".join(pieces)
    for pieces in (
        ("/", "work/"),
        ("/", "root/"),
        ("/", "tmp/w/"),
        ("/opt/", "wheels"),
        ("/opt/", "pypi"),
        ("../", "shared"),
        ("DESIGN", ".md"),
        ("STYLE", ".md"),
        ("ROADMAP", ".md"),
        ("FAULTS", ".md"),
        ("CONTRACT", ".md"),
        ("pypi", ".org"),
        ("python", "hosted"),
        ("registry.", "npmjs"),
        ("deb.", "debian"),
        ("TO", "DO"),
        ("FIX", "ME"),
        ("pip install 'orch", "estrator"),  # an index may have a stranger's
        ("<<<<", "<<<"),
        (">>>>", ">>>"),
    )
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def _length_without_docstring(function: Function) -> int:
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def _calls(path: Path) -> Iterator[tuple[str, ast.expr]]:
    """Yield the dotted name of every attribute chain in *path*, and its node."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node), node


def _is_sleep_of_zero(path: Path, node: ast.expr) -> bool:
    """Tell whether *node* is called with a literal 0: a turn of the loop, no wait."""
    return any(
        isinstance(call, ast.Call)
        and (call.func.lineno, call.func.col_offset) == (node.lineno, node.col_offset)
        and [ast.unparse(argument) for argument in call.args] == ["0"]
        for call in ast.walk(ast.parse(path.read_text()))
    )


@pytest.mark.parametrize("path", python_files(), ids=name)
def test_a_file_is_short_and_says_first_what_lives_there(path: Path) -> None:
    """Below 500 lines, functions below 70, and a docstring in the first line."""
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= FILE_LINES_MAX, f"{lines} lines: split it by subject"
    long = {
        function.name: length
        for function in _functions(path)
        if (length := _length_without_docstring(function)) > FUNCTION_LINES_MAX
    }
    assert not long, f"functions of more than {FUNCTION_LINES_MAX} lines: {long}"
    first = text.partition("\n")[0]
    assert first.startswith(('"""', 'r"""')), "say in the first line what lives here"


@pytest.mark.parametrize("path", python_files("tests"), ids=name)
def test_no_test_sleeps_or_is_skipped(path: Path) -> None:
    """Tests wait for events, and run or do not exist."""
    found = [
        f"{name(path)}:{node.lineno}: {call}: {BANNED_IN_TESTS[call]}"
        for call, node in _calls(path)
        if call in BANNED_IN_TESTS
        and not (call == "asyncio.sleep" and _is_sleep_of_zero(path, node))
    ]
    assert not found


def test_no_test_imports_sleep_by_name() -> None:
    """A sleep that is imported by name would hide from the check above."""
    found = [
        f"{name(path)}:{node.lineno}"
        for path in python_files("tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module in {"asyncio", "time"}
        and "sleep" in {alias.name for alias in node.names}
    ]
    assert not found


def test_the_library_sets_no_timer_but_through_the_clock() -> None:
    """A timer of the event loop would not move with a manual clock."""
    found = [
        f"{name(path)}:{node.lineno}: {call}: {BANNED_IN_LIBRARY[last]}"
        for path in python_files("orchestrator")
        if path.name != "_clock.py"
        for call, node in _calls(path)
        if (last := call.rpartition(".")[2]) in BANNED_IN_LIBRARY
    ]
    assert not found


def test_every_logger_of_the_library_redacts() -> None:
    """``get_logger`` makes it so; a logger of logging's own would not."""
    found = [
        f"{name(path)}:{node.lineno}"
        for path in python_files("orchestrator")
        for call, node in _calls(path)
        if call == "logging.getLogger" and name(path) not in LOGGERS
    ]
    assert not found


def test_no_file_names_what_only_one_machine_has() -> None:
    """No path of a machine, registry host, private document or leftover note."""
    found = [
        f"{name(path)}:{number}: {word}"
        for path in text_files()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for word in FORBIDDEN_WORDS
        if word in line
    ]
    assert not found


def test_text_files_end_with_one_newline_and_carry_no_trailing_space() -> None:
    """Diffs stay about what changed."""
    found = [
        name(path)
        for path in text_files()
        if (text := path.read_text())
        and (
            not text.endswith("\n")
            or text.endswith("\n\n")
            or any(line != line.rstrip() for line in text.splitlines())
        )
    ]
    assert not found
