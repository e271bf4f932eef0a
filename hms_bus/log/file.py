"""Opening a log file: which file it is, its lock, its connections. Blocking; called in a thread."""

import os
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

from hms_bus.errors import LogError, LogFormatError
from hms_bus.filelock import FileLock
from hms_bus.log.failures import empty, no_permission, open_failed
from hms_bus.log.lock import acquire, lock_path
from hms_bus.log.reader import connect_read_only
from hms_bus.log.schema import CURRENT, Schema, prepare_file, read_version
from hms_bus.log.settings import Settings


def find_file(settings: Settings) -> Path:
    """Return the real path of the log, so that two names of one file share one lock.

    Raises `LogError` for a folder that is not there, a directory, a file that may not be used.
    """
    path = Path(os.path.realpath(settings.path))
    if path.is_dir():
        raise LogFormatError(
            f"{path} is a directory: name a file in it, sqlite:{settings.path / 'events.db'}",
            path=str(path),
        )
    if not path.parent.is_dir():
        raise LogError(
            f"the folder {path.parent} does not exist: mkdir -p {path.parent}", path=str(path)
        )
    if not path.exists() and settings.is_read_only:
        raise LogError(f"there is no log {path} to read: is the name right?", path=str(path))
    if path.exists() and not os.access(path, os.R_OK):
        raise LogError(f"no permission to read {path}: change its owner or mode", path=str(path))
    return path


def open_for_writing(
    path: Path, settings: Settings, schema: Schema = CURRENT
) -> tuple[sqlite3.Connection, FileLock]:
    """Lock the file, make it a log of this version, return its one writing connection.

    Raises `LogError`: locked, no log, newer than this release, no permission.
    """
    with ExitStack() as undo:
        try:
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise no_permission(path)
            lock = acquire(path)
            undo.callback(lock.release)
            connection = undo.enter_context(closing(_connect(path, settings)))
            read_version(connection, path, schema)
            _set_up(connection, settings)
            prepare_file(connection, path, schema)
            # What a crash has left in the WAL.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except (sqlite3.Error, OSError) as error:
            raise open_failed(error, path) from error
        undo.pop_all()
    return connection, lock


class FileNames:
    """The names of a log that is open for writing, and which files they named at the beginning.

    A file can be removed or replaced under its name while it is open. What is written then is
    synced and yet lost, and the lock under the old name keeps nobody out. Device and inode tell,
    as they do to SQLite itself.
    """

    def __init__(self, log: Path) -> None:
        names = (str(log), str(_wal(log)), str(lock_path(log)))
        self._files = [(name, _identity(name)) for name in names]

    def find_changed(self) -> str | None:
        """Return the first name that is gone or names another file. Raises `OSError`; 5 µs."""
        for name, identity in self._files:
            if _identity(name) != identity:
                return name
        return None


def _identity(name: str) -> tuple[int, int] | None:
    try:
        status = os.stat(name)  # noqa: PTH116 - a Path would take twice as long
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def close_without_checkpoint(connection: sqlite3.Connection, path: Path) -> None:
    """Close a writing connection after a failed write, leaving the WAL as it is.

    The last connection to a file would checkpoint and delete the WAL, the one place where all that
    was acknowledged is known to be. One that cannot write does neither.
    """
    try:
        with closing(connect_read_only(path, busy_s=0)) as last:
            last.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.close()
    except sqlite3.Error:
        # The file cannot even be read any more, so that nothing can be kept or lost by closing it.
        connection.close()


def check_readable(path: Path, settings: Settings, schema: Schema = CURRENT) -> bool:
    """Check that the file is a log of this version; return whether it must be read as immutable.

    That is so where no file beside it can be made, on a read-only medium: SQLite then needs to be
    told that nobody writes. Raises `LogError`.
    """
    immutable = not os.access(path.parent, os.W_OK) and not _wal(path).exists()
    try:
        with closing(
            connect_read_only(path, busy_s=settings.busy_s, immutable=immutable)
        ) as connection:
            connection.text_factory = str
            version = read_version(connection, path, schema, is_read_only=True)
    except sqlite3.Error as error:
        raise open_failed(error, path, is_read_only=True) from error
    if not path.stat().st_size:
        raise empty(path)
    if version < schema.version:
        raise LogFormatError(
            f"{path} is empty, or of an older schema version ({version}, this release reads "
            f"{schema.version}): open it once for writing, which migrates it after a copy",
            path=str(path),
        )
    return immutable


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _connect(path: Path, settings: Settings) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=settings.busy_s, isolation_level=None, check_same_thread=False
    )


def _set_up(connection: sqlite3.Connection, settings: Settings) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {settings.sync}")
    # The writer checkpoints itself, where it sees the errors (hms_bus.log.writer).
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    if settings.max_bytes is not None:
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {settings.max_bytes // page_bytes}")
