"""delete: TERM, then KILL, of the whole group, and of nobody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors.process import ProcessConnector, ProcessMeta, _supervisor
from orchestrator.errors import ResourceGoneError
from tests.connectors.process_kit import (
    TOKEN,
    Gate,
    Pulse,
    blocking,
    create,
    folder_of,
    shell,
    template,
    until_ended,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


async def test_delete_ends_a_command_and_get_confirms_it(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """TERM is enough for a command that does not resist."""
    gate = Gate(tmp_path)
    meta = await create(connector, shell(gate.WAIT, env=gate.env))
    await gate.reached()
    await connector.delete(meta)
    resource = await until_ended(connector, meta)
    assert resource.phase == TaskExecution.ABORTED
    assert resource.message == "ended by delete: killed by SIGTERM"


async def test_a_command_that_ignores_term_and_its_children_are_killed(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """The supervisor keeps the time, so nobody has to call again."""
    pulse = Pulse(tmp_path)
    text = 'exec 3>"$pulse"; trap "" TERM; sleep 1000 & echo up >&3; wait'
    meta = await create(connector, shell(text, env=pulse.env, grace_s=0.05))
    await pulse.started()
    await connector.delete(meta)
    await pulse.stopped()
    resource = await until_ended(connector, meta)
    assert resource.phase == TaskExecution.ABORTED
    assert resource.message == "ended by delete: killed by SIGKILL"


async def test_a_command_may_use_the_grace_period_to_tidy_up(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """It ends by its own will, and still counts as ended by us."""
    gate = Gate(tmp_path)
    tidied = tmp_path / "tidied"
    text = f"trap 'echo yes >{tidied}; exit 0' TERM; {gate.WAIT}"
    meta = await create(connector, shell(text, env=gate.env))
    await gate.reached()
    await connector.delete(meta)
    resource = await until_ended(connector, meta)
    assert resource.message == "ended by delete: exit status 0"
    assert resource.phase == TaskExecution.ABORTED
    assert tidied.read_text() == "yes\n"


async def test_between_the_wish_and_the_end_the_job_is_running(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """The call does not wait, repeating it is harmless, and the message tells."""
    pulse = Pulse(tmp_path)
    text = 'exec 3>"$pulse"; trap "" TERM; sleep 1000 & echo up >&3; wait'
    meta = await create(connector, shell(text, env=pulse.env, grace_s=3600))
    await pulse.started()
    await connector.delete(meta)
    await connector.delete(meta)
    resource = await connector.get(meta)
    assert resource.phase == TaskExecution.RUNNING
    assert resource.message is not None
    assert resource.message.startswith("asked to end: ")
    record = json.loads((folder_of(connector) / "started").read_text())
    assert record["pid"] > 1
    os.killpg(record["pid"], signal.SIGKILL)
    await pulse.stopped()
    assert (await until_ended(connector, meta)).phase == TaskExecution.ABORTED


async def test_a_grace_period_of_zero_kills_at_once(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """Without a TERM before."""
    gate = Gate(tmp_path)
    text = f"trap 'exit 0' TERM; {gate.WAIT}"
    meta = await create(connector, shell(text, env=gate.env, grace_s=0))
    await gate.reached()
    await connector.delete(meta)
    resource = await until_ended(connector, meta)
    assert resource.message == "ended by delete: killed by SIGKILL"


async def test_a_command_that_is_stopped_can_be_ended(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """A stopped process handles no TERM; it is woken for it."""
    pulse = Pulse(tmp_path)
    text = 'exec 3>"$pulse"; trap "exit 7" TERM; echo up >&3; kill -STOP $$'
    meta = await create(connector, shell(text, env=pulse.env, grace_s=3600))
    await pulse.started()
    await connector.delete(meta)
    resource = await until_ended(connector, meta)
    assert resource.message == "ended by delete: exit status 7"


async def test_a_job_that_ended_before_delete_keeps_its_outcome(
    connector: ProcessConnector,
) -> None:
    """It had finished first."""
    meta = await create(connector, template(["true"]))
    await until_ended(connector, meta)
    await connector.delete(meta)
    assert (await connector.get(meta)).phase == TaskExecution.SUCCEEDED


async def test_delete_before_the_start_keeps_the_command_from_starting(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """A creator that wakes up late finds its token spent."""
    folder_of(connector).mkdir(parents=True)
    (folder_of(connector) / "lock").touch()
    await connector.delete(ProcessMeta(TOKEN))
    count = tmp_path / "count"
    meta = await create(connector, shell(f"echo ran >>{count}"))
    assert (await connector.get(meta)).phase == TaskExecution.ABORTED
    assert await connector.find(TOKEN) == ProcessMeta(TOKEN)
    assert not count.exists()


async def test_delete_in_the_middle_of_a_start_wins_or_comes_after_it(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """Whoever writes ``started`` first decides; the job ends either way."""
    count = tmp_path / "count"

    class DeleteWhenSpawned:
        def reach(self, name: str) -> None:
            if name == "process.spawned":
                connector._delete(ProcessMeta(TOKEN))

    connector._faults = DeleteWhenSpawned()
    meta = await create(connector, shell(f"echo ran >>{count}; exec sleep 1000"))
    resource = await until_ended(connector, meta)
    assert resource.phase == TaskExecution.ABORTED
    assert not count.exists()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not ours, leader of a group of its own."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


async def mark_of(pid: int) -> str:
    """Return the start mark of a living process."""
    return await blocking(_supervisor.start_mark, pid)


def forge(connector: ProcessConnector, pid: int, mark: str) -> None:
    """Make the folder of a job whose supervisor died and whose command is *pid*."""
    folder_of(connector).mkdir(parents=True)
    record = {"pid": pid, "mark": mark, "supervisor": 1}
    (folder_of(connector) / "started").write_text(json.dumps(record))


@pytest.mark.parametrize("change", ["later", "boot", "empty", "missing"])
async def test_a_recycled_process_id_is_never_signalled(
    connector: ProcessConnector, stranger: subprocess.Popen[bytes], change: str
) -> None:
    """The number alone says nothing; the mark must be the same."""
    boot, _, tick = (await mark_of(stranger.pid)).partition(":")
    mark = {
        "later": f"{boot}:{int(tick) + 1}",
        "boot": f"{'0' * 36}:{tick}",
        "empty": "",
        "missing": None,
    }[change]
    forge(connector, stranger.pid, mark)  # type: ignore[arg-type] # a broken record
    meta = ProcessMeta(TOKEN, grace_s=0)
    with pytest.raises(ResourceGoneError):
        await connector.get(meta)
    (folder_of(connector) / "abort").write_text('{"at_us": 0}')
    await connector.delete(meta)
    await connector.get(meta)
    assert stranger.poll() is None


async def test_an_orphan_with_its_own_mark_is_signalled(
    connector: ProcessConnector, stranger: subprocess.Popen[bytes]
) -> None:
    """The counter-check of the test above."""
    forge(connector, stranger.pid, await mark_of(stranger.pid))
    await connector.delete(ProcessMeta(TOKEN))
    assert await blocking(stranger.wait) == -15


@pytest.mark.parametrize("pid", [0, 1, -1, "2", None, True])
async def test_a_record_with_an_absurd_process_id_is_harmless(
    connector: ProcessConnector, pid: int
) -> None:
    """Groups 0, 1 and -1 are everyone, or ourselves."""
    forge(connector, pid, "x")
    await connector.delete(ProcessMeta(TOKEN))
    with pytest.raises(ResourceGoneError):
        await connector.get(ProcessMeta(TOKEN))


def test_the_mark_of_a_dead_or_uncollected_process_is_empty() -> None:
    """A process that ended is not alive, collected or not."""
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert _supervisor.start_mark(1)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert _supervisor.start_mark(process.pid) == ""
    assert _supervisor.start_mark(process.pid) == ""
