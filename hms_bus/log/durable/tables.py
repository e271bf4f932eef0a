"""The tables of durables in a log file, made with the first durable.

A file without durables has none of them, and a release that knows nothing of them can read one that
has: nothing else in the file depends on them.
"""

import sqlite3

import msgspec

from hms_bus.abc import Durable
from hms_bus.errors import LogCorruptError
from hms_bus.log.durable.saved import Changes, Row, Saved, State

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS durables (
      name TEXT PRIMARY KEY,
      settings TEXT NOT NULL,
      floor INTEGER NOT NULL,
      delivered INTEGER NOT NULL,
      delivered_ns INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS deliveries (
      durable TEXT NOT NULL REFERENCES durables (name),
      position INTEGER NOT NULL,
      state INTEGER NOT NULL,
      attempts INTEGER NOT NULL,
      due_ns INTEGER NOT NULL,
      PRIMARY KEY (durable, position)
    ) WITHOUT ROWID
    """,
)

_REDRIVEN = 16
"""Added to the state of what was redriven."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Durable).decode


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables unless they are there, in the running transaction."""
    for statement in _TABLES:
        connection.execute(statement)


def save(connection: sqlite3.Connection, changes: Changes) -> None:
    """Write `changes`, in the running transaction; the tables are there."""
    name = changes.durable.name
    connection.execute(
        "INSERT OR REPLACE INTO durables VALUES (?, ?, ?, ?, ?)",
        (
            name,
            _encode(changes.durable).decode(),
            changes.floor,
            changes.delivered,
            changes.delivered_ns,
        ),
    )
    connection.executemany(
        "DELETE FROM deliveries WHERE durable = ? AND position = ?",
        [(name, position) for position in changes.removed],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?, ?)",
        [
            (
                name,
                row.position,
                row.state + _REDRIVEN * row.is_redriven,
                row.attempts,
                row.due_ns,
            )
            for row in changes.written
        ],
    )


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Remove a durable, in the running transaction."""
    connection.execute("DELETE FROM deliveries WHERE durable = ?", (name,))
    connection.execute("DELETE FROM durables WHERE name = ?", (name,))


def load(connection: sqlite3.Connection, name: str | None, *, path: str) -> list[Saved]:
    """Return the durable of that name, or all by name. Raises `LogCorruptError`."""
    [tables] = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE name = 'deliveries'"
    ).fetchone()
    if not tables:
        return []
    found = connection.execute(
        "SELECT name, settings, floor, delivered, delivered_ns FROM durables "
        "WHERE ?1 IS NULL OR name = ?1 ORDER BY name",
        (name,),
    ).fetchall()
    return [_saved(connection, *row, path=path) for row in found]


def _saved(  # noqa: PLR0917 - the columns
    connection: sqlite3.Connection,
    key: bytes,
    settings: bytes,
    floor: int,
    delivered: int,
    delivered_ns: int,
    *,
    path: str,
) -> Saved:
    try:
        return Saved(
            durable=_decode(settings),
            floor=floor,
            delivered=delivered,
            delivered_ns=delivered_ns,
            rows=_rows(connection, key),
        )
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        name = bytes(key).decode(errors="replace")
        raise LogCorruptError(
            f"what {path} keeps of the durable {name!r} cannot be read: {error}; "
            f"`hms-bus durable rm {name}` removes it, records are not touched",
            path=path,
        ) from error


def _rows(connection: sqlite3.Connection, key: object) -> tuple[Row, ...]:
    rows = connection.execute(
        "SELECT position, state, attempts, due_ns FROM deliveries "
        "WHERE durable = CAST(? AS TEXT) ORDER BY position",
        (key,),
    )
    return tuple(
        Row(position, State(state % _REDRIVEN), attempts, due_ns, state >= _REDRIVEN)
        for position, state, attempts, due_ns in rows
    )
