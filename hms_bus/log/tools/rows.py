"""Writing records that were recorded before: with their times, and what was taken out of them."""

import errno
import os
import secrets
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from hms_bus.abc import Head
from hms_bus.attributes import new_envelope
from hms_bus.errors import LogError, UsageError
from hms_bus.log.chain import cut, link, payload_hash
from hms_bus.log.documents import make_entry
from hms_bus.log.failures import open_failed
from hms_bus.log.ledger import read_head
from hms_bus.log.lock import acquire, lock_path
from hms_bus.log.schema import prepare_file
from hms_bus.log.tools.stored import Stored, open_source

OWN = "$log."
"""The topics of what a log says about itself."""

_AT_ONCE = 256
_BYTES_AT_ONCE = 16 * 2**20
_INSERT = (
    "INSERT INTO records (position, recorded_ns, topic, source, id, hash, payload_hash, document)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


class RowWriter:
    """Appends records behind those that the file has, with a chain that goes on.

    It works inside the running transaction of `connection`; `flush` before the commit. Making it
    reads the end of the file. Raises `LogCorruptError`, `sqlite3.Error`.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        connection.text_factory = bytes
        head = read_head(connection, str(path))
        self.position = head.position
        self.recorded_ns = head.recorded_ns
        self._hash = head.hash
        self._connection = connection
        self._topics = _names(connection, "topics")
        self._sources = _names(connection, "sources")
        self._lasts: dict[str, int] = {}
        # As in the log's own writer: an id that is larger than all of its source is new.
        [largest] = connection.execute("SELECT coalesce(max(id), '') FROM records").fetchone()
        self._largest: str = largest.decode()
        self._bounds: dict[str, str] = {}
        self._pending: dict[tuple[str, str], int] = {}
        self._rows: list[tuple[object, ...]] = []
        self._row_bytes = 0

    @property
    def head(self) -> Head:
        """The end of the log, with what was added."""
        return Head(position=self.position, hash=self._hash, recorded_ns=self.recorded_ns)

    def find(self, source: str, id: str) -> int | None:  # noqa: A002 - the attribute's name
        """Return the position of the record with this (`source`, `id`)."""
        if id > self._bounds.get(source, self._largest):
            return None
        if (position := self._pending.get((source, id))) is not None:
            return position
        row = self._connection.execute(
            "SELECT position FROM records WHERE id = ? AND source = ?",
            (id, self._sources.get(source)),
        ).fetchone()
        return row[0] if row else None

    def add(self, stored: Stored) -> int:
        """Append one that `find` does not find; return its position here.

        Its recorded time stays, unless that would make time run backwards.
        """
        self.position += 1
        self.recorded_ns = max(stored.recorded_ns, self.recorded_ns)
        self._hash = link(
            self._hash, self.position, self.recorded_ns, stored.document, stored.payload_hash
        )
        self._lasts[stored.topic] = self.position
        self._pending[stored.source, stored.id] = self.position
        bound = self._bounds.get(stored.source, self._largest)
        self._bounds[stored.source] = max(bound, stored.id)
        self._rows.append(
            (
                self.position,
                self.recorded_ns,
                _number(self._topics, stored.topic),
                _number(self._sources, stored.source),
                stored.id,
                self._hash,
                stored.payload_hash,
                stored.document.decode(),
            )
        )
        self._row_bytes += len(stored.document)
        if len(self._rows) >= _AT_ONCE or self._row_bytes >= _BYTES_AT_ONCE:
            self._write_rows()
        return self.position

    def note(self, topic: str, data: dict[str, Any], *, by: str) -> int:
        """Append a record of the log's own on `topic` (`$log.…`), from `by`, recorded now."""
        entry = make_entry(new_envelope(topic, data, source=by, type=topic.removeprefix("$")))
        return self.add(
            Stored(
                0, time.time_ns(), entry.topic, entry.source, entry.id, b"", None, entry.document
            )
        )

    def stored_content(self, position: int) -> tuple[bytes, bytes]:
        """Return the `Stored.content` of a record that the file has."""
        self._write_rows()
        document, redacted = self._connection.execute(
            "SELECT document, payload_hash FROM records WHERE position = ?", (position,)
        ).fetchone()
        return document[: cut(document)], redacted or payload_hash(document)

    def take_out(self, position: int) -> int:
        """Remove the payload of a record and keep its hash; return how many bytes went."""
        self._write_rows()
        document, redacted = self._connection.execute(
            "SELECT document, payload_hash FROM records WHERE position = ?", (position,)
        ).fetchone()
        at = cut(document)
        size = len(document) - 1 - at
        if redacted is not None or not size:
            return 0
        self._connection.execute(
            "UPDATE records SET document = ?, payload_hash = ? WHERE position = ?",
            ((document[:at] + b"}").decode(), payload_hash(document), position),
        )
        return size

    def flush(self) -> None:
        """Write all that was added, inside the running transaction."""
        self._write_rows()
        execute = self._connection.executemany
        execute(
            "INSERT OR IGNORE INTO sources (id, name) VALUES (?, ?)",
            ((number, name) for name, number in self._sources.items()),
        )
        execute(
            "INSERT INTO topics (id, name, last) VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET last = excluded.last",
            ((self._topics[name], name, last) for name, last in self._lasts.items()),
        )
        self._lasts = {}

    def _write_rows(self) -> None:
        if self._rows:
            self._connection.executemany(_INSERT, self._rows)
            self._rows = []
            self._row_bytes = 0
            self._pending = {}


def _names(connection: sqlite3.Connection, table: str) -> dict[str, int]:
    rows = connection.execute(f"SELECT name, id FROM {table} ORDER BY id").fetchall()  # noqa: S608 - own name
    return {name.decode(): number for name, number in rows}


def _number(numbers: dict[str, int], name: str) -> int:
    """Return the number of a name; a new one gets the next."""
    if name not in numbers:
        # The last one that was put in has the largest number.
        numbers[name] = numbers[next(reversed(numbers))] + 1 if numbers else 1
    return numbers[name]


@contextmanager
def new_log(path: Path, *, like: Sequence[Path] = ()) -> Generator[RowWriter]:
    """Make the log `path`, durable and whole when the scope ends well, otherwise not at all.

    Until then it stands beside it under another name. Others may do with it what they may do with
    all files of `like`. Blocks. Raises `UsageError` when there is a file of that name, also one
    that was made meanwhile, `LogError`.
    """
    check_free(path)
    partial = partial_of(path)
    try:
        with removed_on_failure(partial):
            make_file(partial, like)
            with _filled(partial) as writer:
                yield writer
            publish(partial, path)
    except (sqlite3.Error, OSError) as error:
        raise making_failed(error, path) from error


def check_free(path: Path) -> None:
    """Raise `UsageError` when a log `path` would take the place of something; `LogError`."""
    for name in (path, path.with_name(f"{path.name}-wal"), lock_path(path)):
        if os.path.lexists(name):
            raise taken(name)
    if not path.parent.is_dir():
        raise LogError(
            f"the folder {path.parent} does not exist: mkdir -p {path.parent}", path=str(path)
        )


def taken(path: Path) -> UsageError:
    """Explain that nothing is made under the name of something else."""
    return UsageError(f"{path} exists: choose another name, or remove it first")


def making_failed(error: Exception, path: Path) -> LogError:
    """Explain why a new log could not be made."""
    if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return open_failed(error, path)
    return LogError(
        f"log {path} could not be made ({error}), nothing is left of it: check the disk (its "
        "space, quota and health), or choose a place on another one",
        path=str(path),
    )


def partial_of(path: Path) -> Path:
    """Return a name under which `path` is made, each time another."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def make_file(path: Path, like: Sequence[Path]) -> None:
    """Make an empty file; others may do with it what they may do with all of `like`.

    Raises `OSError`.
    """
    mode = 0o666 if like else 0o644
    for one in like:
        mode &= one.stat().st_mode
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode | 0o600))


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name, durable. Raises `UsageError` when it is taken, `OSError`."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    try:
        _rename(partial, path)
    except FileExistsError:
        raise taken(path) from None
    sync_folder(path.parent)


def _rename(partial: Path, path: Path) -> None:
    """Rename a file without replacing another one. Raises `FileExistsError`, `OSError`."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: an empty file takes the name
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        partial.replace(path)
    else:
        partial.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_log(path: Path) -> None:
    """Remove a log file that nobody uses, with what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def remove_if_empty(path: Path) -> None:
    """Remove a log that has no records, unless somebody writes it, or it cannot be. Blocks."""
    real = Path(os.path.realpath(path))
    with suppress(LogError, OSError):
        lock = acquire(real)
        try:
            with open_source(real) as source:
                is_empty = source.head.position == 0
            if is_empty:
                remove_log(real)
        finally:
            lock.release()


@contextmanager
def removed_on_failure(partial: Path) -> Generator[None]:
    """Remove `partial` when the scope ends badly."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            remove_log(partial)
        raise


@contextmanager
def _filled(partial: Path) -> Generator[RowWriter]:
    with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
        # Nothing has to survive a crash before the file is whole and synced.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        # A payload that is taken out must not stay on the disk.
        connection.execute("PRAGMA secure_delete = ON")
        prepare_file(connection, partial)
        connection.execute("BEGIN")
        writer = RowWriter(connection, partial)
        yield writer
        writer.flush()
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
