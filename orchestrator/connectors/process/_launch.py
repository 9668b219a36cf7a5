"""Starting a supervisor: the few milliseconds between a folder and a running job."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from orchestrator.connectors.process import _supervisor
from orchestrator.connectors.process._folder import LOG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator._faults import Faults
    from orchestrator.connectors.process._folder import JobFolder

_STARTED = b"started"
# Where a Python that was built with a shared library may have to look for it.
_LOADER_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def launch(
    folder: JobFolder,
    lock: int,
    spec: _supervisor.Spec,
    *,
    program: str,
    environ: Mapping[str, str],
    faults: Faults,
) -> bool:
    """Start the supervisor of *folder*; tell whether it started the command.

    Returns as soon as the start is on the disk; the command's own start may still
    fail, which then is the job's outcome. False says for sure that this call
    started nothing and will start nothing. The supervisor, whose source lies at
    *program*, keeps the lock of the descriptor *lock*. *environ* is the
    orchestrator's; the command's own is part of *spec*.
    """
    reply, answer = os.pipe()
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        log = os.open(LOG, flags, 0o600, dir_fd=folder.fd)
        try:
            faults.reach("process.before_spawn")
            inherited = (folder.fd, lock, answer)
            supervisor = subprocess.Popen(  # noqa: S603 - our own program
                [
                    sys.executable,
                    "-I",
                    "-S",
                    program,
                    folder.token,
                    *map(str, inherited),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=inherited,
                cwd="/",
                env={k: environ[k] for k in _LOADER_VARIABLES if k in environ},
                start_new_session=True,
            )
        finally:
            os.close(log)
            os.close(answer)
        with supervisor:
            faults.reach("process.spawned")
            _send(supervisor, _supervisor.encode_spec(spec))
            faults.reach("process.command_sent")
            return os.read(reply, len(_STARTED)) == _STARTED
    finally:
        os.close(reply)


def _send(supervisor: subprocess.Popen[bytes], data: bytes) -> None:
    """Send the command and close the pipe, which says that it is complete."""
    pipe = supervisor.stdin
    if pipe is not None:
        # A supervisor that died already is noticed by its missing answer.
        with contextlib.suppress(BrokenPipeError), pipe:
            pipe.write(data)
