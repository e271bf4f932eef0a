"""Lock files: at most one holder among the processes of a machine, and a name for whoever it is.

The lock is the kernel's, so it goes with the process that held it, however that ended,
and it holds against a second opening in the same process as well. What stands in the file is only
there to be read by people. All of it blocks, shortly: it belongs into a thread.
"""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from hms_bus import kernellock
from hms_bus.ids import stamp

OPEN_FLAGS: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
"""For files that others may have put there, as far as the system knows them."""


class FileLock:
    """A lock file that is held. Call `release` once."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next one in. Removes the file first, while nobody else can hold it.

        A file of that name that is not the held one is another holder's, and stays.
        """
        if _is_same_file(self._path, self._descriptor):
            # Windows removes no file that is open; there it stays, and says who had it last.
            with suppress(PermissionError):
                self._path.unlink(missing_ok=True)
        # Closing would leave the lock with a child process that was forked meanwhile.
        kernellock.let_go(self._descriptor)
        os.close(self._descriptor)


def try_lock(path: Path, *, mode: int) -> FileLock | str:
    """Return the lock, or in words who holds it.

    Makes the file with `mode` if there is none. Never follows a symbolic link, which would let
    whoever made it choose a file to be overwritten. Raises `OSError`.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, mode)
        try:
            if not kernellock.take(descriptor):
                os.lseek(descriptor, 0, os.SEEK_SET)
                holder = _describe(os.read(descriptor, _MAX_BYTES))
                os.close(descriptor)
                return holder
            is_ours = _is_same_file(path, descriptor)
            if is_ours:
                _write_holder(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if is_ours:
            return FileLock(path, descriptor)
        # The one before removed the file between our open and our lock: that one guards nothing.
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock. Takes it for a moment if nobody does. Raises `OSError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
    except FileNotFoundError:
        return False
    try:
        return kernellock.is_taken(descriptor)
    finally:
        os.close(descriptor)


def read_holder(path: Path) -> str | None:
    """Return in words who holds the lock, or held it to a violent end; `None` without a file."""
    try:
        return _describe(path.read_bytes()[:_MAX_BYTES])
    except OSError:
        return None


_MAX_BYTES = 4096


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
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
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, msgspec.json.encode(document) + b"\n")


def _describe(content: bytes) -> str:
    """Return the holder in words; the file may be empty for the moment of its making."""
    try:
        who = msgspec.json.decode(content, type=dict[str, str | int])
        return f"process {who['pid']} on {who['host']} ({who['program']}, since {who['since']})"
    except (msgspec.DecodeError, KeyError):
        return "another process"
