"""ProcessTask: the declaration of a command, its template, and back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._codec import encode_outputs
from orchestrator._registry import Registry
from orchestrator._secrets import Secret
from orchestrator._tasks import to_template
from orchestrator.connectors.process import ProcessConnector, ProcessTask
from orchestrator.connectors.process._command import CommandConfig
from orchestrator.errors import ConfigurationError
from tests.connectors.process_kit import create, folder_of, until_ended

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_task_runs_with_its_inputs_and_gives_its_outputs(
    connector: ProcessConnector,
) -> None:
    """Declaration, template, command, outputs: the whole way."""
    task = ProcessTask(
        "count",
        command=[
            "/bin/sh",
            "-c",
            'echo "{\\"rows\\": $1, \\"ratio\\": 1}" >"$ORCHESTRATOR_OUTPUTS"; echo $V',
            "sh",
            "{{.inputs.rows}}",
        ],
        env={"V": "visible"},
        inputs={"rows": int},
        outputs={"rows": int, "ratio": float, "stdout": str},
    )
    meta = await create(connector, to_template(task), {"rows": 7})
    resource = await until_ended(connector, meta)
    assert resource.phase == TaskExecution.SUCCEEDED, resource.message
    assert resource.outputs == {"rows": 7, "ratio": 1, "stdout": "visible\n"}
    encode_outputs(task.interface, resource.outputs)


async def test_the_default_outputs_are_exit_code_and_stdout(
    connector: ProcessConnector,
) -> None:
    """As the smallest example has them."""
    task = ProcessTask("hello", command=["echo", "hi"], env_vars={"A": "b"})
    resource = await until_ended(connector, await create(connector, to_template(task)))
    assert resource.outputs == {"exit_code": 0, "stdout": "hi\n"}


async def test_env_vars_of_the_template_reach_the_command(
    connector: ProcessConnector,
) -> None:
    """Flyte's own field for it works; ``env`` wins."""
    task = ProcessTask(  # noqa: S604 - what is tested
        "env",
        command='echo "$A $B"',
        shell=True,
        env={"B": "ours"},
        env_vars={"A": "flyte's", "B": "flyte's"},
    )
    await until_ended(connector, await create(connector, to_template(task)))
    assert (folder_of(connector) / "stdout").read_text() == "flyte's ours\n"


def test_the_template_gives_the_declaration_back() -> None:
    """Whatever is set, through the protobuf and back."""
    task = ProcessTask(  # noqa: S604 - what is tested
        "all",
        command="sleep 1",
        shell=True,
        cwd="/",
        env={"A": "b"},
        inherit_env=False,
        grace=timedelta(seconds=1.5),
        stdout_bytes=17,
    )
    assert CommandConfig.from_template(to_template(task)) == task.command_config
    plain = ProcessTask("plain", command=("a", "b"))
    assert CommandConfig.from_template(to_template(plain)) == plain.command_config
    assert plain.command_config.to_custom() == {"command": ["a", "b"]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"command": "echo hi"}, "task t: command: must be a list"),
        ({"command": []}, "task t: command: is empty"),
        ({"command": "echo {{.inputs.a}}", "shell": True}, r'"\$INPUT_a"'),
        ({"command": ["echo", "{{.inputs.b}}"], "inputs": {"a": str}}, r"\['b'\]"),
        ({"command": ["a"], "outputs": {"at": datetime}}, "output 'at'"),
        ({"command": ["a"], "outputs": {"raw": bytes}}, "output 'raw'"),
        ({"command": ["a"], "grace": timedelta(-1)}, "grace_s"),
        ({"command": ["a"], "secrets": [Secret("api-key")]}, "secret 'api-key'"),
    ],
)
def test_a_declaration_that_could_not_run_is_refused(
    given: dict[str, Any], message: str
) -> None:
    """At once, with the field named."""
    with pytest.raises(ConfigurationError, match=message):
        ProcessTask("t", **given)


def test_task_and_connector_meet_in_the_registry(tmp_path: Path) -> None:
    """By type and version."""
    registry = Registry()
    connector = ProcessConnector(tmp_path)
    registry.register(connector)
    task = ProcessTask("t", command=["true"])
    found = registry.get_connector(task.task_type, task.task_type_version)
    assert found is connector
