"""The records of a log file as pages: the `Table` of a pass over them."""

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from hms_bus.log.scan import Row, Scan
from hms_bus.log.selection import Selection

# How many positions one page searches at most: bounds the time that a thread is away, and that it
# holds its view of the file, when little is found.
_REACH = 20_000


class TopicSet:
    """The numbers of the topics that a pattern selects, kept up with the file as topics appear."""

    def __init__(self, wants: Callable[[str], bool]) -> None:
        self._wants = wants
        self._seen = 0
        self._numbers: list[int] = []
        self._text = "[]"

    def numbers(self, connection: sqlite3.Connection) -> str:
        """Return the selected numbers as a JSON array, complete in the connection's view."""
        rows: list[tuple[int, bytes]] = connection.execute(
            "SELECT id, name FROM topics WHERE id > ? ORDER BY id", (self._seen,)
        ).fetchall()
        if rows:
            self._seen = rows[-1][0]
            self._numbers += [number for number, name in rows if self._wants(name.decode())]
            self._text = json.dumps(self._numbers)
        return self._text


def topics_of(selection: Selection) -> TopicSet | None:
    """Return the topics of a pass over a file; `None` when it takes all."""
    return None if selection.wants_topic is None else TopicSet(selection.wants_topic)


def turn_page(scan: Scan, topics: TopicSet | None, connection: sqlite3.Connection) -> list[Row]:
    """Return the next page of `scan` in the view that `connection` has now."""
    return scan.turn(SqliteTable(connection, topics))


class SqliteTable:
    """One connection's view, for the passes that it serves. Implements `hms_bus.log.scan.Table`."""

    def __init__(self, connection: sqlite3.Connection, topics: TopicSet | None) -> None:
        self._connection = connection
        self._topics = topics

    def last_position(self) -> int:
        """The position of the last record, 0 without one."""
        return self._scalar("SELECT coalesce(max(position), 0) FROM records")

    def recorded_ns(self, position: int) -> int:
        """When the record at `position` was recorded."""
        return self._scalar("SELECT recorded_ns FROM records WHERE position >= ? LIMIT 1", position)

    def rows(
        self, first: int, last: int, *, backwards: bool, limit: int, selection: Selection
    ) -> tuple[list[Row], int]:
        """Return a page; see `hms_bus.log.scan.Table.rows`."""
        if self._topics is not None or selection.fragments:
            first, last = _reach(first, last, backwards=backwards)
        conditions, values = self._conditions(selection)
        cursor = self._connection.execute(
            "SELECT position, recorded_ns, document FROM records "  # noqa: S608 - own fragments
            f"WHERE position BETWEEN ? AND ?{conditions} "
            f"ORDER BY position {'DESC' if backwards else 'ASC'} LIMIT ?",
            (first, last, *values, limit),
        )
        rows: list[Row] = []
        try:
            rows.extend(cursor)
        except sqlite3.DatabaseError:
            # A damaged page: what came before it is good, and the next page begins at it.
            if not rows:
                raise
            return rows, rows[-1][0]
        if len(rows) == limit:
            return rows, rows[-1][0]
        return rows, first if backwards else last

    def _conditions(self, selection: Selection) -> tuple[str, list[Any]]:
        conditions: list[str] = []
        values: list[Any] = []
        if self._topics is not None:
            conditions.append(" AND topic IN (SELECT value FROM json_each(?))")
            values.append(self._topics.numbers(self._connection))
        for group in selection.fragments:
            conditions.append(f" AND ({' OR '.join(['instr(document, ?)'] * len(group))})")
            values += group
        return "".join(conditions), values

    def _scalar(self, statement: str, *values: object) -> Any:
        row = self._connection.execute(statement, values).fetchone()
        return row[0]


def _reach(first: int, last: int, *, backwards: bool) -> tuple[int, int]:
    if backwards:
        return max(first, last - _REACH + 1), last
    return first, min(last, first + _REACH - 1)
