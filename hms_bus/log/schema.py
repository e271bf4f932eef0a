"""The tables of a log file, and how a file of an older version becomes one of this version."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from hms_bus.errors import LogFormatError
from hms_bus.log.failures import APPLICATION_ID, not_a_log

_TABLES = """
CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last INTEGER NOT NULL);
CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE records (
  position INTEGER PRIMARY KEY,
  recorded_ns INTEGER NOT NULL,
  topic INTEGER NOT NULL REFERENCES topics (id),
  source INTEGER NOT NULL REFERENCES sources (id),
  id TEXT NOT NULL,
  hash BLOB NOT NULL,
  payload_hash BLOB,
  document TEXT NOT NULL
);
CREATE UNIQUE INDEX records_by_id ON records (id, source);
CREATE INDEX records_by_topic ON records (topic);
CREATE VIEW events AS
  SELECT position, recorded_ns, topics.name AS topic, json_extract(document, '$.type') AS type,
         sources.name AS source, records.id AS id, json_extract(document, '$.data') AS data
  FROM records JOIN topics ON topics.id = topic JOIN sources ON sources.id = source;
"""


class Schema(Struct, frozen=True, kw_only=True):
    """A version of the tables, and the step from each older version to the next one.

    `migrations[n]` turns a file of version `n` into one of `n + 1`, inside a transaction.
    """

    version: int
    create: str
    migrations: Mapping[int, Callable[[sqlite3.Connection], None]]


CURRENT = Schema(version=1, create=_TABLES, migrations={})


def prepare_file(connection: sqlite3.Connection, path: Path, schema: Schema = CURRENT) -> None:
    """Make `connection`'s file a log of `schema.version`: create, migrate or leave it.

    A file of an older version is copied to `PATH.v<N>.bak` first. Raises `LogFormatError`,
    `sqlite3.Error`, `OSError`.
    """
    version = read_version(connection, path, schema)
    if version == 0:
        _create(connection, schema)
    elif version < schema.version:
        _back_up(connection, path.with_name(f"{path.name}.v{version}.bak"))
        _migrate(connection, version, schema)


def read_version(
    connection: sqlite3.Connection,
    path: Path,
    schema: Schema = CURRENT,
    *,
    is_read_only: bool = False,
) -> int:
    """Return the file's schema version, 0 for an empty file. Raises `LogFormatError`."""
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION_ID:
        raise not_a_log(path, "a database of another program", is_read_only=is_read_only)
    if version > schema.version:
        raise LogFormatError(
            f"{path} was written by a newer hms-bus (schema version {version}, this release knows "
            f"up to {schema.version}): upgrade hms-bus to read it",
            path=str(path),
        )
    if any(step not in schema.migrations for step in range(version, schema.version)):
        raise LogFormatError(
            f"{path} has schema version {version}, this release reads {schema.version} and knows "
            "no way between them: open it once with a release in between",
            path=str(path),
        )
    return version


def _create(connection: sqlite3.Connection, schema: Schema) -> None:
    connection.executescript(
        f"BEGIN IMMEDIATE; {schema.create}; PRAGMA application_id = {APPLICATION_ID}; "
        f"PRAGMA user_version = {schema.version}; COMMIT"
    )


def _migrate(connection: sqlite3.Connection, version: int, schema: Schema) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(version, schema.version):
            schema.migrations[step](connection)
        connection.execute(f"PRAGMA user_version = {schema.version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _back_up(connection: sqlite3.Connection, target: Path) -> None:
    """Copy the database, complete or not at all: under another name until it is on the disk."""
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as copy:
        connection.backup(copy)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(target)
