"""The tables of a file, and files of other versions."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from hms_bus.abc import Selector
from hms_bus.errors import LogError, LogFormatError
from hms_bus.log.schema import CURRENT, Schema
from hms_bus.log.settings import Settings
from hms_bus.log.sqlite import open_file
from tests.support.events import events


def add_notes(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE notes (position INTEGER, text TEXT)")
    connection.execute("INSERT INTO notes SELECT position, 'old' FROM records")


def fail(connection: sqlite3.Connection) -> None:
    add_notes(connection)
    connection.execute("INSERT INTO nowhere VALUES (1)")


NEXT = replace(CURRENT, version=2, migrations={1: add_notes})
FAILING = replace(CURRENT, version=2, migrations={1: fail})
AFTER_NEXT = replace(CURRENT, version=3, migrations={2: fail})


async def make_log(path: Path, schema: Schema = CURRENT) -> Settings:
    settings = Settings(path=path)
    async with open_file(settings, schema) as log:
        await log.append(events(3))
    return settings


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


async def test_an_older_file_is_copied_and_migrated(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    settings = await make_log(path)
    async with open_file(settings, NEXT) as log:
        assert (await log.verify()).records == 3
        await log.append(events(1))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM notes").fetchall() == [
            (1, "old"),
            (2, "old"),
            (3, "old"),
        ]
    assert version(path) == 2
    copy = tmp_path / "events.db.v1.bak"
    assert version(copy) == 1
    async with open_file(Settings(path=copy)) as log:
        assert (await log.verify()).records == 3
        assert [record.position async for record in log.read(Selector())] == [1, 2, 3]


async def test_a_migrated_file_is_not_copied_again(tmp_path: Path) -> None:
    settings = await make_log(tmp_path / "events.db")
    async with open_file(settings, NEXT):
        pass
    (tmp_path / "events.db.v1.bak").unlink()
    async with open_file(settings, NEXT):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["events.db"]


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    settings = await make_log(path)
    with pytest.raises(LogError, match="nowhere"):
        async with open_file(settings, FAILING):
            pass
    async with open_file(settings) as log:
        assert (await log.verify()).records == 3
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert ("notes",) not in tables


async def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    settings = await make_log(path, NEXT)
    before = path.read_bytes()
    for refusing in (settings, replace(settings, is_read_only=True)):
        with pytest.raises(LogFormatError, match=r"newer hms-bus.*upgrade"):
            async with open_file(refusing):
                pass
    assert path.read_bytes() == before


async def test_an_older_file_without_a_way_is_refused(tmp_path: Path) -> None:
    settings = await make_log(tmp_path / "events.db")
    with pytest.raises(LogFormatError, match="a release in between"):
        async with open_file(settings, AFTER_NEXT):
            pass


async def test_an_older_file_is_not_migrated_by_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    settings = await make_log(path)
    with pytest.raises(LogFormatError, match="open it once for writing"):
        async with open_file(replace(settings, is_read_only=True), NEXT):
            pass
    assert version(path) == 1


async def test_people_can_read_it_with_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    await make_log(path)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT position, topic, json_extract(data, '$.n') FROM events WHERE source = 'test'"
        ).fetchall()
    assert rows == [(1, "orders.created", 1), (2, "orders.created", 2), (3, "orders.created", 3)]
