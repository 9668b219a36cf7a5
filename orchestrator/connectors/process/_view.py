"""What a job folder says about its job, and the last resort against an orphan."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.connectors.process import _supervisor
from orchestrator.connectors.process._folder import ABORT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.connectors.process._folder import JobFolder


@dataclass(frozen=True, slots=True)
class View:
    """The records of one folder, read in an order that makes them agree.

    Attributes:
        started: The record ``started``, None before the start.
        supervised: Whether a creator or the supervisor lives.
        status: The record ``status``, None before the end.
        abort_us: When the first ``delete`` came, None if none did.
        orphaned: Whether the command lives without its supervisor.
    """

    started: Mapping[str, Any] | None
    supervised: bool
    status: Mapping[str, Any] | None
    abort_us: int | None
    orphaned: bool

    @property
    def pid(self) -> int:
        """Process id of the command, 0 if it never started or was kept from it."""
        pid = (self.started or {}).get("pid")
        return pid if isinstance(pid, int) and pid > 1 else 0

    @property
    def forbidden(self) -> bool:
        """Whether the command was kept from ever starting."""
        return self.started is not None and not self.pid

    @property
    def ended(self) -> bool:
        """Whether nothing of the job runs or can start any more."""
        if self.started is None or self.orphaned:
            return False
        return self.forbidden or self.status is not None or not self.supervised


def look(folder: JobFolder) -> View:
    """Read the records of *folder*.

    The lock is asked before the status is read: a supervisor that was seen dead has
    written all it will ever write.
    """
    started = folder.record(_supervisor.STARTED)
    supervised = folder.supervised()
    status = folder.record(_supervisor.STATUS)
    abort = folder.record(ABORT)
    at_us = abort.get("at_us") if abort else None
    orphaned = bool(
        started is not None
        and status is None
        and not supervised
        and _is_alive(started.get("pid"), started.get("mark"))
    )
    return View(
        started, supervised, status, at_us if isinstance(at_us, int) else None, orphaned
    )


def write_wish(folder: JobFolder, now_us: int) -> None:
    """Record that the job is to end; the first wish stays."""
    folder.write_once(ABORT, json.dumps({"at_us": now_us}).encode())


def press_orphan(view: View, now_us: int, grace_s: float) -> None:
    """Signal the group of a command whose supervisor died: TERM, later KILL.

    Does nothing unless a wish is recorded and the group's leader still is the
    process that was started: same process id and same start mark.
    """
    if view.abort_us is None or not view.orphaned or view.started is None:
        return
    # A clock that was set back must not keep the job alive: then KILL at once.
    patient = 0 <= now_us - view.abort_us < grace_s * 1_000_000
    for number in (signal.SIGTERM if patient else signal.SIGKILL, signal.SIGCONT):
        if _is_alive(view.pid, view.started.get("mark")):
            _signal_group(view.pid, number)


def describe(status: Mapping[str, Any]) -> str:
    """Say in words how the command ended."""
    if "errno" in status:
        number = int(status["errno"])
        symbol = errno.errorcode.get(number, str(number))
        what = "run the command" if status.get("step") == "exec" else "enter its folder"
        return f"cannot {what}: {os.strerror(number)} [{symbol}]"
    if "signal" in status:
        number = int(status["signal"])
        known = {s.value: s.name for s in signal.Signals}
        return f"killed by {known.get(number, f'signal {number}')}"
    return f"exit status {status.get('code')}"


def _is_alive(pid: object, mark: object) -> bool:
    """Tell whether the process with this id is the one that got this start mark."""
    if not isinstance(pid, int) or pid <= 1 or not mark:
        return False
    return mark == _supervisor.start_mark(pid)


def _signal_group(pid: int, number: int) -> None:
    """Send a signal to a group; one that is gone is no error."""
    if pid <= 1:
        raise ValueError(pid)  # group 0 is our own, and 1 is taken for everyone's
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
