"""The lock file beside a log: at most one writer, and a name for whoever it is.

The lock is the kernel's (`flock`), so it goes with the process that held it, however that ended,
and it holds against a second opening in the same process as well. What stands in the file is only
there to be read by people.
"""

import fcntl
import os
import socket
import sys
from pathlib import Path

import msgspec

from hms_bus.errors import LogLockedError
from hms_bus.ids import stamp

_MODE = 0o644


class FileLock:
    """The held lock file of one log. Call `release` once."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next writer in. Removes the file first, while nobody else can hold it.

        A file of that name that is not the held one is another writer's, and stays.
        """
        if _is_same_file(self._path, self._descriptor):
            self._path.unlink(missing_ok=True)
        # Closing would leave the lock with a child process that was forked meanwhile.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)


def lock_path(log: Path) -> Path:
    """Return the lock file of `log`."""
    return log.with_name(f"{log.name}.lock")


def acquire(log: Path) -> FileLock:
    """Lock `log` for writing. Raises `LogLockedError` that says who holds it, `OSError`."""
    path = lock_path(log)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise LogLockedError(path=str(log), holder=holder) from None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_same_file(path, descriptor):
            _write_holder(descriptor)
            return FileLock(path, descriptor)
        # The one before removed the file between our open and our lock: that one guards nothing.
        os.close(descriptor)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int) -> None:
    _, now = stamp()
    document = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "program": Path(sys.argv[0]).name if sys.argv else "",
        "since": now,
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, msgspec.json.encode(document) + b"\n", 0)


def _read_holder(descriptor: int) -> str:
    """Return the holder in words; the file may be empty for the moment of its making."""
    try:
        who = msgspec.json.decode(os.pread(descriptor, 4096, 0), type=dict[str, str | int])
        return f"process {who['pid']} on {who['host']} ({who['program']}, since {who['since']})"
    except (msgspec.DecodeError, KeyError):
        return "another process"
