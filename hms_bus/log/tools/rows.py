"""Writing records that were recorded before: with their times, and what was taken out of them."""

import os
import sqlite3
import time
from collections.abc import Generator
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
from hms_bus.log.lock import lock_path
from hms_bus.log.schema import prepare_file
from hms_bus.log.tools.stored import Stored

_AT_ONCE = 256
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
        if len(self._rows) >= _AT_ONCE:
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
def new_log(path: Path) -> Generator[RowWriter]:
    """Make the log `path`, durable and whole when the scope ends well, otherwise not at all.

    Until then it stands beside it under another name. Blocks. Raises `UsageError` when there is a
    file of that name, `LogError`.
    """
    check_free(path)
    partial = partial_of(path)
    try:
        with removed_on_failure(partial):
            with _filled(partial) as writer:
                yield writer
            publish(partial, path)
    except (sqlite3.Error, OSError) as error:
        raise open_failed(error, path) from error


def check_free(path: Path) -> None:
    """Raise `UsageError` when a log `path` would take the place of something; `LogError`."""
    for name in (path, path.with_name(f"{path.name}-wal"), lock_path(path)):
        if os.path.lexists(name):
            raise UsageError(f"{name} exists: choose another name, or remove it first")
    if not path.parent.is_dir():
        raise LogError(
            f"the folder {path.parent} does not exist: mkdir -p {path.parent}", path=str(path)
        )


def partial_of(path: Path) -> Path:
    """Return the name under which `path` is made."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name, durable. Raises `OSError`."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


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


@contextmanager
def removed_on_failure(partial: Path) -> Generator[None]:
    """Remove `partial`, also what is left of an earlier one, when the scope ends badly."""
    remove_log(partial)
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
        prepare_file(connection, partial)
        connection.execute("BEGIN")
        writer = RowWriter(connection, partial)
        yield writer
        writer.flush()
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
