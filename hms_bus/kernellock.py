"""The kernel's exclusive lock on an open file: `flock`, or what Windows has in its place.

Both go with the process that holds them, however it ends, and hold against a second opening in the
same process.
"""

import errno
import os
import sys

if sys.platform == "win32":
    import msvcrt

    _FAR_BEHIND = 2**30
    """Windows lets nobody read what is locked, so it is a byte behind all that is written."""

    def take(descriptor: int) -> bool:
        """Take the lock if nobody holds it; whether that was so. Raises `OSError`."""
        os.lseek(descriptor, _FAR_BEHIND, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in {errno.EACCES, errno.EDEADLK, errno.EAGAIN}:
                raise
            return False
        return True

    def let_go(descriptor: int) -> None:
        """Let the next one have it. Raises `OSError`."""
        os.lseek(descriptor, _FAR_BEHIND, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def is_taken(descriptor: int) -> bool:
        """Whether somebody holds it; takes it for a moment if nobody does. Raises `OSError`."""
        if not take(descriptor):
            return True
        let_go(descriptor)
        return False

else:
    import fcntl

    def take(descriptor: int) -> bool:
        """Take the lock if nobody holds it; whether that was so. Raises `OSError`."""
        return _flock(descriptor, fcntl.LOCK_EX)

    def let_go(descriptor: int) -> None:
        """Let the next one have it. Raises `OSError`."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def is_taken(descriptor: int) -> bool:
        """Whether somebody holds it; takes it for a moment if nobody does. Raises `OSError`."""
        # Shared, so that those who look do not see each other.
        if not _flock(descriptor, fcntl.LOCK_SH):
            return True
        let_go(descriptor)
        return False

    def _flock(descriptor: int, kind: int) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
