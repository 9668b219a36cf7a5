"""What the tests of the process connector share: templates, gates and waiting.

Nothing here waits by time, though every wait is bounded. The end of a job is waited
for by taking its lock, which the kernel frees when the supervisor dies; a command that
runs is one whose FIFO was opened, and one that died, with all its children, one whose
FIFO came to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flyteidl2.connector.connector_pb2 import TaskExecutionMetadata
from flyteidl2.core import interface_pb2, tasks_pb2
from google.protobuf import json_format

from orchestrator._clock import SystemClock
from orchestrator.connectors.process import ProcessConnector, ProcessMeta, _supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator._connector import Resource

T = TypeVar("T")

WAIT_S_MAX = 10.0

TOKEN = "o0123456789abcdef0123456789abcdef-1"  # noqa: S105 - the name of a job


def template(
    command: list[str] | str, *, outputs: tuple[str, ...] = (), **custom: Any
) -> tasks_pb2.TaskTemplate:
    """Return a template as ProcessTask makes it."""
    made = tasks_pb2.TaskTemplate(type="process")
    made.id.name = "the-task"
    for name in outputs:
        entry = interface_pb2.VariableEntry(key=name)
        made.interface.outputs.variables.append(entry)
    json_format.ParseDict({"command": command, **custom}, made.custom)
    return made


def shell(text: str, **custom: Any) -> tasks_pb2.TaskTemplate:
    """Return the template of a shell command."""
    return template(text, shell=True, **custom)  # noqa: S604 - what is tested


async def create(
    connector: ProcessConnector,
    what: tasks_pb2.TaskTemplate,
    inputs: dict[str, Any] | None = None,
    *,
    token: str = TOKEN,
    **secrets: str,
) -> ProcessMeta:
    """Call ``create`` as the engine does."""
    metadata = TaskExecutionMetadata(labels={"orchestrator-token": token})
    return await connector.create(
        what,
        "file:///nowhere",
        inputs=inputs,
        task_execution_metadata=metadata,
        idempotency_token=token,
        **secrets,
    )


def folder_of(connector: ProcessConnector, token: str = TOKEN) -> Path:
    """Return the path of a job folder."""
    return connector.root / token


def wait_for_supervisor(folder: Path) -> None:
    """Return once no creator and no supervisor of this folder lives."""
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)


async def blocking(call: Callable[..., T], *args: Any) -> T:
    """Run a call that waits for a process in a thread, for a bounded time.

    The thread is a daemon, unlike those of ``asyncio.to_thread``: if what it waits for
    never comes, the test fails instead of hanging.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # it is T here

    def run() -> None:
        result, error = None, None
        try:
            result = call(*args)
        except BaseException as raised:  # noqa: BLE001 - handed on
            error = raised
        with contextlib.suppress(RuntimeError):  # the test is over
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, daemon=True, name=f"wait-{call}").start()
    return await asyncio.wait_for(future, WAIT_S_MAX)


async def until_ended(connector: ProcessConnector, meta: ProcessMeta) -> Resource:
    """Return what ``get`` says once the supervisor is gone."""
    await blocking(wait_for_supervisor, folder_of(connector, meta.token))
    return await connector.get(meta)


class Gate:
    """A command that tells when it runs, and waits until it may go on.

    ``$ready`` and ``$open`` are FIFOs: the command writes a line to the first one
    and reads one from the second one.
    """

    WAIT = 'echo "$$" >"$ready"; read -r line <"$open"'

    def __init__(self, folder: Path) -> None:
        self.env = {"ready": str(folder / "ready"), "open": str(folder / "open")}
        for path in self.env.values():
            os.mkfifo(path)

    async def reached(self) -> int:
        """Wait until the command is there; return its process id."""
        return int(await blocking(Path(self.env["ready"]).read_text))

    async def open(self) -> None:
        """Let the command go on."""
        await blocking(Path(self.env["open"]).write_text, "go\n")


class Pulse:
    """A FIFO that a command and all its children keep open: it ends with the last.

    The command does ``exec 3>"$pulse"``, then writes a line to tell that it runs.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pulse"
        os.mkfifo(self.path)
        self.env = {"pulse": str(self.path)}
        self._fd = -1

    async def started(self) -> str:
        """Wait for the line; return it."""
        self._fd = await blocking(os.open, self.path, os.O_RDONLY)
        data = b""
        while not data.endswith(b"\n"):
            data += await blocking(os.read, self._fd, 64)
        return data.decode().strip()

    async def stopped(self) -> None:
        """Wait until nobody holds the FIFO any more."""
        while await blocking(os.read, self._fd, 64):
            pass
        os.close(self._fd)


class AheadClock(SystemClock):
    """The system's clock, but a settable time ahead."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self.ahead = ahead

    def now_us(self) -> int:
        """Return the time, ahead."""
        return super().now_us() + self.ahead // timedelta(microseconds=1)


class Killer:
    """Faults that kill this process and its whole group at a named point."""

    def __init__(self, point: str) -> None:
        self._point = point

    def reach(self, name: str) -> None:
        """Kill, if this is the point."""
        if name == self._point:
            os.killpg(0, signal.SIGKILL)


def dying_supervisor(folder: Path, point: str) -> str:
    """Return the path of a supervisor that kills itself at *point*."""
    path = folder / f"dies-at-{point}.py"
    path.write_text(
        "import os, signal, sys\n"
        f"source = open({_supervisor.__file__!r}).read()\n"
        "names = {'__name__': 'supervisor', '__file__': __file__}\n"
        "exec(compile(source, 'supervisor', 'exec'), names)\n"
        "def reach(name):\n"
        f"    if name == {point!r}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "names['reach'] = reach\n"
        "names['main'](sys.argv)\n"
    )
    return str(path)
