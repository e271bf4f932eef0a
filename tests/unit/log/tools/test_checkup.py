"""`examine`: what is wrong is found, with a next step; what is only unusual is noted."""

import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hms_bus.abc import Selector
from hms_bus.log.lock import acquire
from hms_bus.log.tools import Checkup, examine, redact_log
from tests.support.killed_logs import (
    FRAME_HEADER,
    flip,
    frames_in,
    in_frame,
    killed_log,
    wal_of,
)
from tests.support.tool_logs import (
    PAGE,
    fill,
    kill_writer,
    leaves_of,
    numbered,
    overwrite,
    raising,
    verify,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return fill(tmp_path / "run.db", numbered(100))


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def found(path: Path, level: str) -> set[str]:
    checkup = examine(path)
    assert all(finding.next for finding in checkup.findings)
    assert checkup.is_healthy == (not names(checkup, "problem"))
    return names(checkup, level)


def names(checkup: Checkup, level: str) -> set[str]:
    return {finding.check for finding in checkup.findings if finding.level == level}


def test_a_sound_log_is_healthy(log: Path) -> None:
    checkup = examine(log)
    assert checkup.is_healthy
    assert checkup.findings == ()
    assert checkup.records == 100
    assert checkup.head == verify(log).head.hash.hex()
    assert checkup.file_bytes == log.stat().st_size


def test_a_garbage_page_is_found(log: Path) -> None:
    overwrite(log, (leaves_of(log)[3] - 1) * PAGE, random.Random(1).randbytes(PAGE))
    assert "pages" in found(log, "problem")


def test_the_chain_is_read_as_far_as_it_goes_in_a_damaged_file(log: Path) -> None:
    overwrite(log, (leaves_of(log)[3] - 1) * PAGE, random.Random(1).randbytes(PAGE))
    checkup = examine(log)
    assert {"pages", "chain"} <= names(checkup, "problem")
    assert 0 < checkup.records == verify(log).head.position < 100
    messages = [finding.message for finding in checkup.findings]
    assert len(messages) == len(set(messages))


def test_an_altered_record_is_found(log: Path) -> None:
    execute(log, "UPDATE records SET document = replace(document, '\"n\":7', '\"n\":8')")
    [finding] = examine(log).findings
    assert finding.check == "chain"
    assert finding.message.startswith("at position 7: ")
    assert "hms-bus log recover" in finding.next


def test_every_gap_is_found(log: Path) -> None:
    execute(log, "DELETE FROM records WHERE position IN (5, 6, 50)")
    messages = [finding.message for finding in examine(log).findings if finding.check == "gap"]
    assert messages == ["positions 5 to 6 are missing", "positions 50 to 50 are missing"]


def test_a_file_that_was_cut_off_is_found(log: Path) -> None:
    with log.open("r+b") as file:
        file.truncate(5 * PAGE)
    assert "truncated" in found(log, "problem")
    with log.open("r+b") as file:
        file.truncate(4 * PAGE + 7)
    assert "truncated" in found(log, "problem")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"no log" * 50, "SQLite"), (b"SQLite format 3\0", "SQLite")],
)
def test_what_is_no_log_is_found(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "run.db").write_bytes(content)
    checkup = examine(tmp_path / "run.db")
    [finding] = checkup.findings
    assert (finding.level, finding.check) == ("problem", "format")
    assert words in finding.message
    assert "recover" not in finding.next
    assert not checkup.is_read


@pytest.mark.parametrize("header", [bytes(PAGE), b"SQLite format 3\0" + bytes(PAGE - 16)])
def test_a_log_that_has_lost_its_header_is_told_from_what_is_no_log(
    log: Path, header: bytes
) -> None:
    overwrite(log, 0, header)
    [finding] = examine(log).findings
    assert finding.check == "format"
    assert "there are records of a log in it" in finding.message
    assert "hms-bus log recover" in finding.next


def test_a_database_of_another_program_is_found(tmp_path: Path) -> None:
    execute(tmp_path / "run.db", "CREATE TABLE t (x)")
    [finding] = examine(tmp_path / "run.db").findings
    assert "another program" in finding.message
    assert "recover" not in finding.next


