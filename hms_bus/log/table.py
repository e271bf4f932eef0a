"""The records of a log file as pages: the `Table` of a pass over them.

A file that is damaged may hold any value anywhere: what is of the wrong type raises
`LogCorruptError` here, as a page that cannot be read does.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from typing import Any, cast

from hms_bus.errors import LogCorruptError
from hms_bus.log.durable.saved import MOST_COUNTED
from hms_bus.log.failures import damaged
from hms_bus.log.scan import Row, Scan
from hms_bus.log.selection import Selection

# How many positions one page searches at most: bounds the time that a thread is away, and that it
# holds its view of the file, when little is found.
_REACH = 20_000

_PAGE_BYTES = 4 * 2**20
"""A page ends early once its documents have that many bytes: who reads slowly holds one page."""

_ROWS_AT_ONCE = 64


class TopicSet:
    """The numbers of the topics that a pattern selects, kept up with the file as topics appear."""

    def __init__(self, wants: Callable[[str], bool], path: str) -> None:
        self._wants = wants
        self._path = path
        self._seen = 0
        self._numbers: list[int] = []
        self._text: str | None = None

    @property
    def text(self) -> str:
        """The numbers as a JSON array."""
        if self._text is None:
            self._text = json.dumps(self._numbers)
        return self._text

    def numbers(self, connection: sqlite3.Connection) -> list[int]:
        """Return the selected numbers, complete in the connection's view."""
        rows: list[tuple[int, object]] = connection.execute(
            "SELECT id, name FROM topics WHERE id > ? ORDER BY id", (self._seen,)
        ).fetchall()
        if rows:
            self._seen = rows[-1][0]
            self._numbers += [number for number, name in rows if self._wants(self._name(name))]
            self._text = None
        return self._numbers

    def _name(self, value: object) -> str:
        try:
            return cast("bytes", value).decode()
        except (AttributeError, UnicodeDecodeError):
            raise damaged(self._path, f"the topic {value!r:.60} is no text") from None


class Pages:
    """The pages of one pass over the file `path`, each in the view of the connection it gets."""

    def __init__(self, scan: Scan, path: str) -> None:
        self._scan = scan
        self._path = path
        wants = scan.selection.wants_topic
        self._topics = None if wants is None else TopicSet(wants, path)

    def turn(self, connection: sqlite3.Connection) -> list[Row]:
        """Return the next page. Raises `LogCorruptError`, `sqlite3.Error`."""
        return self._scan.turn(SqliteTable(connection, self._topics, self._path))


