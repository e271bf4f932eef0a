"""Files that are no logs: each error says what to do next, and the file stays as it is."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hms_bus.abc import Selector
from hms_bus.errors import ConfigError, LogCorruptError, LogError, LogFormatError
from hms_bus.log.failures import open_failed
from hms_bus.plugins import open_log
from tests.support.command_line import CommandLine
from tests.support.events import event, events


async def refuse(url: str) -> LogError:
    with pytest.raises(LogError) as error:
        async with open_log(url):
            pass
    return error.value


@pytest.mark.parametrize("options", ["", "?readonly=true"])
async def test_a_file_that_is_no_database(tmp_path: Path, options: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 100)
    error = await refuse(f"sqlite:{path}{options}")
    assert isinstance(error, LogFormatError)
    assert "no log of hms-bus" in error.message
    assert ("name of a new file" in error.message) == (not options)
    assert path.read_text() == "Dear diary, " * 100
    assert [left.name for left in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("options", ["", "?readonly=true"])
async def test_a_database_of_another_program(tmp_path: Path, options: str) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE records (position INTEGER)")
    before = path.read_bytes()
    error = await refuse(f"sqlite:{path}{options}")
    assert isinstance(error, LogFormatError)
    assert "another program" in error.message
    assert path.read_bytes() == before


@pytest.mark.parametrize("options", ["", "?readonly=true"])
async def test_a_directory(tmp_path: Path, options: str) -> None:
    error = await refuse(f"sqlite:{tmp_path}{options}")
    assert isinstance(error, LogFormatError)
    assert "is a directory: name a file in it" in error.message


async def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    error = await refuse(f"sqlite:{tmp_path / 'new' / 'events.db'}")
    assert f"mkdir -p {tmp_path / 'new'}" in error.message
    assert list(tmp_path.iterdir()) == []


async def test_nothing_to_read(tmp_path: Path) -> None:
    error = await refuse(f"sqlite:{tmp_path / 'events.db'}?readonly=true")
    assert "there is no log" in error.message
    assert list(tmp_path.iterdir()) == []


async def test_an_empty_file_becomes_a_log_but_is_none_to_read(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.touch()
    assert "is empty" in (await refuse(f"sqlite:{path}?readonly=true")).message
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(1))
        assert (await log.verify()).is_sound


@pytest.mark.parametrize("kept_bytes", [6000, 20_000])
@pytest.mark.parametrize("options", ["", "?readonly=true"])
async def test_a_log_cut_in_the_middle_is_damaged(
    tmp_path: Path, options: str, kept_bytes: int
) -> None:
    path = tmp_path / "events.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(100))
    path.write_bytes(path.read_bytes()[:kept_bytes])
    error = await refuse(f"sqlite:{path}{options}")
    assert isinstance(error, LogCorruptError)
    assert f"log {path} is damaged" in error.message
    assert "restore it from a copy, or save what can be read: hms-bus log recover" in error.message
    assert path.stat().st_size == kept_bytes


async def test_what_a_cut_log_has_left_is_saved_as_the_error_says(
    tmp_path: Path,
) -> None:
    path, saved = tmp_path / "events.db", tmp_path / "saved.db"
    async with open_log(f"sqlite:{path}") as log:
        await log.append([event(data="x" * 3000) for _ in range(100)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error = await refuse(f"sqlite:{path}?readonly=true")
    assert f"hms-bus log recover {path} -o NEW" in error.message
    await asyncio.to_thread(
        CommandLine(folder=tmp_path).run, "log", "recover", str(path), "-o", str(saved), fails=3
    )
    async with open_log(f"sqlite:{saved}?readonly=true") as log:
        left = [record async for record in log.read(Selector(pattern="orders.>"))]
    assert 20 < len(left) < 100


async def test_a_damaged_database_of_another_program_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
        connection.execute("INSERT INTO notes VALUES (?)", ("x" * 20_000,))
        connection.commit()
    path.write_bytes(path.read_bytes()[:6000])
    error = await refuse(f"sqlite:{path}")
    assert isinstance(error, LogFormatError)
    assert "no log of hms-bus" in error.message


def test_no_permission_is_told_from_other_failures() -> None:
    """As root nothing is forbidden, so that this is shown on the translation alone."""
    path = Path("/srv/events.db")
    for forbidden in (
        PermissionError(13, "Permission denied"),
        OSError(30, "Read-only file system"),
    ):
        assert "no permission to write /srv/events.db" in open_failed(forbidden, path).message
        assert "?readonly=true" in open_failed(forbidden, path).message
    assert "cannot be opened: [Errno 5] broken" in open_failed(OSError(5, "broken"), path).message


async def test_memory_takes_no_options() -> None:
    with pytest.raises(ConfigError, match="unknown option"):
        async with open_log("memory:?sync=full"):
            pass
