"""What the writer of a log file knows of all records, and the rows of the running transaction."""

import sqlite3
from itertools import chain
from typing import Any

from hms_bus.abc import Head
from hms_bus.log.chain import GENESIS, link
from hms_bus.log.documents import Entry
from hms_bus.log.failures import damaged

MAX_CACHED = 100_000
"""How many topics, and how many sources, are remembered without asking the file."""

_ROWS_AT_ONCE = 64
_ROW = "(?,?,?,?,?,?,NULL,?)"
# Many rows in one statement are 1.25 times as fast as `executemany`.
_INSERT_MANY = f"INSERT INTO records VALUES {','.join([_ROW] * _ROWS_AT_ONCE)}"  # noqa: S608
_INSERT_ONE = f"INSERT INTO records VALUES {_ROW}"  # noqa: S608 - a constant


class _Topic:
    """A topic and the position of its last record. A new one gets its row with its first record."""

    __slots__ = ("is_new", "last", "number")

    def __init__(self, number: int, last: int, *, is_new: bool) -> None:
        self.number = number
        self.last = last
        self.is_new = is_new


class _Source:
    """A source. None of its records has an id larger than `bound`: such a one is certainly new."""

    __slots__ = ("bound", "is_new", "number")

    def __init__(self, number: int, bound: str, *, is_new: bool) -> None:
        self.number = number
        self.bound = bound
        self.is_new = is_new


class SqliteLedger:
    """The ledger of the one writing connection; used by its thread only.

    Ids of one source mostly grow (UUIDv7), so the look-up of a duplicate is mostly a comparison
    with the largest id so far. Until a source was seen, the largest id of the whole file stands in.

    Making it raises `LogCorruptError` when nothing can follow what the file holds, `sqlite3.Error`.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        head = read_head(connection, path)
        self.position = head.position
        self.recorded_ns = head.recorded_ns
        self._hash = head.hash
        self._topics: dict[str, _Topic] = {}
        self._sources: dict[str, _Source] = {}
        self._last_topic: int = _scalar(connection, "SELECT coalesce(max(id), 0) FROM topics")
        self._last_source: int = _scalar(connection, "SELECT coalesce(max(id), 0) FROM sources")
        self._largest = _largest_id(connection, path)
        self._rows: list[tuple[object, ...]] = []
        self._touched: dict[str, _Topic] = {}
        self._new_sources: dict[str, _Source] = {}
        self._pending: dict[tuple[str, str], int] = {}

    def find(self, source: str, id: str) -> int | None:  # noqa: A002 - the attribute's name
        """Return the position of the record with this (`source`, `id`)."""
        known = self._sources.get(source) or self._load_source(source)
        if id > known.bound:
            return None
        if (position := self._pending.get((source, id))) is not None:
            return position
        row = self._connection.execute(
            "SELECT position FROM records WHERE id = ? AND source = ?", (id, known.number)
        ).fetchone()
        return row[0] if row else None

    def last_on(self, topic: str) -> int:
        """Return the position of the topic's last record, 0 without one."""
        known = self._topics.get(topic) or self._load_topic(topic)
        return known.last

    def head(self) -> Head:
        """Return the end of the log, with what was added."""
        return Head(position=self.position, hash=self._hash, recorded_ns=self.recorded_ns)

    def add(self, entry: Entry, recorded_ns: int) -> None:
        """Take `entry` as the next record; it is written with `flush`."""
        self.position = position = self.position + 1
        self.recorded_ns = recorded_ns
        self._hash = hash_ = link(self._hash, position, recorded_ns, entry.document)
        topic = self._topics.get(entry.topic) or self._load_topic(entry.topic)
        topic.last = position
        self._touched[entry.topic] = topic
        source = self._sources.get(entry.source) or self._load_source(entry.source)
        if source.is_new:
            self._new_sources[entry.source] = source
        source.bound = max(source.bound, entry.id)
        self._pending[entry.source, entry.id] = position
        self._rows.append(
            (
                position,
                recorded_ns,
                topic.number,
                source.number,
                entry.id,
                hash_,
                entry.document.decode(),
            )
        )

    def flush(self) -> None:
        """Write what was added, inside the running transaction. Raises `sqlite3.Error`."""
        self._write_names()
        rows = self._rows
        whole = len(rows) - len(rows) % _ROWS_AT_ONCE
        for start in range(0, whole, _ROWS_AT_ONCE):
            values = chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])
            self._connection.execute(_INSERT_MANY, tuple(values))
        self._connection.executemany(_INSERT_ONE, rows[whole:])

    def settle(self) -> None:
        """Forget the transaction's bookkeeping, after its commit."""
        self._rows = []
        self._pending = {}
        self._touched = {}
        self._new_sources = {}
        if len(self._topics) > MAX_CACHED:
            self._topics = {}
        if len(self._sources) > MAX_CACHED:
            # Never less than before: sources that were not looked up have ids of their own.
            bounds = (source.bound for source in self._sources.values())
            self._largest = max(self._largest, *bounds)
            self._sources = {}

    def _write_names(self) -> None:
        new_topics: list[tuple[int, str, int]] = []
        old_topics: list[tuple[int, int]] = []
        for name, topic in self._touched.items():
            if topic.is_new:
                new_topics.append((topic.number, name, topic.last))
                topic.is_new = False
            else:
                old_topics.append((topic.last, topic.number))
        new_sources = [(source.number, name) for name, source in self._new_sources.items()]
        for source in self._new_sources.values():
            source.is_new = False
        self._connection.executemany("INSERT INTO topics VALUES (?, ?, ?)", new_topics)
        self._connection.executemany("UPDATE topics SET last = ? WHERE id = ?", old_topics)
        self._connection.executemany("INSERT INTO sources VALUES (?, ?)", new_sources)

    def _load_topic(self, name: str) -> _Topic:
        row = self._connection.execute(
            "SELECT id, last FROM topics WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            self._last_topic += 1
            row = (self._last_topic, 0)
        known = self._topics[name] = _Topic(*row, is_new=row[1] == 0)
        return known

    def _load_source(self, name: str) -> _Source:
        row = self._connection.execute("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
        if is_new := row is None:
            self._last_source += 1
            row = (self._last_source,)
        # A source without a row has no record, so that none of its ids can be known.
        known = self._sources[name] = _Source(
            row[0], "" if is_new else self._largest, is_new=is_new
        )
        return known


def read_head(connection: sqlite3.Connection, path: str) -> Head:
    """Return the end of the log `path`, as this connection sees it.

    Raises `LogCorruptError` for what is no time or no hash, `sqlite3.Error`.
    """
    row = connection.execute(
        "SELECT position, hash, recorded_ns FROM records ORDER BY position DESC LIMIT 1"
    ).fetchone()
    position, hash_, recorded_ns = row or (0, GENESIS, 0)
    if type(recorded_ns) is not int:
        raise damaged(
            path, f"the time of the record at position {position} is no integer", position
        )
    if type(hash_) is not bytes or len(hash_) != len(GENESIS):
        raise damaged(path, f"the hash of the record at position {position} is none", position)
    return Head(position=position, hash=hash_, recorded_ns=recorded_ns)


def _largest_id(connection: sqlite3.Connection, path: str) -> str:
    largest = _scalar(connection, "SELECT coalesce(max(id), '') FROM records")
    if type(largest) is not str:
        raise damaged(path, "the id of some record is no text")
    return largest


def _scalar(connection: sqlite3.Connection, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]
