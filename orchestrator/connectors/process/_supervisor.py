"""The supervisor: the small program that runs one command and records how it ended.

It is started by path (``python -I -S _supervisor.py TOKEN FOLDER LOCK REPLY``), in a
session of its own, and imports nothing of this package: whatever happens to the
orchestrator does not happen to it. The three numbers are inherited descriptors: the
job folder, its locked lock file, and a pipe to the creator. The command comes through
standard input, so that neither ``ps`` nor the job folder ever shows an environment.

The order of its steps is the promise that a command is started at most once:

1.  Read the whole command. Cut short (the creator died): leave, nothing happened.
2.  Fork the command's process, which waits for a go on a pipe before it executes
    anything. If the supervisor dies now, the pipe closes and that process leaves.
3.  Write ``started`` (process ids and start marks) by linking a complete, synced file
    to that name. A link never replaces: of all who try, one wins, for ever.
4.  Say "started" to the creator, and "go" to the process.
5.  Wait. A byte in the FIFO ``control`` is the wish to end it: TERM to the group, and
    KILL after the grace period. When the command ends, what is left of its group is
    killed before its process id is given back, so no number can mean someone else.
6.  Write ``status``, synced and renamed into place. The space for it was reserved
    in step 3, so a disk that filled up meanwhile does not lose the outcome.

The lock is held from before the first step to the end of the process: "is the
supervisor alive" is asked of the lock, never of a process id.
"""

# pathlib, contextlib, typing and dataclasses each cost about as much time to import as
# the rest of the program takes: this file does without them.
# ruff: noqa: PTH104, PTH108, PTH110, PTH123, SIM105

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys

STARTED, STATUS, CONTROL = "started", "status", "control"
STDOUT, STDERR = "stdout", "stderr"
NEVER_STARTED = b'{"pid": 0}'
"""Content of a ``started`` that somebody wrote to keep the command from starting."""

_DIRECT = getattr(os, "waitid", None)  # not on macOS before Python 3.13
_RESERVED = 256  # bytes; a status has less than 100
_IGNORABLE = (
    # What this program, or whoever started the orchestrator, may have set to be
    # ignored: a program inherits that, and would not die of TERM.
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)


class Spec:
    """The command, as it travels through the pipe."""

    def __init__(
        self, grace_s: float, cwd: bytes, argv: list[bytes], env: dict[bytes, bytes]
    ) -> None:
        self.grace_s = grace_s
        self.cwd = cwd
        self.argv = argv
        self.env = env


def encode_spec(spec: Spec) -> bytes:
    """Encode *spec* with its length in front; no value may hold a NUL byte."""
    parts = [b"%d" % round(spec.grace_s * 1000), spec.cwd, b"%d" % len(spec.argv)]
    parts += spec.argv
    parts += [name + b"=" + value for name, value in spec.env.items()]
    body = b"\0".join(parts)
    return b"%d\n%s" % (len(body), body)


def decode_spec(data: bytes) -> Spec | None:
    """Return the spec, or None if *data* is cut short."""
    length, newline, body = data.partition(b"\n")
    if not newline or len(body) != int(length):
        return None
    grace_ms, cwd, count, *rest = body.split(b"\0")
    argv, pairs = rest[: int(count)], rest[int(count) :]
    env = dict(pair.split(b"=", 1) for pair in pairs)
    return Spec(int(grace_ms) / 1000, cwd, argv, env)


def start_mark(pid: int) -> str:
    """Return what tells process *pid* from every other that ever had its number.

    On Linux that is the boot and the start time in clock ticks since the boot,
    elsewhere what ``ps`` says (to the second). Empty if there is no such process or
    it has already ended and only waits to be collected.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may itself hold spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return "" if os.path.exists("/proc/self/stat") else _ps_mark(pid)
    return "" if fields[0] in b"ZXx" else f"{boot}:{fields[19].decode()}"


def _ps_mark(pid: int) -> str:
    """Return the start mark on systems without /proc."""
    import subprocess  # noqa: PLC0415 - costs as much as the rest of the program

    told = subprocess.run(  # noqa: S603 - a number and nothing else is handed over
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C"},
    ).stdout.decode(errors="replace")
    state, _, started = told.strip().partition(" ")
    return "" if state.startswith("Z") or not started else f"ps:{started.strip()}"


def reach(name: str) -> None:
    """Do nothing at a named point; the crash tests put a kill -9 here."""


def _read_all(fd: int) -> bytes:
    """Read *fd* to its end."""
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def _write_synced(name: str, data: bytes, flags: int = os.O_CREAT | os.O_EXCL) -> None:
    """Write the file *name* and have it on the disk on return."""
    fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | flags, 0o600)
    try:
        os.write(fd, data)
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(*names: str) -> None:
    """Remove what a supervisor left that died before it wrote ``started``."""
    for name in names:
        try:
            os.unlink(name)
        except FileNotFoundError:
            continue


def _signal_group(pid: int, number: int) -> None:
    """Send a signal to the group that *pid* leads or led."""
    if pid <= 1:
        raise ValueError(pid)  # group 0 is our own, and 1 is taken for everyone's
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        # Nobody left; or (on macOS) only processes that wait to be collected.
        return


def _become_command(spec: Spec, go: int, failed: int, files: tuple[int, int]) -> None:
    """Be the command's process: wait for the go, then execute. Never returns."""
    step = b"chdir"
    try:
        os.setsid()
        if os.read(go, 1) != b"g":
            os._exit(0)
        for number in _IGNORABLE:
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(files[0], 1)
        os.dup2(files[1], 2)
        os.chdir(spec.cwd)
        step = b"exec"
        os.execvpe(spec.argv[0], spec.argv, spec.env)  # noqa: S606 - no shell is meant
    except OSError as error:
        os.write(failed, b"%d %s" % (error.errno or 0, step))
    finally:
        os._exit(127)