def test_another_version_is_found(log: Path) -> None:
    execute(log, "PRAGMA user_version = 99")
    assert found(log, "problem") == {"version"}


def test_a_writer_at_work_is_noted(log: Path) -> None:
    lock = acquire(log)
    try:
        assert found(log, "note") == {"lock"}
    finally:
        lock.release()


def test_what_a_killed_writer_leaves_is_noted(tmp_path: Path) -> None:
    fill(tmp_path / "source.db", numbered(50))
    log = kill_writer(tmp_path / "source.db", numbered(30, first=51), tmp_path / "run.db")
    (tmp_path / "run.db.lock").write_bytes(b"{}")
    (tmp_path / ".run.db.4711.partial").touch()
    (tmp_path / "run.db.v0.bak").touch()
    checkup = examine(log)
    assert checkup.is_healthy
    assert checkup.records == 80
    assert checkup.wal_bytes > 0
    assert names(checkup, "note") == {"lock", "wal", "leftover"}


def test_what_the_next_opening_would_drop_of_a_damaged_wal_is_found(tmp_path: Path) -> None:
    log = killed_log(tmp_path / "run.db", numbered(60))
    assert found(log, "problem") == set()
    count = frames_in(log)
    flip(wal_of(log), in_frame(count - 10, FRAME_HEADER))
    [finding] = [one for one in examine(log).findings if one.level == "problem"]
    assert finding.check == "wal"
    assert "run.db-wal is damaged" in finding.message
    [dropped] = re.findall(r"the next opening drops (\d+) frames", finding.message)
    assert 10 <= int(dropped) < 20
    assert "hms-bus log recover" in finding.next


def test_a_wal_is_large_by_readers_only_while_there_is_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hms_bus.log.tools.checkup._LARGE_WAL", 1000)
    log = killed_log(tmp_path / "run.db", numbered(20))
    assert [one.check for one in examine(log).findings] == ["wal"]
    assert "read for long" not in examine(log).findings[0].message
    lock = acquire(log)
    try:
        [large] = [one for one in examine(log).findings if one.check == "wal"]
        assert "read for long" in large.message
    finally:
        lock.release()


def test_a_link_leads_to_what_lies_beside_the_log(tmp_path: Path) -> None:
    log = killed_log(tmp_path / "run.db", numbered(20))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(log)
    lock = acquire(log)
    try:
        checkup = examine(link)
    finally:
        lock.release()
    assert checkup.wal_bytes == wal_of(log).stat().st_size
    assert names(checkup, "note") == {"lock"}


def test_another_journal_mode_and_the_future_are_noted(log: Path) -> None:
    execute(log, "PRAGMA journal_mode = DELETE")
    assert found(log, "note") == {"journal"}


def test_what_was_redacted_is_noted(log: Path) -> None:
    redact_log(log, Selector(), positions=[3], by="/ada")
    assert found(log, "note") == {"redacted"}


def test_an_index_that_lacks_a_record_is_found(log: Path) -> None:
    [entry] = leaves_of(log, "records_by_id")[:1] or [0]
    overwrite(log, entry * PAGE - 200, bytes(200))
    assert "pages" in found(log, "problem")


def test_an_index_that_is_gone_is_found(log: Path) -> None:
    execute(log, "DROP INDEX records_by_id")
    [finding] = examine(log).findings
    assert (finding.check, "records_by_id" in finding.message) == ("schema", True)


def test_it_changes_nothing_and_can_be_stopped(log: Path) -> None:
    before = log.read_bytes()
    with pytest.raises(KeyError):
        examine(log, raising(KeyError()))
    examine(log)
    assert log.read_bytes() == before


def test_the_check_of_the_pages_can_be_stopped_too(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hms_bus.log.tools.checkup._STEPS_PER_REPORT", 1)
    asked: list[int | None] = []

    def report(done: int, total: int | None) -> None:
        asked.append(total)
        raise KeyError

    with pytest.raises(KeyError):
        examine(log, report)
    assert asked == [None]
