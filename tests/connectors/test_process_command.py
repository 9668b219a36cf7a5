"""What reaches the command: arguments, variables, secrets, and nothing else."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.connectors.process import ProcessConnector, _supervisor
from orchestrator.errors import PermanentError
from tests.connectors.process_kit import (
    TOKEN,
    Gate,
    create,
    folder_of,
    shell,
    template,
    until_ended,
)

if TYPE_CHECKING:
    from flyteidl2.core.tasks_pb2 import TaskTemplate

CANARY = "s3cr3t-canary-value"


async def printed(connector: ProcessConnector, what: TaskTemplate, **more: Any) -> str:
    """Run a command to its end and return what it printed."""
    resource = await until_ended(connector, await create(connector, what, **more))
    assert resource.custom_info is not None
    assert resource.custom_info.get("code") == 0, resource.message
    return (folder_of(connector) / "stdout").read_text()


HOSTILE = [
    "plain",
    "",
    "two words",
    "$(touch owned)",
    "`touch owned`; touch owned",
    "'\"\\\n\t*?[a]{b,c}~!#&|<>",
    "{{.inputs.other}}",
    "-rf",
    "ünïcödé €",
]


@pytest.mark.parametrize("value", HOSTILE)
async def test_an_input_is_one_argument_whatever_it_holds(
    connector: ProcessConnector, value: str
) -> None:
    """No shell, no splitting, no second template."""
    what = template(["printf", "%s|", "{{.inputs.value}}", "x{{ .inputs.value }}y"])
    text = await printed(connector, what, inputs={"value": value, "other": "no"})
    assert text == f"{value}|x{value}y|"


@pytest.mark.parametrize("value", HOSTILE)
async def test_in_a_shell_an_input_is_a_variable(
    connector: ProcessConnector, value: str
) -> None:
    """The shell sees its value only where it expands a variable."""
    what = shell('printf "%s|" "$INPUT_value"')
    assert await printed(connector, what, inputs={"value": value}) == f"{value}|"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (2.5, "2.5"),
        (True, "true"),
        (None, "null"),
        ([1, "a"], '[1, "a"]'),
        ({"k": None}, '{"k": null}'),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
    ],
)
async def test_other_inputs_are_handed_over_as_json(
    connector: ProcessConnector, value: object, text: str
) -> None:
    """A str as it is, everything else as JSON has it."""
    what = template(["printf", "%s", "{{.inputs.value}}"])
    assert await printed(connector, what, inputs={"value": value}) == text


@pytest.mark.parametrize("value", ["a\0b", "\ud800", object()])
@pytest.mark.parametrize(
    "what", [template(["echo", "{{.inputs.value}}"]), shell("true")], ids=["list", "sh"]
)
async def test_an_input_that_no_program_can_take_is_refused(
    connector: ProcessConnector, what: TaskTemplate, value: object
) -> None:
    """The input is named, and nothing was made."""
    with pytest.raises(PermanentError, match="input 'value'"):
        await create(connector, what, {"value": value})
    assert not connector.root.exists()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (template([]), "command: is empty"),
        (template("echo hi"), "must be a list such as"),
        (template(["{{.inputs.program}}"]), r"command\[0\]: an input must not choose"),
        (template([""]), r"command\[0\]"),
        (template(["a", 1]), r"command\[1\] must be a str"),  # type: ignore[list-item]
        (template(["a", "b\0c"]), r"command\[1\] holds a NUL"),
        (template(["echo", "{{.inputs.nobody}}"]), "there is no input 'nobody'"),
        (shell("echo {{.inputs.a}}"), 'write "\\$INPUT_a"'),
        (shell(" "), "one non-empty str"),
        (shell(["true"]), "one non-empty str"),  # type: ignore[arg-type]
        (template(["true"], env={"A=B": "x"}), "no name of an environment variable"),
        (template(["true"], env={"A": 1}), "must be a str"),
        (template(["true"], grace_s=-1), "grace_s"),
        (template(["true"], stdout_bytes=1e9), "stdout_bytes"),
    ],
)
async def test_a_template_that_cannot_run_is_refused_for_good(
    connector: ProcessConnector, what: TaskTemplate, message: str
) -> None:
    """The field is named, and nothing was made."""
    with pytest.raises(PermanentError, match=message):
        await create(connector, what, {"a": "x"})
    assert not connector.root.exists()


async def test_the_environment_is_inherited_and_added_to(
    connector: ProcessConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any child's would be; env wins."""
    monkeypatch.setenv("FROM_OUTSIDE", "kept")
    monkeypatch.setenv("CHANGED", "old")
    what = shell('echo "$FROM_OUTSIDE $CHANGED"', env={"CHANGED": "new"})
    assert await printed(connector, what) == "kept new\n"


