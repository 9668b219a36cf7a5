"""The life of a command: start, progress, outputs, end."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import json
import os
import re
import shutil
import stat
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from flyteidl2.core.execution_pb2 import TaskExecution

from orchestrator._clock import SystemClock
from orchestrator._registry import check_connector_class
from orchestrator.connectors.process import ProcessConnector, ProcessMeta
from orchestrator.connectors.process._folder import JobFolder
from orchestrator.connectors.process._view import look
from orchestrator.errors import ConfigurationError, ResourceGoneError, TransientError
from tests.connectors.measures import measured
from tests.connectors.process_kit import (
    TOKEN,
    Gate,
    Pulse,
    create,
    folder_of,
    shell,
    template,
    until_ended,
)
from tests.support.busy import busy_host

if TYPE_CHECKING:
    from pathlib import Path

    from flyteidl2.core.tasks_pb2 import TaskTemplate


async def run(connector: ProcessConnector, what: TaskTemplate, **more: Any) -> Any:
    """Run a command to its end and return what ``get`` says."""
    return await until_ended(connector, await create(connector, what, **more))


async def test_a_host_program_that_fills_its_threads_stops_no_job(
    connector: ProcessConnector,
) -> None:
    """The connector has threads of its own."""
    with busy_host():
        resource = await run(connector, shell("true"))
    assert resource.phase == TaskExecution.SUCCEEDED


async def test_a_command_that_exits_with_0_succeeds_with_its_output(
    connector: ProcessConnector,
) -> None:
    """exit_code and stdout are outputs where the interface names them."""
    what = template(["printf", "a\\nb\\n"], outputs=("exit_code", "stdout"))
    resource = await run(connector, what)
    assert resource.phase == TaskExecution.SUCCEEDED
    assert resource.outputs == {"exit_code": 0, "stdout": "a\nb\n"}
    assert list(resource.outputs) == ["exit_code", "stdout"]
    assert resource.message == "b"


async def test_a_task_without_outputs_has_none(connector: ProcessConnector) -> None:
    """None, as Flyte returns for such a task."""
    resource = await run(connector, template(["true"]))
    assert resource.phase == TaskExecution.SUCCEEDED
    assert resource.outputs is None


async def test_a_command_that_fails_tells_its_status_and_last_words(
    connector: ProcessConnector,
) -> None:
    """The end of stderr is the message, free of what a terminal would obey."""
    what = shell(r"printf '\033[31mfirst\033[0m\n\033]0;title\007second\n' >&2; exit 3")
    resource = await run(connector, what)
    assert resource.phase == TaskExecution.FAILED
    assert resource.message == "exit status 3: first | second"
    assert resource.custom_info["code"] == 3


async def test_a_command_that_is_killed_tells_the_signal(
    connector: ProcessConnector,
) -> None:
    """A signal from outside is a failure, not our abort."""
    resource = await run(connector, shell("kill -KILL $$"))
    assert resource.phase == TaskExecution.FAILED
    assert resource.message == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (template(["no-such-program"]), "cannot run the command: .*ENOENT"),
        (template(["/etc/passwd"]), "cannot run the command: .*EACCES"),
        (template(["true"], cwd="/no/such"), "cannot enter its folder: .*ENOENT"),
    ],
)
async def test_a_command_that_cannot_start_fails_with_the_reason(
    connector: ProcessConnector, what: TaskTemplate, message: str
) -> None:
    """That is the job's outcome, not an error of ``create``."""
    resource = await run(connector, what)
    assert resource.phase == TaskExecution.FAILED
    assert re.match(message, resource.message)


