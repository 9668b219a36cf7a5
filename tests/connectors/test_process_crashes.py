"""Every kill -9 point: the command is started at most once, and never lied about."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator.connectors.process import ProcessConnector, ProcessMeta
from orchestrator.errors import ResourceGoneError, TransientError
from tests.connectors.process_kit import (
    TOKEN,
    AheadClock,
    Gate,
    Pulse,
    blocking,
    create,
    dying_supervisor,
    folder_of,
    shell,
    until_ended,
    wait_for_supervisor,
)

if TYPE_CHECKING:
    from pathlib import Path

CREATOR = "tests.connectors.process_creator"


def start_creator(root: Path, point: str, command: str) -> subprocess.Popen[str]:
    """Start a process, leader of its group, that creates the job."""
    return subprocess.Popen(
        [sys.executable, "-m", CREATOR, str(root), TOKEN, point, command],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


async def read_line(process: subprocess.Popen[str]) -> str:
    """Wait for a line of the creator."""
    assert process.stdout is not None
    return await blocking(process.stdout.readline)


@pytest.mark.parametrize(
    "point",
    [
        "process.before_folder",
        "process.folder_made",
        "process.meta_written",
        "process.before_spawn",
        "process.spawned",
        "process.command_sent",
        "process.started",
    ],
)
async def test_a_creator_that_is_killed_leaves_a_token_that_runs_once(
    connector: ProcessConnector, tmp_path: Path, point: str
) -> None:
    """The replay finds the command started, or starts it."""
    count = tmp_path / "count"
    command = f"echo ran >>{count}"
    with start_creator(connector.root, point, command) as creator:
        assert await blocking(creator.wait) == -signal.SIGKILL
    meta = await create(connector, shell(command))
    resource = await until_ended(connector, meta)
    assert resource.phase == TaskExecution.SUCCEEDED
    assert count.read_text() == "ran\n"


async def test_a_job_outlives_the_death_of_its_creator_and_its_group(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """The new process finds it by its token, sees it run, and sees it succeed."""
    gate = Gate(tmp_path)
    names = "".join(f"{name}={path}; " for name, path in gate.env.items())
    with start_creator(connector.root, "never", names + gate.WAIT) as creator:
        assert await read_line(creator) == "created\n"
        pid = await gate.reached()
        os.killpg(creator.pid, signal.SIGKILL)
        assert await blocking(creator.wait) == -signal.SIGKILL
    meta = await connector.find(TOKEN)
    assert meta is not None
    assert (await connector.get(meta)).phase == TaskExecution.RUNNING
    assert os.getsid(pid) == pid
    await gate.open()
    assert (await until_ended(connector, meta)).phase == TaskExecution.SUCCEEDED


@pytest.mark.parametrize("point", ["supervisor.command_read", "supervisor.forked"])
async def test_a_supervisor_that_dies_before_the_record_started_nothing(
    connector: ProcessConnector, tmp_path: Path, point: str
) -> None:
    """``create`` says so for sure, and the next one starts the command."""
    count = tmp_path / "count"
    program = connector._program
    connector._program = dying_supervisor(tmp_path, point)
    with pytest.raises(TransientError, match="before it started the command"):
        await create(connector, shell(f"echo ran >>{count}"))
    assert await connector.find(TOKEN) is None
    connector._program = program
    meta = await create(connector, shell(f"echo ran >>{count}"))
    await until_ended(connector, meta)
    assert count.read_text() == "ran\n"


async def test_a_supervisor_that_dies_after_the_record_spent_the_token(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """Nobody can know whether the command ran, so it is lost and never repeated."""
    count = tmp_path / "count"
    program = connector._program
    connector._program = dying_supervisor(tmp_path, "supervisor.recorded")
    meta = await create(connector, shell(f"echo ran >>{count}"))
    # The process that waits for its go outlives the supervisor by a moment.
    started = json.loads((folder_of(connector) / "started").read_text())
    await blocking(pidfd_wait, started["pid"])
    with pytest.raises(ResourceGoneError, match="outcome is lost"):
        await until_ended(connector, meta)
    connector._program = program
    assert await create(connector, shell(f"echo ran >>{count}")) == meta
    with pytest.raises(ResourceGoneError, match="outcome is lost"):
        await until_ended(connector, meta)
    assert not count.exists()


async def test_a_supervisor_that_dies_after_the_end_lost_the_outcome(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """The command ran, nobody wrote down how it ended, nothing is made up."""
    count = tmp_path / "count"
    connector._program = dying_supervisor(tmp_path, "supervisor.ended")
    meta = await create(connector, shell(f"echo ran >>{count}"))
    with pytest.raises(ResourceGoneError, match="outcome is lost"):
        await until_ended(connector, meta)
    assert await create(connector, shell(f"echo ran >>{count}")) == meta
    assert count.read_text() == "ran\n"


async def test_a_supervisor_that_dies_after_the_status_lost_nothing(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """The status is the last thing it has to do."""
    connector._program = dying_supervisor(tmp_path, "supervisor.status_written")
    meta = await create(connector, shell("exit 4"))
    resource = await until_ended(connector, meta)
    assert resource.message == "exit status 4"


async def orphan(connector: ProcessConnector, tmp_path: Path) -> tuple[Pulse, int]:
    """Make a command whose supervisor was killed; return its pulse and pid."""
    pulse = Pulse(tmp_path)
    connector._program = dying_supervisor(tmp_path, "supervisor.released")
    text = 'exec 3>"$pulse"; trap "" TERM; sleep 1000 & echo "$$" >&3; wait'
    await create(connector, shell(text, env=pulse.env))
    pid = int(await pulse.started())
    await blocking(wait_for_supervisor, folder_of(connector))
    return pulse, pid


async def test_a_command_that_lost_its_supervisor_is_seen_and_can_be_ended(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """By process id and start mark: TERM, then by the next calls KILL."""
    clock = AheadClock()
    connector._clock = clock
    pulse, pid = await orphan(connector, tmp_path)
    meta = await connector.find(TOKEN)
    assert meta is not None
    resource = await connector.get(meta)
    assert resource.phase == TaskExecution.RUNNING
    assert resource.message == (
        f"supervisor lost, outcome will be unknown: running as process {pid}"
    )
    await connector.delete(meta)
    assert (await connector.get(meta)).phase == TaskExecution.RUNNING
    clock.ahead = timedelta(seconds=11)
    await connector.get(meta)
    await pulse.stopped()
    ended = await blocking(pidfd_wait, pid)
    assert ended
    assert (await connector.get(meta)).phase == TaskExecution.ABORTED


async def test_an_orphan_that_ended_by_itself_is_lost(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """Its parent was to write down the exit status, and is dead."""
    pulse, pid = await orphan(connector, tmp_path)
    os.killpg(pid, signal.SIGKILL)
    await pulse.stopped()
    assert await blocking(pidfd_wait, pid)
    with pytest.raises(ResourceGoneError, match="outcome is lost"):
        await connector.get(ProcessMeta(TOKEN))


async def test_after_a_restart_of_the_machine_a_job_is_lost(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """Same process id and start tick, other boot: another process."""
    pulse, pid = await orphan(connector, tmp_path)
    started = folder_of(connector) / "started"
    boot = (await blocking(started.read_text)).split('"mark": "')[1][:36]
    text = started.read_text().replace(boot, "0" * 8 + boot[8:])
    started.write_text(text)
    with pytest.raises(ResourceGoneError, match="outcome is lost"):
        await connector.get(ProcessMeta(TOKEN))
    await connector.delete(ProcessMeta(TOKEN))
    os.kill(pid, 0)  # not ours: it was not touched
    os.killpg(pid, signal.SIGKILL)
    await pulse.stopped()


def pidfd_wait(pid: int) -> bool:
    """Return once a process that is not our child has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 10)[0])
    finally:
        os.close(fd)