async def test_nothing_is_inherited_if_the_task_says_so(
    connector: ProcessConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is the task's own, and what we promise."""
    monkeypatch.setenv("FROM_OUTSIDE", "kept")
    what = template(["/usr/bin/env"], inherit_env=False, env={"MINE": "x"})
    names = {
        line.partition("=")[0] for line in (await printed(connector, what)).split()
    }
    assert names == {"MINE", "ORCHESTRATOR_OUTPUTS", "ORCHESTRATOR_TOKEN"}


async def test_the_command_runs_where_it_is_told_to(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """By default, where the orchestrator is."""
    here = os.getcwd()  # noqa: PTH109
    assert await printed(connector, template(["pwd"])) == f"{here}\n"
    what = template(["pwd"], cwd=str(tmp_path))
    other = await create(connector, what, token=TOKEN[:-1] + "2")
    await until_ended(connector, other)
    text = (folder_of(connector, other.token) / "stdout").read_text()
    assert text == f"{tmp_path}\n"


async def test_standard_input_is_empty(connector: ProcessConnector) -> None:
    """A command that asks a question gets the end of file."""
    assert await printed(connector, template(["cat"])) == ""


def of_process(pid: int, name: str) -> bytes:
    """Return what the kernel tells about a process."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def test_a_secret_reaches_the_command_and_nobody_else(
    connector: ProcessConnector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under its own name only: no file of the job and no command line shows it."""
    monkeypatch.setenv("THE_SOURCE", CANARY)
    gate = Gate(tmp_path)
    text = f'env | grep -c {CANARY[:6]}; echo "$API_KEY" | wc -c; {gate.WAIT}'
    meta = await create(connector, shell(text, env=gate.env), API_KEY=CANARY)
    pid = await gate.reached()
    folder = folder_of(connector)
    supervisor = json.loads((folder / "started").read_text())["supervisor"]
    for number in (pid, supervisor):
        command_line = of_process(number, "cmdline")
        assert command_line
        assert CANARY.encode() not in command_line
    assert CANARY.encode() not in of_process(supervisor, "environ")
    holding = [v for v in of_process(pid, "environ").split(b"\0") if b"canary" in v]
    assert holding == [b"API_KEY=" + CANARY.encode()]
    await gate.open()
    await until_ended(connector, meta)
    for file in folder.rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file
    assert (folder / "stdout").read_text() == f"1\n{len(CANARY) + 1}\n"


@pytest.mark.parametrize("value", [CANARY + "\0", CANARY + "\ud800", 7])
async def test_a_secret_that_cannot_be_a_variable_is_refused_without_its_value(
    connector: ProcessConnector, value: Any
) -> None:
    """The message names the keyword only."""
    with pytest.raises(PermanentError, match="secret 'api_key'") as caught:
        await create(connector, template(["true"]), api_key=value)
    shown = repr(caught.value) + repr(caught.value.__cause__)
    assert CANARY not in shown


def test_a_command_that_was_cut_short_is_no_command() -> None:
    """At whatever byte the creator died."""
    spec = _supervisor.Spec(1.5, b"/", [b"echo", b""], {b"A": b"x=y", b"B": b""})
    whole = _supervisor.encode_spec(spec)
    read = _supervisor.decode_spec(whole)
    assert read is not None
    assert vars(read) == vars(spec)
    assert all(_supervisor.decode_spec(whole[:n]) is None for n in range(len(whole)))
