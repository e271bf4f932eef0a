"""Snapshots in an SQLite file, which may be deleted at any time."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from hms_bus.sourcing.snapshots import Snapshot
from hms_bus.sourcing.sqlite.file import StoreFile, open_file

_TABLES = """
CREATE TABLE IF NOT EXISTS hms_snapshots (
  topic TEXT PRIMARY KEY, version TEXT NOT NULL, position INTEGER NOT NULL,
  event_id TEXT NOT NULL, state BLOB NOT NULL
);
"""


class SqliteSnapshots:
    """Snapshots in a file. Contract: `hms_bus.sourcing.Snapshots`; raises `StoreError`."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    async def load(self, topic: str) -> Snapshot | None:
        """Return the snapshot of `topic`."""

        def select(connection: sqlite3.Connection) -> Snapshot | None:
            row = connection.execute(
                "SELECT version, position, event_id, state FROM hms_snapshots WHERE topic = ?",
                (topic,),
            ).fetchone()
            if row is None:
                return None
            version, position, event_id, state = row
            return Snapshot(
                topic=topic, version=version, position=position, event_id=event_id, state=state
            )

        return await self._file.read(select)

    async def save(self, snapshot: Snapshot) -> None:
        """Keep `snapshot`, unless there is a newer one of the same version."""
        await self._file.write(
            lambda connection: connection.execute(
                "INSERT INTO hms_snapshots VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (topic) DO UPDATE "
                "SET version = excluded.version, position = excluded.position, "
                "event_id = excluded.event_id, state = excluded.state "
                "WHERE version <> excluded.version OR position < excluded.position",
                (
                    snapshot.topic,
                    snapshot.version,
                    snapshot.position,
                    snapshot.event_id,
                    snapshot.state,
                ),
            )
        )

    async def drop(self, topic: str | None = None) -> None:
        """Delete the snapshot of `topic`, or all."""
        await self._file.write(
            lambda connection: connection.execute(
                "DELETE FROM hms_snapshots WHERE ?1 IS NULL OR topic = ?1", (topic,)
            )
        )


@asynccontextmanager
async def open_snapshots(path: str | Path) -> AsyncGenerator[SqliteSnapshots]:
    """Open the snapshots in the file at `path`. Raises `StoreError`."""
    async with open_file(path, _TABLES, synchronous="NORMAL") as file:
        yield SqliteSnapshots(file)