async def test_a_running_command_tells_the_last_line_it_printed(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """The message is the progress; of a redrawn line the last state counts."""
    gate = Gate(tmp_path)
    text = rf"printf 'one\n10 %%\r\033[1m50 %%\n'; {gate.WAIT}"
    meta = await create(connector, shell(text, env=gate.env))
    pid = await gate.reached()
    resource = await connector.get(meta)
    assert resource.phase == TaskExecution.RUNNING
    assert resource.message == "50 %"
    assert resource.custom_info is not None
    assert resource.custom_info["pid"] == pid
    assert resource.custom_info["stdout_bytes"] > 0
    # A pid is a number and measures nothing.
    assert (await measured(connector, meta)).keys() == {"stdout_bytes", "stderr_bytes"}
    await gate.open()
    assert (await until_ended(connector, meta)).phase == TaskExecution.SUCCEEDED


async def test_a_silent_command_is_running_too(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """Then the message names the process."""
    gate = Gate(tmp_path)
    meta = await create(connector, shell(gate.WAIT, env=gate.env))
    pid = await gate.reached()
    assert (await connector.get(meta)).message == f"running as process {pid}"
    await gate.open()
    await until_ended(connector, meta)


async def test_declared_outputs_come_from_the_file_that_the_command_wrote(
    connector: ProcessConnector,
) -> None:
    """They arrive in the interface's order, beside our own."""
    text = 'echo noise; echo \'{"b": [1], "rows": 7, "x": 0}\' >"$ORCHESTRATOR_OUTPUTS"'
    what = shell(text, outputs=("rows", "exit_code", "b"))
    resource = await run(connector, what)
    assert list(resource.outputs.items()) == [("rows", 7), ("exit_code", 0), ("b", [1])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("true", "it did not write"),
        ('echo nonsense >"$ORCHESTRATOR_OUTPUTS"', "is no JSON"),
        ('echo "[1]" >"$ORCHESTRATOR_OUTPUTS"', "holds no JSON object"),
        (
            'yes "[" | head -n 200000 | tr -d "\\n" >"$ORCHESTRATOR_OUTPUTS"',
            "is no JSON",
        ),
        ('echo "{}" >"$ORCHESTRATOR_OUTPUTS"', r"lacks the outputs \['rows'\]"),
        ('ln -s /etc/passwd "$ORCHESTRATOR_OUTPUTS"', "it did not write"),
        ('mkfifo "$ORCHESTRATOR_OUTPUTS"', "it did not write"),
        ('truncate -s 9M "$ORCHESTRATOR_OUTPUTS"', "is larger than"),
    ],
)
async def test_a_command_without_its_declared_outputs_failed(
    connector: ProcessConnector, text: str, message: str
) -> None:
    """Exit status 0 is not enough, and only a regular file counts."""
    resource = await run(connector, shell(text, outputs=("rows",)))
    assert resource.phase == TaskExecution.FAILED
    assert re.match("exit status 0, but ", resource.message)
    assert re.search(message, resource.message)


async def test_only_the_end_of_a_long_stdout_is_an_output(
    connector: ProcessConnector,
) -> None:
    """Bounded in bytes, cut between characters."""
    what = template(["printf", "1234€€€"], outputs=("stdout", "stderr"), stdout_bytes=7)
    resource = await run(connector, what)
    assert resource.outputs == {"stdout": "€€", "stderr": ""}


async def test_a_message_is_bounded(connector: ProcessConnector) -> None:
    """However long a line is."""
    resource = await run(connector, shell("head -c 9999 /dev/zero | tr '\\0' x"))
    assert len(resource.message) == 300
    failed = shell("head -c 9999 /dev/zero | tr '\\0' x >&2; exit 1")
    other = TOKEN[:-1] + "2"
    resource = await run(connector, failed, token=other)
    assert len(resource.message) < 1100


async def test_what_is_left_of_the_group_ends_with_the_command(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """A forgotten child in the background does not outlive its job."""
    pulse = Pulse(tmp_path)
    text = 'exec 3>"$pulse"; (trap "" TERM; exec sleep 1000) & echo up >&3; exit 0'
    meta = await create(connector, shell(text, env=pulse.env))
    assert await pulse.started() == "up"
    await pulse.stopped()
    assert (await until_ended(connector, meta)).phase == TaskExecution.SUCCEEDED


async def test_a_command_dies_of_the_signals_that_the_orchestrator_ignores(
    connector: ProcessConnector,
) -> None:
    """Python ignores SIGPIPE; inherited, that would let pipelines run for ever."""
    resource = await run(connector, shell("trap; kill -PIPE $$; echo survived"))
    assert resource.message == "killed by SIGPIPE"


async def test_a_replay_returns_the_same_job_also_after_its_end(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """The command ran once; the first handle stays."""
    count = tmp_path / "count"
    first = await create(connector, shell(f"echo ran >>{count}"))
    await until_ended(connector, first)
    again = await create(connector, shell(f"echo ran >>{count}", grace_s=1))
    assert again == first
    assert await connector.find(TOKEN) == first
    with closing(ProcessConnector(connector.root)) as other:
        assert await create(other, shell("true")) == first
    assert count.read_text() == "ran\n"


async def test_many_creations_at_once_of_one_token_start_one_command(
    connector: ProcessConnector, tmp_path: Path
) -> None:
    """Whoever loses the race finds the winner's job."""
    count = tmp_path / "count"
    with closing(ProcessConnector(connector.root)) as other:
        made = await asyncio.gather(
            *[
                create((connector, other)[n % 2], shell(f"echo ran >>{count}"))
                for n in range(8)
            ]
        )
    assert len({meta.token for meta in made}) == 1
    await until_ended(connector, made[0])
    assert count.read_text() == "ran\n"


async def test_a_creation_waits_for_another_one_of_its_token(
    connector: ProcessConnector,
) -> None:
    """Until that one is through, or gave up as here."""
    folder_of(connector).mkdir(parents=True, mode=0o700)
    connector.root.chmod(0o700)
    with (folder_of(connector) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        naps: list[float] = []

        class NapClock(SystemClock):
            async def sleep(self, seconds: float) -> None:
                naps.append(seconds)
                if len(naps) == 3:
                    fcntl.flock(lock, fcntl.LOCK_UN)

        connector._clock = NapClock()
        meta = await create(connector, template(["true"]))
    assert len(naps) == 3
    assert (await until_ended(connector, meta)).phase == TaskExecution.SUCCEEDED


async def test_a_creation_that_waits_too_long_does_not_claim_to_know(
    connector: ProcessConnector,
) -> None:
    """A TimeoutError is "unknown": the other creator may succeed yet."""
    folder_of(connector).mkdir(parents=True, mode=0o700)
    connector.root.chmod(0o700)
    with (folder_of(connector) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        class NoClock(SystemClock):
            async def sleep(self, seconds: float) -> None:
                """Let no time pass."""

        connector._clock = NoClock()
        with pytest.raises(TimeoutError, match="stays locked"):
            await create(connector, template(["true"]))


async def test_a_token_that_was_never_created_is_not_found(
    connector: ProcessConnector,
) -> None:
    """Also where there is no root yet; asking makes none."""
    assert await connector.find(TOKEN) is None
    assert not connector.root.exists()


async def test_a_job_whose_folder_is_gone_is_gone(connector: ProcessConnector) -> None:
    """``get`` says so; ``delete`` finds nothing to do."""
    meta = await create(connector, template(["true"]))
    await until_ended(connector, meta)
    shutil.rmtree(folder_of(connector))
    with pytest.raises(ResourceGoneError):
        await connector.get(meta)
    await connector.delete(meta)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"root": "/else/where"}])
async def test_a_job_of_another_place_is_not_taken_for_gone(
    connector: ProcessConnector, change: dict[str, Any]
) -> None:
    """It may be running there, so a new attempt would be a second job."""
    meta = await create(connector, template(["true"]))
    await until_ended(connector, meta)
    shutil.rmtree(folder_of(connector))
    strange = dataclasses.replace(meta, **change)
    with pytest.raises(TransientError, match="this process looks in"):
        await connector.get(strange)
    with pytest.raises(TransientError, match="this process looks in"):
        await connector.delete(strange)


async def test_half_written_records_are_tolerated(
    connector: ProcessConnector,
) -> None:
    """An unreadable status is no status: the outcome is lost, not invented."""
    meta = await create(connector, template(["true"]))
    await until_ended(connector, meta)
    for text in ("", "{", "[]", "\0" * 100):
        (folder_of(connector) / "status").write_text(text)
        with pytest.raises(ResourceGoneError, match="outcome is lost"):
            await connector.get(meta)


def test_a_status_that_is_written_while_one_looks_is_seen(tmp_path: Path) -> None:
    """The lock is asked first, so a supervisor seen dead left nothing unread."""
    (tmp_path / "started").write_text('{"pid": 0}')
    fd = os.open(tmp_path, os.O_RDONLY)

    class EndsWhenAsked(JobFolder):
        def supervised(self) -> bool:
            (tmp_path / "status").write_text('{"code": 0, "aborted": false}')
            return False

    with EndsWhenAsked(TOKEN, fd) as folder:
        assert look(folder).status is not None


async def test_a_job_folder_is_for_its_owner_alone(
    connector: ProcessConnector,
) -> None:
    """0700 for folders, 0600 for files, whatever the umask."""
    before = os.umask(0)
    try:
        meta = await create(connector, template(["echo", "x"]))
        await until_ended(connector, meta)
    finally:
        os.umask(before)
    folder = folder_of(connector)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(connector.root.stat().st_mode) == 0o700


async def test_the_start_is_reported_to_a_job_that_is_being_started(
    connector: ProcessConnector,
) -> None:
    """A folder that is locked and has no ``started`` is QUEUED, unlocked never was."""
    folder_of(connector).mkdir(parents=True)
    with (folder_of(connector) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        resource = await connector.get(ProcessMeta(TOKEN))
        assert resource.phase == TaskExecution.QUEUED
        assert await connector.find(TOKEN) is None
    with pytest.raises(ResourceGoneError, match="never started"):
        await connector.get(ProcessMeta(TOKEN))


def test_the_connector_fits_the_registry(tmp_path: Path) -> None:
    """Its class passes the check, and its handle survives the database."""
    connector = ProcessConnector(tmp_path)
    check_connector_class(connector)
    meta = ProcessMeta(TOKEN, "host", "/root", ["a"], 5, 0.5)
    assert ProcessMeta.decode(meta.encode()) == meta
    assert connector.job_key(meta) == TOKEN
    assert json.loads(meta.encode())["token"] == TOKEN


def test_a_connector_without_memory_is_refused(tmp_path: Path) -> None:
    """A retention of nothing would make every replay a second job."""
    with pytest.raises(ConfigurationError, match="retention"):
        ProcessConnector(tmp_path, retention=timedelta(0))
