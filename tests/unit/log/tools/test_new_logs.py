"""Making a new log: named once it is whole, in the place of nothing, as private as its source."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from hms_bus.abc import Selector
from hms_bus.errors import LogError, UsageError
from hms_bus.log.tools import Rule, compact_log, filter_log, merge_logs, rows, split_log, stored
from hms_bus.log.tools.backups import back_up
from hms_bus.log.tools.rows import RowWriter, new_log
from hms_bus.log.tools.steps import Report
from hms_bus.log.tools.stored import open_source
from tests.support.tool_logs import fill, numbered, numbers, raising, records

Make = Callable[[Path, Path, Report], object]
MAKE: dict[str, Make] = {
    "backup": lambda log, new, report: back_up(log, new, copying=report),
    "filter": lambda log, new, report: filter_log(log, new, Selector(), report),
    "merge": lambda log, new, report: merge_logs([log], new, report),
    "split": lambda log, new, report: split_log(log, new, "day", report=report),
    "compact": lambda log, new, report: compact_log(
        log, new, [Rule(max_records=9)], by="/test", report=report
    ),
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log that is long enough for a report."""
    return fill(tmp_path / "run.db", numbered(1001))


@pytest.fixture(params=["hard links", "no hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with hard links, and one without."""

    def refuse(new: Path, old: Path) -> NoReturn:
        raise PermissionError(1, "Operation not permitted", str(new))

    if request.param == "no hard links":
        monkeypatch.setattr(Path, "hardlink_to", refuse)


@pytest.mark.usefixtures("links")
def test_a_log_gets_its_name(tmp_path: Path) -> None:
    log = fill(tmp_path / "run.db", numbered(3))
    filter_log(log, tmp_path / "new.db", Selector())
    assert numbers(tmp_path / "new.db") == [1, 2, 3]
    assert not [*tmp_path.glob("*.partial")]


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("tool", MAKE)
def test_what_was_made_meanwhile_is_not_replaced(log: Path, tmp_path: Path, tool: str) -> None:
    new = tmp_path / "new"

    def interfere(done: int, total: int | None) -> None:
        if not new.exists():
            new.mkdir() if tool == "split" else new.touch()
            (new / "mine" if tool == "split" else new).write_text("mine")

    with pytest.raises(UsageError, match="exists"):
        MAKE[tool](log, new, interfere)
    assert (new / "mine" if tool == "split" else new).read_text() == "mine"
    assert not [*tmp_path.glob(".new*")]


def test_two_who_make_one_log_do_not_meet(tmp_path: Path) -> None:
    one = records(fill(tmp_path / "run.db", numbered(1)))[0]

    def make_both() -> None:
        with new_log(tmp_path / "new.db"), new_log(tmp_path / "new.db") as second:
            second.add(one)

    with pytest.raises(UsageError, match="exists"):
        make_both()
    assert records(tmp_path / "new.db") == [one]


@pytest.mark.parametrize("tool", MAKE)
def test_a_full_disk_is_told_of_the_log_that_is_made(log: Path, tmp_path: Path, tool: str) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    with pytest.raises(LogError, match=r"new could not be made .*disk is full.* space"):
        MAKE[tool](log, tmp_path / "new", raising(full))


@pytest.mark.parametrize("tool", MAKE)
def test_a_copy_is_as_private_as_what_it_is_of(log: Path, tmp_path: Path, tool: str) -> None:
    log.chmod(0o600)
    MAKE[tool](log, tmp_path / "new", lambda done, total: None)
    [made] = (tmp_path / "new").iterdir() if tool == "split" else [tmp_path / "new"]
    assert made.stat().st_mode & 0o777 == 0o600


def test_a_merge_is_as_private_as_the_most_private_log(tmp_path: Path) -> None:
    paths = [fill(tmp_path / f"{n}.db", numbered(1, first=n)) for n in range(3)]
    paths[1].chmod(0o400)
    merge_logs(paths, tmp_path / "new.db")
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600


def test_a_log_of_nothing_is_as_open_as_any(tmp_path: Path) -> None:
    with new_log(tmp_path / "new.db"):
        pass
    fill(tmp_path / "run.db", numbered(1))
    assert (tmp_path / "new.db").stat().st_mode == (tmp_path / "run.db").stat().st_mode


def test_large_records_are_read_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fill(tmp_path / "run.db", numbered(10, padding=1000))
    monkeypatch.setattr(stored, "_BYTES_AT_ONCE", 3000)
    pages: list[str] = []
    with open_source(log) as source:
        source.connection.set_trace_callback(pages.append)
        found = [one.position for one in source.walk()]
    assert found == [*range(1, 11)]
    assert len(pages) == 4


def test_large_records_are_written_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = records(fill(tmp_path / "run.db", numbered(10, padding=1000)))
    monkeypatch.setattr(rows, "_BYTES_AT_ONCE", 3000)
    with new_log(tmp_path / "new.db") as writer:
        for one in found:
            writer.add(one)
        assert _written(writer) == 9


def _written(writer: RowWriter) -> int:
    [count] = writer._connection.execute("SELECT count(*) FROM records").fetchone()
    return count
