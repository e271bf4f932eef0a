"""Reading the records of a log file with all that is kept of them, and checking their chain.

A copy gets a chain of its own, which would make an altered record look sound. Hence whoever copies
reads through here, where each record must follow from the one before.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from hms_bus.abc import Head, Selector
from hms_bus.errors import LogCorruptError
from hms_bus.log.chain import GENESIS, cut, link, payload_hash
from hms_bus.log.documents import read_document
from hms_bus.log.failures import damaged, read_failed
from hms_bus.log.file import check_readable, find_file
from hms_bus.log.ledger import read_head
from hms_bus.log.reader import connect_read_only
from hms_bus.log.selection import prepare
from hms_bus.log.settings import Settings

_AT_ONCE = 500
_BYTES_AT_ONCE = 16 * 2**20
_WRITE_FAILURES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
_PAGE = """
SELECT position, recorded_ns, topics.name, sources.name, records.id, hash, payload_hash, document
FROM records JOIN topics ON topics.id = topic JOIN sources ON sources.id = source
WHERE position BETWEEN ? AND ? ORDER BY position LIMIT ?
"""
_SHAPES = (int, int, bytes, bytes, bytes, bytes, bytes, bytes)


class Stored(Struct, frozen=True, gc=False):
    """A record as a log file keeps it.

    `payload_hash` is set when the payload was taken out of `document`.
    """

    position: int
    recorded_ns: int
    topic: str
    source: str
    id: str
    hash: bytes
    payload_hash: bytes | None
    document: bytes

    @property
    def content(self) -> tuple[bytes, bytes]:
        """What stays the same in every log and when the payload is taken out."""
        at = cut(self.document)
        return self.document[:at], self.payload_hash or payload_hash(self.document)


class Source(Struct, frozen=True):
    """A log file that is open for reading, and where it ended when it was opened."""

    path: Path
    connection: sqlite3.Connection
    head: Head

    def walk(self, first: int = 1, last: int | None = None) -> Iterator[Stored]:
        """Yield the records from `first` to `last`, at most to `head`; see `walk`."""
        end = self.head.position if last is None else min(last, self.head.position)
        return walk(self.connection, str(self.path), first, end)


@contextmanager
def open_source(path: Path) -> Generator[Source]:
    """Open a log file for reading, also while another process writes it.

    Blocks. Raises `LogError` for what is no log of this version.
    """
    settings = Settings(path=path, is_read_only=True)
    real = find_file(settings)
    immutable = check_readable(real, settings)
    try:
        with closing(
            connect_read_only(real, busy_s=settings.busy_s, immutable=immutable)
        ) as connection:
            yield Source(real, connection, read_head(connection, str(real)))
    except sqlite3.Error as error:
        raise read_failed(error, str(real)) from error


def walk(connection: sqlite3.Connection, path: str, first: int, last: int) -> Iterator[Stored]:
    """Yield the records from position `first` to `last`, each proven to follow the one before.

    `connection` gives texts as bytes. Raises `LogError`, and `sqlite3.Error` when the transaction
    that it reads in has changes that cannot be written.
    """
    position = first - 1
    previous = _hash_at(connection, path, position)
    while position < last:
        rows = _fetch(connection, path, (position + 1, last, _AT_ONCE))
        if not rows:
            raise _unsound(path, position + 1, "it is missing")
        for row in rows:
            position += 1
            stored = _read(row, path, position)
            if stored.hash != link(
                previous, position, stored.recorded_ns, stored.document, stored.payload_hash
            ):
                raise _unsound(path, position, "its hash does not follow")
            previous = stored.hash
            yield stored


def _fetch(
    connection: sqlite3.Connection, path: str, bounds: tuple[int, int, int]
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    size = 0
    try:
        with closing(connection.execute(_PAGE, bounds)) as cursor:
            for row in cursor:
                rows.append(row)
                size += len(row[-1]) if isinstance(row[-1], bytes) else 0
                if size >= _BYTES_AT_ONCE:
                    break
    except sqlite3.Error as error:
        # Reading may write out what its transaction has changed.
        if getattr(error, "sqlite_errorcode", 0) in _WRITE_FAILURES:
            raise
        raise read_failed(error, path) from error
    return rows


def _hash_at(connection: sqlite3.Connection, path: str, position: int) -> bytes:
    if position == 0:
        return GENESIS
    try:
        row = connection.execute(
            "SELECT hash FROM records WHERE position = ?", (position,)
        ).fetchone()
    except sqlite3.Error as error:
        raise read_failed(error, path) from error
    if row is None or type(row[0]) is not bytes:
        raise _unsound(path, position, "it is missing")
    return row[0]


def _read(row: tuple[object, ...], path: str, position: int) -> Stored:
    if row[0] != position:
        raise _unsound(path, position, "it is missing")
    is_shaped = all(
        type(value) is shape or (value is None and index == _SHAPES_REDACTED)
        for index, (value, shape) in enumerate(zip(row, _SHAPES, strict=True))
    )
    if not is_shaped:
        raise damaged(path, f"a column of position {position} is of the wrong type", position)
    at, recorded_ns, topic, source, id_, hash_, redacted, document = row
    try:
        texts = [value.decode() for value in (topic, source, id_) if isinstance(value, bytes)]
    except UnicodeDecodeError as error:
        raise damaged(path, f"a name at position {position} is no text", position) from error
    return Stored(at, recorded_ns, *texts, hash_, redacted, document)  # type: ignore[arg-type] # proven above


_SHAPES_REDACTED = 6


def _unsound(path: str, position: int, why: str) -> LogCorruptError:
    return LogCorruptError(
        f"log {path} is not sound at position {position} ({why}), and a copy would hide that: "
        f"`hms-bus log recover {path} -o NEW` saves what can be proven",
        path=path,
        position=position,
    )


def chooser(selector: Selector) -> Callable[[Stored], bool]:
    """Return the test for what `selector` selects, its `limit` and direction not considered.

    Raises `TopicError`, `UsageError`.
    """
    selection = prepare(selector)
    topics: dict[str, bool] = {}
    fragments = [tuple(text.encode() for text in group) for group in selection.fragments]
    low, high = selector.since_ns, selector.until_ns
    wants_topic = selection.wants_topic

    def wants(stored: Stored) -> bool:
        if low is not None and stored.recorded_ns < low:
            return False
        if high is not None and stored.recorded_ns > high:
            return False
        if wants_topic is not None:
            if stored.topic not in topics:
                topics[stored.topic] = wants_topic(stored.topic)
            if not topics[stored.topic]:
                return False
        if not all(any(text in stored.document for text in group) for group in fragments):
            return False
        return not fragments or selection.is_wanted(read_document(stored.document))

    return wants
