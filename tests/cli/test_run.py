"""``run``: exit codes, inputs, keys, and every refusal with its field named."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.api.project import ROOT
from tests.cli.conftest import QUICK

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

# A command's event loop is its own: nobody else waits for it.
pytestmark = pytest.mark.may_block


def test_success_prints_the_outputs_and_tells_the_way_on_stderr(cli: Cli) -> None:
    """Standard output is for programs, standard error for people."""
    said = cli.run("hello", "--input", "rows=3")
    assert (said.code, said.json) == (0, {"said": "hello"})
    causes = ["SUBMITTED", "CREATE_INTENT", "CREATED", "REMOTE_SUCCEEDED"]
    assert [c for c in causes if c in said.err] == causes


def test_a_task_without_outputs_prints_nothing_for_programs(cli: Cli) -> None:
    """The record of ``--json`` has all there is."""
    said = cli.run("silent", task="silent")
    assert (said.code, said.out) == (0, "")
    assert "REMOTE_SUCCEEDED" in said.err
    assert not cli.run("silent", "--json", task="silent").json["outputs"]


def test_failure_is_exit_code_1(cli: Cli) -> None:
    """The message is on standard error, cleaned."""
    said = cli.run("fail")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1] == "FAILED [REMOTE_FAILED]: no luck"


def test_json_is_the_terminal_record(cli: Cli) -> None:
    """With ``--json`` nothing else is printed."""
    said = cli("--json", "run", f"{QUICK}:task", "-i", "mode=x", "--label", "a=b=c")
    assert (said.code, said.err) == (0, "")
    record = said.json
    assert record["phase"] == "SUCCEEDED"
    assert record["inputs"] == {"mode": "x", "rows": 1}
    assert record["labels"] == {"a": "b=c"}
    assert record["submitted_at"].endswith("Z")
    assert record["resource_meta"] == {"mode": "x"}


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (["words={}"], "sizes: is missing: pass sizes=<list[int]> (--input sizes=...)"),
        (
            ["words={}", "sizes=1,2"],
            "sizes: is str, must be list (write JSON: --input 'sizes=[1,2]')",
        ),
        (
            ["words=a=1", "sizes=[]"],
            "words: is str, must be dict (write JSON: --input 'words={\"a\":1}')",
        ),
        (['words={"a": "b"}', "sizes=[]"], "words['a']: is str, must be int"),
    ],
)
def test_a_refused_input_is_told_as_the_command_line_says_it(
    cli: Cli, inputs: list[str], told: str
) -> None:
    """The library's words are for Python."""
    given = [part for text in inputs for part in ("--input", text)]
    said = cli.run("x", *given, task="sized")
    assert said.code == 2
    assert said.err == f"orchestrator: error: {told}\n"


def test_a_timeout_leaves_the_execution_running(cli: Cli) -> None:
    """Exit code 1, and a message that says so."""
    said = cli.run("never", "--timeout", "0.2")
    assert said.code == 1
    assert "not terminal after 0.2 s; it goes on" in said.err
    assert cli("ls", "--json").json[0]["finished_at"] is None


def test_no_wait_prints_the_id_of_what_was_accepted(cli: Cli) -> None:
    """Nothing runs it: it stays QUEUED."""
    execution_id = cli.accepted("later")
    (record,) = cli("ls", "--json").json
    assert (record["id"], record["phase"]) == (execution_id, "QUEUED")
    assert cli.run("later", "--no-wait", "--json").json["phase"] == "QUEUED"


def test_a_key_leads_to_the_execution_that_is_there(cli: Cli) -> None:
    """The next run with the key takes over what the first one left."""
    first = cli.accepted("hi", "--idempotency-key", "k")
    said = cli.run("hi", "--idempotency-key", "k")
    assert said.code == 0
    assert f"execution {first} (it was there before)" in said.err
    other = cli.run("other", "--idempotency-key", "k")
    assert other.code == 2
    assert "idempotency_key 'k' belongs to" in other.err
    assert len(cli("ls", "--json").json) == 1


@pytest.mark.parametrize("task", ["deleting", "Holder.inner"])
def test_a_task_may_be_made_by_a_factory_or_stand_deeper(cli: Cli, task: str) -> None:
    """A class or function is called without arguments."""
    assert cli.run("x", task=task).code == 0


def test_a_module_is_found_in_the_current_folder(cli: Cli) -> None:
    """As with ``python -m``."""
    (cli.folder / "my_tasks.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.cli.quick import task\n"
    )
    sys.modules.pop("tests.cli.quick", None)
    try:
        assert cli("run", "my_tasks:task", "--input", "mode=x").code == 0
    finally:
        sys.modules.pop("my_tasks", None)
        sys.modules.pop("tests.cli.quick", None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no_colon"], "task: 'no_colon' must be MODULE:TASK"),
        (["run", "no.such.module:task"], "task: no.such.module: ModuleNotFoundError"),
        (["run", "nowhere.py:task"], "task: nowhere.py: FileNotFoundError"),
        (["run", f"{QUICK}:nothing"], "has no 'nothing'"),
        (["run", f"{QUICK}:no_task"], "is no task, but of type int"),
        (["run", f"{QUICK}:breaks"], "KeyError: 'nothing"),
        (["run", f"{QUICK}:task"], "mode: "),
        (["run", f"{QUICK}:task", "-i", "mode"], "input: 'mode' must be NAME=VALUE"),
        (["run", f"{QUICK}:task", "-i", "=x"], "input: '=x' must be NAME=VALUE"),
        (
            ["run", f"{QUICK}:task", "-i", "mode=a", "-i", "mode=b"],
            "input: 'mode' is given twice",
        ),
        (["run", f"{QUICK}:task", "-i", "mode=a", "-i", "rows=many"], "rows: "),
        (["run", f"{QUICK}:task", "-i", "mode=a", "-i", "more=1"], "more: "),
        (["run", f"{QUICK}:task", "--connectors", "no.such"], "connectors: no.such"),
        (["run", f"{QUICK}:task", "--timeout", "soon"], "--timeout"),
        (["run", f"{QUICK}:task", "--timeout", "-1"], "--timeout"),
        (["run"], "MODULE:TASK"),
        ([], "COMMAND"),
        (["frobnicate"], "frobnicate"),
        (["ls", "--lim", "3"], "--lim"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    cli: Cli, arguments: list[str], words: str
) -> None:
    """The field is named, nothing is printed elsewhere, nothing is stored."""
    said = cli(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert "\x1b" not in said.err
    if cli.database.exists():
        assert cli("ls", "--json").json == []


def test_debug_lets_the_error_through(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable set, the traceback of a user's module is there to be seen."""
    monkeypatch.setenv("ORCHESTRATOR_DEBUG", "1")
    with pytest.raises(KeyError):
        cli("run", f"{QUICK}:breaks")


def test_an_interrupt_ends_with_130_and_loses_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted is in the database."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.cli._run.conclude", interrupt)
    said = cli.run("x")
    assert said.code == 130
    assert said.err.splitlines()[-1] == "interrupted: what was accepted goes on"


def test_python_m_orchestrator_is_the_same_command(cli: Cli) -> None:
    """Help comes without loading the engine."""
    code = (
        "import sys; from orchestrator.cli import main; code = main(['--help']);"
        " heavy = {'sqlalchemy', 'pydantic', 'google', 'rich'} & set(sys.modules);"
        " assert not heavy, heavy; sys.exit(code)"
    )
    for command in (["-m", "orchestrator", "--help"], ["-c", code]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("usage: orchestrator")
