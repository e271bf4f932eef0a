"""SQLite's and the system's errors in this package's words, each with the next step."""

import errno
import sqlite3
from pathlib import Path

from hms_bus.errors import LogCorruptError, LogError, LogFormatError, LogReadOnlyError

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _primary(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 for an error that is Python's own."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds the file, so that the same call may succeed later."""
    return _primary(error) in _BUSY


def busy(error: sqlite3.Error, path: str) -> LogError:
    """Explain why a transaction could not begin."""
    return LogError(
        f"log {path} is held by another SQLite connection ({error}): nothing was appended; end "
        "that connection's transaction, or wait longer with ?busy=SECONDS",
        path=path,
    )


def write_failed(error: Exception, path: str) -> LogReadOnlyError:
    """Tell the callers whose events were being written."""
    return LogReadOnlyError(
        f"log {path} turned read-only because a write failed ({_describe(error)}): what was "
        "acknowledged before is kept and can be read; whether these events are kept shows once it "
        f"is opened again, and then appending them again appends none twice. {_next_step(error)}",
        path=path,
    )


def read_only_since(error: Exception, path: str) -> LogReadOnlyError:
    """Tell the callers that came after a failed write."""
    return LogReadOnlyError(
        f"log {path} is read-only since a write failed ({_describe(error)}): nothing was appended, "
        f"what was acknowledged before is kept and can be read. {_next_step(error)}",
        path=path,
    )


def _next_step(error: Exception) -> str:
    code = _primary(error) if isinstance(error, sqlite3.Error) else 0
    if code == sqlite3.SQLITE_FULL:
        return "Free disk space (or raise ?max_bytes=) and open the log again."
    if code == sqlite3.SQLITE_CONSTRAINT:
        return "Another program wrote into the file: stop it, `hms-bus log verify`, open it again."
    if code in _DAMAGED:
        return "Run `hms-bus log verify`, and restore the file from a copy."
    return "Check the disk (its space, quota and health) and open the log again."


def read_failed(error: sqlite3.Error, path: str) -> LogError:
    """Explain why a page could not be read."""
    if _primary(error) in _DAMAGED:
        return LogCorruptError(
            f"log {path} is damaged ({error}): run `hms-bus log verify`, restore it from a copy",
            path=path,
        )
    return LogError(f"log {path} cannot be read: {_describe(error)}", path=path)


def open_failed(error: Exception, path: Path) -> LogError:
    """Explain why a log could not be opened."""
    name = str(path)
    if isinstance(error, sqlite3.Error):
        if _primary(error) in _DAMAGED:
            return not_a_log(path, str(error))
        if is_busy(error):
            return busy(error, name)
    if isinstance(error, PermissionError) or (
        isinstance(error, sqlite3.Error)
        and _primary(error) in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
    ):
        return no_permission(path)
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return no_permission(path)
    return LogError(f"log {name} cannot be opened: {_describe(error)}", path=name)


def not_a_log(path: Path, why: str) -> LogFormatError:
    """Explain that the file holds something else."""
    return LogFormatError(
        f"{path} is no log of hms-bus ({why}): give the name of a new file, or of a log",
        path=str(path),
    )


def no_permission(path: Path) -> LogError:
    """Explain that the file or its folder may not be written."""
    return LogError(
        f"no permission to write {path}, or files beside it in {path.parent}: change the owner or "
        "mode, or open it with ?readonly=true",
        path=str(path),
    )


def _describe(error: Exception) -> str:
    name = getattr(error, "sqlite_errorname", None)
    return f"{error}, {name}" if name else str(error) or type(error).__name__
