"""The keys of subjects in an SQLite file of their own, where nothing of a deleted key is left."""

import sqlite3
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from hms_bus.sourcing.keys import Key, new_key
from hms_bus.sourcing.sqlite.file import StoreFile, open_file

_TABLES = """
CREATE TABLE IF NOT EXISTS hms_keys (
  subject TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, secret BLOB NOT NULL, made_ns INTEGER NOT NULL
);
"""


class SqliteKeys:
    """Keys in a file. Contract: `hms_bus.sourcing.Keys`; raises `StoreError`.

    A deleted key is overwritten in the file (`secure_delete`). There is no write-ahead log that
    could keep it. What the disk itself remembers, and every backup of the file, is out of reach.
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    async def provide(self, subjects: Iterable[str]) -> Mapping[str, Key]:
        """Return the key of each subject, on the disk when this returns; see `Keys.provide`."""
        wanted = list(subjects)
        found = await self._file.read(lambda connection: _by_subject(connection, wanted))
        if len(found) == len(set(wanted)):
            return found

        def make(connection: sqlite3.Connection) -> dict[str, Key]:
            for subject in wanted:
                key = new_key()
                connection.execute(
                    "INSERT INTO hms_keys VALUES (?, ?, ?, ?) ON CONFLICT (subject) DO NOTHING",
                    (subject, key.id, key.secret, time.time_ns()),
                )
            return _by_subject(connection, wanted)

        return await self._file.write(make)

    async def find(self, ids: Iterable[str]) -> Mapping[str, Key]:
        """Return those of the keys that are there, by id."""
        wanted = list(ids)

        def select(connection: sqlite3.Connection) -> dict[str, Key]:
            query = "SELECT id, secret FROM hms_keys WHERE id = ?"
            rows = [connection.execute(query, (id_,)).fetchone() for id_ in wanted]
            return {row[0]: Key(id=row[0], secret=row[1]) for row in rows if row is not None}

        return await self._file.read(select)

    async def forget(self, subject: str) -> bool:
        """Delete a subject's key, from the disk when this returns; return whether there was one."""

        def delete(connection: sqlite3.Connection) -> bool:
            done = connection.execute("DELETE FROM hms_keys WHERE subject = ?", (subject,))
            return done.rowcount > 0

        return await self._file.write(delete)


@asynccontextmanager
async def open_keys(path: str | Path) -> AsyncGenerator[SqliteKeys]:
    """Open the keys in the file at `path`, which only its user may read.

    Raises `StoreError`, also for a file that others may read.
    """
    async with open_file(
        path, _TABLES, synchronous="FULL", journal="DELETE", is_private=True
    ) as file:
        yield SqliteKeys(file)


def _by_subject(connection: sqlite3.Connection, subjects: Iterable[str]) -> dict[str, Key]:
    query = "SELECT subject, id, secret FROM hms_keys WHERE subject = ?"
    rows = [connection.execute(query, (subject,)).fetchone() for subject in subjects]
    return {row[0]: Key(id=row[1], secret=row[2]) for row in rows if row is not None}
