"""`back_up`: a whole, sound copy, or none."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hms_bus.errors import LogCorruptError, UsageError
from hms_bus.log.tools import back_up
from tests.support.tool_logs import fill, numbered, raising, records, verify


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return fill(tmp_path / "run.db", numbered(30))


def copies(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("run.db"))


def test_the_copy_is_the_log(log: Path) -> None:
    found = back_up(log, log.with_name("copy.db"))
    assert found == verify(log)
    assert records(log.with_name("copy.db")) == records(log)


def test_tables_of_others_are_copied_too(log: Path) -> None:
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("CREATE TABLE durables (name TEXT PRIMARY KEY)")
        connection.execute("INSERT INTO durables VALUES ('billing')")
    back_up(log, log.with_name("copy.db"))
    with closing(sqlite3.connect(log.with_name("copy.db"))) as connection:
        assert connection.execute("SELECT name FROM durables").fetchall() == [("billing",)]


def test_nothing_else_is_left(log: Path) -> None:
    back_up(log, log.with_name("copy.db"))
    assert copies(log.parent) == ["copy.db"]


def test_a_damaged_log_is_not_copied(log: Path) -> None:
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("UPDATE records SET document = replace(document, '\"n\":7', '\"n\":8')")
    with pytest.raises(LogCorruptError) as caught:
        back_up(log, log.with_name("copy.db"))
    assert caught.value.position == 7
    assert copies(log.parent) == []


@pytest.mark.parametrize("phase", ["copying", "verifying"])
def test_work_that_is_interrupted_leaves_nothing(log: Path, phase: str) -> None:
    with pytest.raises(KeyError):
        back_up(log, log.with_name("copy.db"), **{phase: raising(KeyError())})
    assert copies(log.parent) == []


def test_no_file_is_replaced(log: Path) -> None:
    before = log.read_bytes()
    with pytest.raises(UsageError):
        back_up(log, log)
    assert log.read_bytes() == before