def _fork_command(spec: Spec) -> tuple[int, int, int]:
    """Fork the waiting process; return its pid, the go pipe and the failure pipe."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    files = os.open(STDOUT, flags, 0o600), os.open(STDERR, flags, 0o600)
    go_read, go_write = os.pipe()
    failed_read, failed_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        _become_command(spec, go_read, failed_write, files)
    for fd in (go_read, failed_write, *files):
        os.close(fd)
    return pid, go_write, failed_read


def _record(pid: int, folder: int) -> bool:
    """Write ``started``; tell whether it was this process that did."""
    record = b'{"pid": %d, "mark": "%s", "supervisor": %d}' % (
        pid,
        start_mark(pid).encode(),
        os.getpid(),
    )
    _remove(STATUS + ".new", STARTED + ".new")
    _write_synced(STATUS + ".new", b" " * _RESERVED)
    _write_synced(STARTED + ".new", record)
    try:
        os.link(STARTED + ".new", STARTED)
    except FileExistsError:
        return False
    _remove(STARTED + ".new")
    os.fsync(folder)
    return True


def _open_control() -> int:
    """Make the FIFO of wishes and open it for both ends, so that it never ends."""
    _remove(CONTROL)
    os.mkfifo(CONTROL, 0o600)
    return os.open(CONTROL, os.O_RDWR | os.O_NONBLOCK)


def _catch_signals() -> int:
    """Let SIGCHLD and SIGALRM arrive as bytes in a pipe; return its reading end."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, lambda *_: None)
    # A terminal that closes or a service that stops ends the command, if it wants;
    # the one who has to write down how it ended stays.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return read


def _collect(pid: int) -> int | None:
    """Return the wait status once the command has ended, its group being dead too.

    Its process stays uncollected until the group is killed: so the number of the
    group is still its own at that moment.
    """
    if _DIRECT is not None:
        ended = _DIRECT(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        _signal_group(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        _signal_group(pid, signal.SIGKILL)
    return status if done else None


def _drain(fd: int) -> bytes:
    """Read what waits in a non-blocking pipe."""
    try:
        return os.read(fd, 512)
    except BlockingIOError:
        return b""


def _supervise(pid: int, wakes: int, control: int, grace_s: float) -> tuple[int, bool]:
    """Wait for the end; return the wait status, and whether it was wished for."""
    aborted = False
    while (status := _collect(pid)) is None:
        select.select([wakes, control], [], [])
        woken, wished = _drain(wakes), _drain(control)
        if signal.SIGALRM in woken:
            _signal_group(pid, signal.SIGKILL)
        if not wished or aborted:
            continue
        if (status := _collect(pid)) is not None:
            break  # it had ended before the wish came
        aborted = True
        _signal_group(pid, signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
        _signal_group(pid, signal.SIGCONT)
        signal.setitimer(signal.ITIMER_REAL, grace_s)
    return status, aborted


def _describe(status: int, failure: bytes, *, aborted: bool) -> bytes:
    """Return the text of ``status``."""
    if failure:
        number, _, step = failure.partition(b" ")
        outcome = b'"errno": %d, "step": "%s"' % (int(number), step)
    elif os.WIFSIGNALED(status):
        outcome = b'"signal": %d' % os.WTERMSIG(status)
    else:
        outcome = b'"code": %d' % os.WEXITSTATUS(status)
    return b'{%s, "aborted": %s}' % (outcome, b"true" if aborted else b"false")


def run(folder: int, reply: int) -> None:
    """Run the one command of the job folder that is the current folder."""
    spec = decode_spec(_read_all(0))
    reach("supervisor.command_read")
    if spec is None:
        return
    wakes, control = _catch_signals(), _open_control()
    pid, go, failed = _fork_command(spec)
    reach("supervisor.forked")
    if not _record(pid, folder):
        return  # the waiting process sees the pipe close, and leaves
    reach("supervisor.recorded")
    try:
        os.write(reply, b"started")
    except BrokenPipeError:
        pass  # the creator died; the job is found by its token
    os.close(reply)
    os.write(go, b"g")
    os.close(go)
    reach("supervisor.released")
    status, aborted = _supervise(pid, wakes, control, spec.grace_s)
    reach("supervisor.ended")
    outcome = _describe(status, _drain(failed), aborted=aborted)
    _write_synced(STATUS + ".new", outcome, flags=0)
    os.rename(STATUS + ".new", STATUS)
    os.fsync(folder)
    reach("supervisor.status_written")


def main(argv: list[str]) -> None:
    """Detach from the creator, then run. *argv* as in the module's docstring."""
    folder, lock, reply = (int(number) for number in argv[2:5])
    if os.fork():
        os._exit(0)  # the creator waits for this one, and so gets no zombie
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for fd in (folder, lock, reply):
        os.set_inheritable(fd, False)  # noqa: FBT003 - the function's only form
    fcntl.flock(lock, fcntl.LOCK_EX)  # held already by the open file; costs nothing
    os.fchdir(folder)
    run(folder, reply)


if __name__ == "__main__":
    main(sys.argv)
