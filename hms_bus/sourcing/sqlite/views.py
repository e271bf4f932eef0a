"""Rows of projections in an SQLite file, changed in one transaction with their cursor."""

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from hms_bus.errors import ConfigError
from hms_bus.sourcing.sqlite.file import StoreFile, open_file
from hms_bus.sourcing.views import Cursor, check_cursor

_TABLES = """
CREATE TABLE IF NOT EXISTS hms_cursors (
  name TEXT PRIMARY KEY, position INTEGER NOT NULL, version INTEGER NOT NULL,
  event_id TEXT NOT NULL
) WITHOUT ROWID;
"""


class SqliteViews:
    """Projections' rows, in tables of their own, and cursors, in `hms_cursors`. See `Views`.

    Handlers get the `sqlite3.Connection` inside a transaction, in a thread; they neither begin nor
    commit. Other processes read the file as they like, and see whole batches.
    """

    is_transactional = True

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    async def cursor(self, name: str) -> Cursor | None:
        """Return where a projection stands. Raises `StoreError`."""
        return await self._file.read(partial(_cursor, name=name))

    async def save(self, name: str, before: Cursor | None, after: Cursor) -> None:
        """Keep a cursor whose rows are elsewhere (`Elsewhere(target, cursors=views)`)."""
        await self.update(name, before, after, lambda _: None)

    async def update(
        self,
        name: str,
        before: Cursor | None,
        after: Cursor,
        work: Callable[[sqlite3.Connection], Awaitable[None] | None],
    ) -> None:
        """Do `work` and move the cursor, both or neither; see `Views.update`."""

        def change(connection: sqlite3.Connection) -> None:
            check_cursor(name, before, _cursor(connection, name))
            if work(connection) is not None:
                raise ConfigError(f"{name!r}: a transaction's handlers are plain functions")
            if connection.in_transaction:
                _save(connection, name, after)

        await self._file.write(change)


@asynccontextmanager
async def open_views(path: str | Path) -> AsyncGenerator[SqliteViews]:
    """Open the views in the file at `path`. Raises `StoreError`.

    After a power cut the last transactions may be missing, rows and cursors alike: they are made
    again from the log (`synchronous=NORMAL`).
    """
    async with open_file(path, _TABLES, synchronous="NORMAL") as file:
        yield SqliteViews(file)


def _cursor(connection: sqlite3.Connection, name: str) -> Cursor | None:
    row: tuple[int, int, str] | None = connection.execute(
        "SELECT position, version, event_id FROM hms_cursors WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else Cursor(position=row[0], version=row[1], event_id=row[2])


def _save(connection: sqlite3.Connection, name: str, cursor: Cursor) -> None:
    connection.execute(
        "INSERT INTO hms_cursors VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE "
        "SET position = excluded.position, version = excluded.version, "
        "event_id = excluded.event_id",
        (name, cursor.position, cursor.version, cursor.event_id),
    )
