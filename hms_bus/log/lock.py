"""The lock file beside a log: at most one writer."""

from pathlib import Path

from hms_bus.errors import LogLockedError
from hms_bus.filelock import FileLock, try_lock

_MODE = 0o644


def lock_path(log: Path) -> Path:
    """Return the lock file of `log`."""
    return log.with_name(f"{log.name}.lock")


def acquire(log: Path) -> FileLock:
    """Lock `log` for writing. Raises `LogLockedError` that says who holds it, `OSError`."""
    taken = try_lock(lock_path(log), mode=_MODE)
    if isinstance(taken, FileLock):
        return taken
    raise LogLockedError(path=str(log), holder=taken)
