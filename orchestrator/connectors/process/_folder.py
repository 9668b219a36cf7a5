"""The job folder: files of one job, reached through descriptors and never by path.

A folder lies under the root and is named by the token. In it are

================  ==================================================================
``lock``          locked (flock) by the creator, then by the supervisor, all its life
``meta``          the job's handle, written before anything is started
``started``       process ids and start marks; its existence is "started, for ever"
``abort``         when the first ``delete`` came
``status``        how the command ended
``stdout``        what it printed; ``stderr`` likewise
``outputs.json``  what the command wrote to ``$ORCHESTRATOR_OUTPUTS``
``control``       FIFO to the supervisor: any byte is the wish to end the command
``log``           the supervisor's own errors, empty in all but broken cases
================  ==================================================================

Below the root nothing follows a symbolic link, and a name is opened only below a
folder that is open already; a token is checked before it becomes a name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import threading
from typing import TYPE_CHECKING, Any, Self

from orchestrator._ids import TOKEN
from orchestrator.connectors.process._supervisor import CONTROL, NEVER_STARTED, STARTED
from orchestrator.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK, META, ABORT, LOG, OUTPUTS = "lock", "meta", "abort", "log", "outputs.json"
TOKEN_LENGTH_MAX = 64
RECORD_BYTES_MAX = 64 * 1024

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# The root itself is the user's choice, and may be a link to another disk.
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A FIFO that somebody put in a file's place must not make an open wait.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def check_token(token: str) -> str:
    """Return *token* if it may name a folder.

    Raises:
        PermanentError: It is no token of this library.
    """
    if len(token) > TOKEN_LENGTH_MAX or not TOKEN.fullmatch(token):
        raise PermanentError(f"{token[:80]!r} is no job token (o<32 hex>-<attempt>)")
    return token


class JobFolder:
    """One open job folder; a context manager. Its methods block: use a thread."""

    def __init__(self, token: str, fd: int) -> None:
        """Take over the open descriptor *fd* of the folder."""
        self.token = token
        self.fd = fd

    def __enter__(self) -> Self:
        """Return the folder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folder."""
        os.close(self.fd)

    @classmethod
    def find(cls, root: Path, token: str) -> JobFolder | None:
        """Open the folder of *token*, None if there is none.

        Raises:
            PermanentError: *token* is no token.
            OSError: Something else than a folder of ours is in that place.
        """
        check_token(token)
        try:
            root_fd = os.open(root, _ROOT)
        except FileNotFoundError:
            return None
        try:
            return cls(token, os.open(token, _FOLDER, dir_fd=root_fd))
        except FileNotFoundError:
            return None
        finally:
            os.close(root_fd)

    @classmethod
    def make(cls, root: Path, token: str) -> JobFolder:
        """Open the folder of *token*, made if needed; on the disk on return.

        Raises:
            PermanentError: *token* is no token, or others may write in *root*.
        """
        check_token(token)
        _make_root(root)
        root_fd = os.open(root, _ROOT)
        try:
            _check_private(root, root_fd)
            try:
                os.mkdir(token, 0o700, dir_fd=root_fd)
            except FileExistsError:
                pass
            else:
                os.fsync(root_fd)
            return cls(token, os.open(token, _FOLDER, dir_fd=root_fd))
        finally:
            os.close(root_fd)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int | None]:
        """Hold the lock, as its descriptor; None if somebody else holds it.

        The lock belongs to the open file, so a supervisor that inherits the
        descriptor keeps it when the creator closes its own.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(LOCK, flags, 0o600, dir_fd=self.fd)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield fd
        finally:
            os.close(fd)

    def supervised(self) -> bool:
        """Tell whether a creator or supervisor lives, by the lock alone."""
        try:
            fd = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def exists(self, name: str) -> bool:
        """Tell whether the folder has an entry *name*."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def write_once(self, name: str, data: bytes) -> bool:
        """Write a whole, synced file unless *name* exists; tell whether it was us.

        Atomic: all of it or nothing is seen, also after a power loss; of several
        writers one wins.
        """
        draft = f"{name}.{os.getpid()}.{threading.get_ident()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(draft, flags, 0o600, dir_fd=self.fd)
        try:
            os.write(fd, data)
            os.fsync(fd)
            os.link(draft, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except FileExistsError:
            return False
        finally:
            os.close(fd)
            os.unlink(draft, dir_fd=self.fd)
        os.fsync(self.fd)
        return True

    def forbid_start(self) -> bool:
        """Keep the command from ever starting; False if it was started before."""
        return self.write_once(STARTED, NEVER_STARTED)

    def record(self, name: str) -> dict[str, Any] | None:
        """Return a small JSON record; None if it is absent or unreadable."""
        text = self.read(name, RECORD_BYTES_MAX)
        try:
            value = json.loads(text) if text is not None else None
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def read(self, name: str, limit: int) -> bytes | None:
        """Return at most *limit* bytes from the start of a file, None if absent."""
        return self.read_at(name, 0, limit)

    def read_at(self, name: str, offset: int, limit: int) -> bytes | None:
        """Return at most *limit* bytes from *offset*, None if there is no file."""
        fd = self._open_file(name)
        if fd is None:
            return None
        try:
            return os.pread(fd, limit, offset)
        finally:
            os.close(fd)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, 0 if there is none."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def tail(self, name: str, limit: int) -> bytes:
        """Return at most the last *limit* bytes of a file, cut between characters."""
        size = self.size(name)
        data = self.read_at(name, max(size - limit, 0), limit) or b""
        if size > limit:
            # A UTF-8 character that was cut leaves at most three of these behind.
            inside = range(0x80, 0xC0)
            cut = next((i for i, byte in enumerate(data[:4]) if byte not in inside), 0)
            data = data[cut:]
        return data

    def changed_us(self) -> int:
        """Return when a file of the job last changed, in microseconds since 1970."""
        names = [entry.name for entry in os.scandir(self.fd)]
        stats = [os.stat(n, dir_fd=self.fd, follow_symlinks=False) for n in names]
        return max(s.st_mtime_ns for s in [os.fstat(self.fd), *stats]) // 1000

    def send_wish(self) -> bool:
        """Ask the supervisor to end the command; False if no supervisor listens."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(CONTROL, flags, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody has the reading end
                return False
            raise
        try:
            # If the pipe is full, wishes enough are waiting to be read.
            with contextlib.suppress(BlockingIOError):
                os.write(fd, b"T")
        except BrokenPipeError:
            return False
        finally:
            os.close(fd)
        return True

    def _open_file(self, name: str) -> int | None:
        """Open a regular file for reading; anything else counts as absent."""
        try:
            fd = os.open(name, _READ, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd


def _make_root(root: Path) -> None:
    """Make the root and the folders above it; new ones are for this user alone."""
    missing = []
    while not root.exists():
        missing.append(root)
        root = root.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def _check_private(root: Path, root_fd: int) -> None:
    """Refuse a root in which another user could plant a job folder."""
    found = os.fstat(root_fd)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermanentError(
            f"job folder root {root} must belong to this user and be writable by no"
            " other: chmod 700 it, or choose another root"
        )
