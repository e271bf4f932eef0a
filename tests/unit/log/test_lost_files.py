"""The file of an open log is deleted or replaced: nothing is acknowledged that it does not keep."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hms_bus.abc import Selector
from hms_bus.errors import LogError, LogReadOnlyError
from hms_bus.log.failures import read_failed
from hms_bus.log.file import FileNames
from hms_bus.log.lock import acquire, lock_path
from hms_bus.log.reader import connect_read_only
from hms_bus.plugins import open_log
from tests.support.events import events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def delete(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


@pytest.mark.parametrize("suffix", ["", "-wal", ".lock"])
@pytest.mark.parametrize(
    ("lose", "told"), [(delete, "deleted or moved"), (move_away, "deleted"), (replace, "replaced")]
)
async def test_nothing_is_acknowledged_that_is_not_kept(
    path: Path, lose: Callable[[Path], None], told: str, suffix: str
) -> None:
    lost = path.with_name(path.name + suffix)
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(3))
        lose(lost)
        with pytest.raises(LogReadOnlyError) as first:
            await log.append(events(1))
        assert f"turned read-only because {lost} was {told}" in first.value.message
        assert "open the log again, and append these events again" in first.value.message
        with pytest.raises(LogReadOnlyError, match="nothing was appended") as second:
            await log.append(events(1))
        assert str(lost) in second.value.message
        assert (await log.head()).position == 3


async def test_files_that_are_put_back_are_the_log_again(path: Path) -> None:
    away = path.with_name("elsewhere")
    async with open_log(f"sqlite:{path}") as log:
        await log.append(events(3))
        path.rename(away)
        with pytest.raises(LogReadOnlyError):
            await log.append(events(1))
    away.rename(path)
    async with open_log(f"sqlite:{path}") as log:
        assert (await log.verify()).is_sound
        found = [record.position async for record in log.read(Selector())]
        assert found[:3] == [1, 2, 3]


async def test_a_second_writer_ends_the_first_and_keeps_its_files(path: Path) -> None:
    async with open_log(f"sqlite:{path}") as first:
        await first.append(events(3))
        for suffix in ("", "-wal", "-shm", ".lock"):
            path.with_name(path.name + suffix).unlink()
        async with open_log(f"sqlite:{path}") as second:
            await second.append(events(1))
            with pytest.raises(LogReadOnlyError, match="replaced by another file"):
                await first.append(events(1))
            await second.append(events(1))
            assert (await second.verify()).records == 2


async def test_the_first_leaves_the_files_of_the_second(path: Path) -> None:
    first = open_log(f"sqlite:{path}")
    log = await first.__aenter__()
    await log.append(events(3))
    for suffix in ("", "-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink()
    async with open_log(f"sqlite:{path}") as second:
        await second.append(events(1))
        await first.__aexit__(None, None, None)
        assert lock_path(path).exists()
        await second.append(events(1))
    async with open_log(f"sqlite:{path}") as again:
        assert (await again.verify()).records == 2


def test_a_lock_file_of_another_is_not_removed(path: Path) -> None:
    lost = acquire(path)
    lock_path(path).unlink()
    held = acquire(path)
    lost.release()
    assert lock_path(path).exists()
    held.release()
    assert not lock_path(path).exists()


def test_names_that_name_the_same_files_have_not_changed(path: Path) -> None:
    for name in (path, path.with_name("events.db-wal"), path.with_name("events.db.lock")):
        name.touch()
    names = FileNames(path)
    path.write_text("more")
    assert names.find_changed() is None
    path.unlink()
    assert names.find_changed() == str(path)


def test_a_file_that_is_gone_is_an_error_of_reading_with_a_next_step(path: Path) -> None:
    error = _read_error(path)
    assert "Was it deleted or moved?" in error.message
    assert "open the log again" in error.message


def _read_error(path: Path) -> LogError:
    with pytest.raises(sqlite3.Error) as caught:
        connect_read_only(path, busy_s=0)
    return read_failed(caught.value, str(path))
