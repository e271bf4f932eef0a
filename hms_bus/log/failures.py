"""SQLite's and the system's errors in this package's words, each with the next step."""

import errno
import shlex
import sqlite3
from pathlib import Path

from hms_bus.errors import LogCorruptError, LogError, LogFormatError, LogReadOnlyError

APPLICATION_ID = 0x484D5342
"""`HMSB`, in the file's header (PRAGMA application_id): this is a log of ours."""

SQLITE_MAGIC = b"SQLite format 3\0"
"""How a database of SQLite begins (https://sqlite.org/fileformat2.html, section 1.3)."""

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
    failure = LogError(
        f"log {path} is held by another SQLite connection ({error}): nothing was appended; end "
        "that connection's transaction, or wait longer with ?busy=SECONDS",
        path=path,
    )
    failure.retryable = True
    return failure


def write_failed(error: Exception, path: str) -> LogReadOnlyError:
    """Tell the callers whose events were being written."""
    return LogReadOnlyError(
        f"log {path} turned read-only because {_why(error)} ({_describe(error)}): what was "
        "acknowledged before is kept and can be read; whether these events are kept shows once it "
        f"is opened again, and then appending them again appends none twice. {_next_step(error)}",
        path=path,
    )


def read_only_since(error: Exception, path: str) -> LogReadOnlyError:
    """Tell the callers that came after a failed write."""
    return LogReadOnlyError(
        f"log {path} is read-only since {_why(error)} ({_describe(error)}): nothing was appended, "
        f"what was acknowledged before is kept and can be read. {_next_step(error)}",
        path=path,
    )


def lost_under_name(name: str, path: str) -> LogReadOnlyError:
    """Tell the callers whose events went into a file that is no longer found under its name."""
    return LogReadOnlyError(
        f"log {path} turned read-only because {_loss(name)}: what was acknowledged before is where "
        f"it was; the log of that name may lack these events. {_RESTORE}, and append these events "
        "again, which appends none twice.",
        path=path,
    )


def lost_since(name: str, path: str) -> LogReadOnlyError:
    """Tell the callers that came after the loss was seen."""
    return LogReadOnlyError(
        f"log {path} is read-only because {_loss(name)}: nothing was appended, what was "
        f"acknowledged before is where it was. {_RESTORE}.",
        path=path,
    )


def _loss(name: str) -> str:
    what = "replaced by another file" if Path(name).exists() else "deleted or moved away"
    return f"{name} was {what} while the log was open"


_RESTORE = "Put the files back (or restore a copy), open the log again"


def _why(error: Exception) -> str:
    # Not retried on what the file holds now: a writer that was wrong about one record may be wrong
    # about the hash that the next one follows.
    if isinstance(error, sqlite3.IntegrityError):
        return "the file holds records that its writer does not know"
    return "a write failed"


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
        return damaged(path, str(error))
    if _primary(error) == sqlite3.SQLITE_CANTOPEN:
        step = f"Was it deleted or moved? {_RESTORE}."
    elif is_busy(error):
        step = "Another SQLite connection holds it: end that one, or wait longer with ?busy=SECONDS"
    else:
        step = _next_step(error)
    failure = LogError(f"log {path} cannot be read ({_describe(error)}). {step}", path=path)
    failure.retryable = is_busy(error)
    return failure


def damaged(path: str, what: str, position: int | None = None) -> LogCorruptError:
    """Explain that the file holds what no log writes."""
    return LogCorruptError(
        f"log {path} is damaged ({what}): run `hms-bus log doctor`, restore it from a copy, or "
        "save what can be read with `hms-bus log recover`",
        path=path,
        position=position,
    )


def open_failed(error: Exception, path: Path, *, is_read_only: bool = False) -> LogError:
    """Explain why a log could not be opened."""
    name = str(path)
    if isinstance(error, sqlite3.Error):
        if _primary(error) == sqlite3.SQLITE_CORRUPT and _is_marked(path):
            return LogCorruptError(
                f"log {name} is damaged ({error}; was it cut off?): restore it from a copy, or "
                f"save what can be read: hms-bus log recover {shlex.quote(name)} -o NEW",
                path=name,
            )
        if _primary(error) in _DAMAGED:
            return not_a_log(path, str(error), is_read_only=is_read_only)
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


def _is_marked(path: Path) -> bool:
    """Whether the header of the file, offsets 68 to 71, says that it is a log of ours."""
    try:
        with path.open("rb") as file:
            header = file.read(72)
    except OSError:
        return False
    return header[68:] == APPLICATION_ID.to_bytes(4)


def not_a_log(path: Path, why: str, *, is_read_only: bool = False) -> LogFormatError:
    """Explain that the file holds something else."""
    step = "give the name of a log" if is_read_only else "give the name of a new file, or of a log"
    return LogFormatError(
        f"{path} is no log of hms-bus ({why}): {step}; if it was one, "
        f"`hms-bus log doctor {shlex.quote(str(path))}` tells what is left",
        path=str(path),
    )


def empty(path: Path) -> LogFormatError:
    """Explain that there is nothing to read, and that opening it would hide a loss."""
    return LogFormatError(
        f"{path} is empty, not even a log without records: give the name of a log; restore a copy "
        "if this was one, as opening it for writing begins a new log",
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