class SqliteTable:
    """One connection's view, for the passes that it serves. Implements `hms_bus.log.scan.Table`."""

    def __init__(self, connection: sqlite3.Connection, topics: TopicSet | None, path: str) -> None:
        self._connection = connection
        self._topics = topics
        self._path = path

    def last_position(self) -> int:
        """The position of the last record, 0 without one."""
        [position] = self._connection.execute(
            "SELECT coalesce(max(position), 0) FROM records"
        ).fetchone()
        return position

    def recorded_ns(self, position: int) -> int:
        """When the record at `position` was recorded."""
        row = self._connection.execute(
            "SELECT position, recorded_ns FROM records WHERE position >= ? LIMIT 1", (position,)
        ).fetchone()
        if row is None or type(row[1]) is not int:
            raise self._unreadable(position if row is None else row[0])
        return row[1]

    def rows(
        self, first: int, last: int, *, backwards: bool, limit: int, selection: Selection
    ) -> tuple[list[Row], int]:
        """Return a page; see `hms_bus.log.scan.Table.rows`."""
        topics = None if self._topics is None else self._topics.numbers(self._connection)
        if topics == []:
            return [], first if backwards else last
        if selection.fragments or (topics is not None and len(topics) > 1):
            first, last = _reach(first, last, backwards=backwards)
        conditions, values = self._conditions(topics, selection)
        cursor = self._connection.execute(
            "SELECT position, recorded_ns, document FROM records "  # noqa: S608 - own fragments
            f"WHERE position BETWEEN ? AND ?{conditions} "
            f"ORDER BY position {'DESC' if backwards else 'ASC'} LIMIT ?",
            (first, last, *values, limit),
        )
        rows: list[Row] = []
        is_cut = False
        try:
            is_cut = _fill(rows, cursor)
        except sqlite3.DatabaseError:
            # A damaged page: what came before it is good, and the next page begins at it.
            if not rows:
                raise
            return rows, rows[-1][0]
        if rows and not _are_sound(rows):
            return self._sound_ones(rows)
        if is_cut or len(rows) == limit:
            return rows, rows[-1][0]
        return rows, first if backwards else last

    def _sound_ones(self, rows: list[Row]) -> tuple[list[Row], int]:
        """Return those before the first that is not: the next page begins at it, and raises."""
        sound = [*takewhile(lambda row: _are_sound([row]), rows)]
        if not sound:
            raise self._unreadable(rows[0][0])
        return sound, sound[-1][0]

    def _unreadable(self, position: int) -> LogCorruptError:
        what = f"a column of the record at position {position} holds a value of the wrong type"
        return damaged(self._path, what, position)

    def _conditions(self, topics: list[int] | None, selection: Selection) -> tuple[str, list[Any]]:
        """Return what narrows a page: one topic is found by its index, several by looking."""
        conditions: list[str] = []
        values: list[Any] = []
        if topics is not None and len(topics) == 1:
            conditions.append(" AND topic = ?")
            values.append(topics[0])
        elif self._topics is not None:
            conditions.append(" AND +topic IN (SELECT value FROM json_each(?))")
            values.append(self._topics.text)
        for group in selection.fragments:
            conditions.append(f" AND ({' OR '.join(['instr(document, ?)'] * len(group))})")
            values += group
        return "".join(conditions), values


def rows_at(connection: sqlite3.Connection, *, positions: Sequence[int], path: str) -> list[Row]:
    """Return the rows at `positions`, in order. Raises `LogCorruptError` when one is not there."""
    rows: list[Row] = connection.execute(
        "SELECT position, recorded_ns, document FROM records "
        "WHERE position IN (SELECT value FROM json_each(?)) ORDER BY position",
        (json.dumps(list(positions)),),
    ).fetchall()
    found = [row[0] for row in rows]
    if found != list(positions) or not _are_sound(rows):
        missing = set(positions).difference(found)
        raise damaged(path, f"records cannot be read: {sorted(missing) or positions}")
    return rows


def count_records(connection: sqlite3.Connection, *, topics: TopicSet, after: int) -> int:
    """Return how many records on `topics` lie behind a position, up to a million."""
    topics.numbers(connection)
    [count] = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM records WHERE position > ? "
        "AND topic IN (SELECT value FROM json_each(?)) LIMIT ?)",
        (after, topics.text, MOST_COUNTED),
    ).fetchone()
    return count


def _fill(rows: list[Row], cursor: sqlite3.Cursor) -> bool:
    """Add what the cursor has; return whether it may have more. Keeps what came before an error."""
    size, count = 0, 1
    while size <= _PAGE_BYTES:
        start = len(rows)
        rows.extend(islice(cursor, count))
        if len(rows) < start + count:
            return False
        size += sum(len(row[2]) for row in rows[start:] if type(row[2]) is bytes)
        count = min(2 * count, _ROWS_AT_ONCE)
    cursor.close()
    return True


def _are_sound(rows: list[Row]) -> bool:
    # 50 ns per record, column by column.
    _, times, documents = zip(*rows, strict=True)
    return set(map(type, times)) == {int} and set(map(type, documents)) == {bytes}


def _reach(first: int, last: int, *, backwards: bool) -> tuple[int, int]:
    if backwards:
        return max(first, last - _REACH + 1), last
    return first, min(last, first + _REACH - 1)
